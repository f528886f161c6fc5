package agent

import (
	"context"
	"sync"

	corev1 "k8s.io/api/core/v1"

	"github.com/sampan-batch/sampan/internal/agent/eviction"
	"github.com/sampan-batch/sampan/internal/runner"
)

// usage returns what a pod takes of the disk: the writable layers of its containers
// and its volumes, which the runner measures, and the files that the node keeps for it.
func (r *containerRuntime) usage(ctx context.Context, ref runner.PodRef, pod *corev1.Pod) (*eviction.Usage, error) {
	u := &eviction.Usage{Containers: map[string]eviction.Use{}, Volumes: map[string]eviction.Disk{}}
	class := r.class(pod)
	run := r.Runners[class]
	if run == nil {
		return u, nil // nothing of it was ever started
	}
	measured, err := run.Usage(ctx, ref.UID)
	if err != nil {
		return nil, err
	}
	u.Other = eviction.Disk(measured.Shared)
	for id, d := range measured.Containers {
		use(u, containerOf(id), eviction.Disk(d))
		add(&u.Other, r.files.TerminationUsage(id))
	}
	for name, d := range measured.Volumes {
		u.Volumes[name] = eviction.Disk(d)
	}
	eachContainer(pod, func(c *corev1.Container) { use(u, c.Name, eviction.Disk(r.files.LogUsage(ref, c.Name))) })
	if class != runner.Host {
		add(&u.Other, r.files.EtcUsage(ref.UID))
	}
	return u, nil
}

func add(sum *eviction.Disk, d runner.DiskUsage) {
	sum.Bytes += d.Bytes
	sum.Inodes += d.Inodes
}

// use adds to what a container takes.
func use(u *eviction.Usage, container string, d eviction.Disk) {
	c := u.Containers[container]
	c.Bytes += d.Bytes
	c.Inodes += d.Inodes
	u.Containers[container] = c
}

// measurers is how many pods are measured at once. More would wait for the same disk.
const measurers = 2

// inPool calls do for every i below n, measurers at a time, and returns when all are done.
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
