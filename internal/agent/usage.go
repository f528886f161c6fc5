package agent

import (
	"context"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"

	"github.com/sampan-batch/sampan/internal/agent/eviction"
	"github.com/sampan-batch/sampan/internal/runner"
)

// usage returns what a pod takes of the disk: its containers' writable layers
// and its volumes, which the runner measures, their logs, and the small files
// that the node keeps for it.
func (a *Agent) usage(ctx context.Context, ref runner.PodRef, pod *corev1.Pod) (*eviction.Usage, error) {
	u := &eviction.Usage{Containers: map[string]eviction.Use{}, Volumes: map[string]eviction.Disk{}}
	class := a.class(pod)
	r := a.opts.Runners[class]
	if r == nil {
		return u, nil // it has nothing
	}
	measured, err := r.Usage(ctx, ref.UID)
	if err != nil {
		return nil, err
	}
	u.Other = eviction.Disk(measured.Shared)
	for id, d := range measured.Containers {
		use(u, containerOf(id), eviction.Disk(d))
		add(&u.Other, a.files.TerminationUsage(id))
	}
	for name, d := range measured.Volumes {
		u.Volumes[name] = eviction.Disk(d)
	}
	eachContainer(pod, func(c *corev1.Container) { use(u, c.Name, eviction.Disk(a.files.LogUsage(ref, c.Name))) })
	if class != runner.Host {
		add(&u.Other, a.files.EtcUsage(ref.UID))
	}
	return u, nil
}

func add(sum *eviction.Disk, d runner.DiskUsage) {
	sum.Bytes += d.Bytes
	sum.Inodes += d.Inodes
}

// use adds what attempts to run a container take.
func use(u *eviction.Usage, container string, d eviction.Disk) {
	c := u.Containers[container]
	c.Bytes += d.Bytes
	c.Inodes += d.Inodes
	u.Containers[container] = c
}

// containerOf returns the name of the container in what containerID has made.
func containerOf(id string) string {
	_, rest, _ := strings.Cut(id, "_")
	name, _, _ := strings.Cut(rest, "_")
	return name
}

// workers returns the pod workers of the pods that are alive and that want says so of.
func (a *Agent) workers(want func(*corev1.Pod) bool) []*podWorker {
	a.mu.Lock()
	defer a.mu.Unlock()
	var list []*podWorker
	for _, e := range a.pods {
		if e.worker != nil && want(e.pod) {
			list = append(list, e.worker)
		}
	}
	return list
}

// measurers is how many pods are measured at once: whoever waits for their files
// waits for the same disk.
const measurers = 2

// inPool calls do for every i below n, so many at once, and returns when all are done.
func inPool(n int, do func(i int)) {
	var group sync.WaitGroup
	turn := make(chan struct{}, measurers)
	for i := range n {
		turn <- struct{}{}
		group.Go(func() {
			do(i)
			<-turn
		})
	}
	group.Wait()
}
