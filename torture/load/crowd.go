package load

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/utils/ptr"

	"github.com/sampan-batch/sampan/torture/model"
	"github.com/sampan-batch/sampan/torture/report"
	"github.com/sampan-batch/sampan/torture/victim"
)

// Crowd is very many clients, Jobs or pods at once.
type Crowd struct {
	Victim *victim.Victim
	Report *report.Round
	Seed   uint64

	client kubernetes.Interface
	ledger *ledger
}

// Prepare makes what all of them need.
func (c *Crowd) Prepare(ctx context.Context) (err error) {
	if c.ledger, err = openLedger(c.Victim); err != nil {
		return err
	}
	if c.client, err = c.Victim.Client(); err != nil {
		return err
	}
	return EnsureNamespace(ctx, c.Victim)
}

// creators is how many clients create Jobs at the same time.
const creators = 16

// Jobs creates n Jobs as fast as they are taken, and waits until all have ended.
func (c *Crowd) Jobs(ctx context.Context, n int) error {
	ended := make(chan error, 1)
	go func() { ended <- c.awaitJobs(ctx, "storm", n) }()
	group, creating := errgroup.WithContext(ctx)
	group.SetLimit(creators)
	for i := range n {
		group.Go(func() error {
			job := c.job(fmt.Sprintf("storm-%05d", i), "storm", 1, "0")
			_, err := c.client.BatchV1().Jobs(Namespace).Create(creating, job, metav1.CreateOptions{})
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	c.Report.Count(report.Writes, n)
	if err := <-ended; err != nil {
		return err
	}
	return c.checkJobs(ctx, "storm", n)
}

// Wide runs one Job of n pods at once.
func (c *Crowd) Wide(ctx context.Context, n int) error {
	job := c.job("wide", "wide", n, "0.5")
	if _, err := c.client.BatchV1().Jobs(Namespace).Create(ctx, job, metav1.CreateOptions{}); err != nil {
		return err
	}
	c.Report.Count(report.Writes, 1)
	if err := c.awaitJobs(ctx, "wide", 1); err != nil {
		return err
	}
	return c.checkJobs(ctx, "wide", 1)
}

func (c *Crowd) job(name, crowd string, n int, sleep string) *batchv1.Job {
	meta := metav1.ObjectMeta{Name: name, Labels: map[string]string{"crowd": crowd}}
	template := c.ledger.template(work{sleep: sleep, lines: 1})
	template.Labels = map[string]string{"crowd": crowd}
	mode := batchv1.IndexedCompletion
	if n == 1 {
		mode = batchv1.NonIndexedCompletion
	}
	return &batchv1.Job{ObjectMeta: meta, Spec: batchv1.JobSpec{
		Completions: ptr.To(int32(n)), Parallelism: ptr.To(int32(n)), CompletionMode: ptr.To(mode), Template: template,
	}}
}

// crowdWithin is how long a crowd may take.
const crowdWithin = 10 * time.Minute

// awaitJobs waits until n Jobs have ended. It asks rarely, for what it asks for is
// large.
func (c *Crowd) awaitJobs(ctx context.Context, crowd string, n int) error {
	ctx, cancel := context.WithTimeout(ctx, crowdWithin)
	defer cancel()
	done := 0
	for ctx.Err() == nil {
		list, err := c.client.BatchV1().Jobs(Namespace).List(ctx, metav1.ListOptions{LabelSelector: "crowd=" + crowd})
		if err != nil {
			return err
		}
		done = 0
		for i := range list.Items {
			if conditionOf(&list.Items[i]) != "" {
				done++
			}
		}
		if done >= n {
			return nil
		}
		pause(ctx, time.Second+time.Duration(n/5)*time.Millisecond)
	}
	return fmt.Errorf("%d of %d Jobs ended: %w", done, n, context.Cause(ctx))
}

// checkJobs holds each Job of a crowd against its pods and what they have written.
func (c *Crowd) checkJobs(ctx context.Context, crowd string, n int) error {
	opts := metav1.ListOptions{LabelSelector: "crowd=" + crowd}
	all, err := c.client.BatchV1().Jobs(Namespace).List(ctx, opts)
	if err != nil {
		return err
	}
	pods, err := c.client.CoreV1().Pods(Namespace).List(ctx, opts)
	if err != nil {
		return err
	}
	of := map[string][]corev1.Pod{}
	for _, p := range pods.Items {
		job := p.Labels[batchv1.JobNameLabel]
		of[job] = append(of[job], p)
	}
	if len(all.Items) != n {
		c.Report.Find("%d Jobs of %d that were acknowledged", len(all.Items), n)
	}
	for i := range all.Items {
		job := &all.Items[i]
		for _, err := range runOf(job, of[job.Name], c.ledger).Check() {
			c.Report.Find("%v", err)
		}
		if conditionOf(job) == batchv1.JobFailed {
			c.Report.Find("Job %s failed, and nothing was done to it", job.Name)
		}
		c.Report.Count(report.Jobs, 1)
		c.Report.Count("pods", len(of[job.Name]))
	}
	return nil
}

// shared is how many watchers share a client, and so connections.
const shared = 50

// watched is how many writes all watchers have to see.
const watched = 200

// Watchers lets n watchers see everything that a writer writes.
func (c *Crowd) Watchers(ctx context.Context, n int) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	l := &Load{Victim: c.Victim, Report: c.Report, Seed: c.Seed}
	var lookers sync.WaitGroup
	var watchers []*watcher
	var api api
	for i := range n {
		if i%shared == 0 {
			dynamic, err := c.Victim.Dynamic()
			if err != nil {
				return err
			}
			api = apiOf(dynamic, configMaps)
		}
		w := &watcher{load: l, api: api}
		w.mirror.Name = fmt.Sprint("watcher ", i)
		watchers = append(watchers, w)
		lookers.Go(func() { w.run(ctx) })
	}
	dynamic, err := c.Victim.Dynamic()
	if err != nil {
		return err
	}
	writer := newWriter(l, dynamic, 1000)
	for range watched {
		writer.write(ctx, writer.objects[0])
		pause(ctx, 5*time.Millisecond)
	}
	var written []model.Write
	for _, o := range writer.objects {
		written = append(written, o.Written()...)
	}
	for _, w := range watchers {
		w.verify(ctx, written)
	}
	cancel()
	lookers.Wait()
	return nil
}

// promptly is how long a small request may take while others are slow.
const promptly = 5 * time.Second

// SlowReaders lets n clients read a large list, one byte a second, for a while. Others
// must not notice.
func (c *Crowd) SlowReaders(ctx context.Context, n int) error {
	config, err := c.Victim.RESTConfig()
	if err != nil {
		return err
	}
	config.NextProtos = []string{"http/1.1"} // a connection each
	transport, err := rest.HTTPClientFor(config)
	if err != nil {
		return err
	}
	slow, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	var readers sync.WaitGroup
	for range n {
		readers.Go(func() { readSlowly(slow, transport, config.Host+"/api/v1/namespaces/"+Namespace+"/pods?limit=2000") })
	}
	var longest time.Duration
	for slow.Err() == nil {
		began := time.Now()
		if _, err := c.client.CoreV1().Namespaces().Get(ctx, Namespace, metav1.GetOptions{}); err != nil {
			return err
		}
		longest = max(longest, time.Since(began))
		pause(slow, 50*time.Millisecond)
	}
	readers.Wait()
	if longest > promptly {
		c.Report.Find("beside %d slow readers a small request takes %s", n, longest)
	}
	c.Report.Figure("beside %d readers of one byte a second a small request takes at most %s", n, longest.Round(time.Millisecond))
	return nil
}

func readSlowly(ctx context.Context, client *http.Client, url string) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return
	}
	answer, err := client.Do(request)
	if err != nil {
		return
	}
	defer answer.Body.Close()
	for pause(ctx, time.Second) {
		if _, err := answer.Body.Read(make([]byte, 1)); err != nil {
			return
		}
	}
}

// Clear deletes everything, and waits until it is gone.
func (c *Crowd) Clear(ctx context.Context) error {
	background := metav1.DeleteOptions{PropagationPolicy: ptr.To(metav1.DeletePropagationBackground)}
	if err := c.client.BatchV1().Jobs(Namespace).DeleteCollection(ctx, background, metav1.ListOptions{}); err != nil {
		return err
	}
	if err := c.client.CoreV1().ConfigMaps(Namespace).DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{}); err != nil {
		return err
	}
	for end := time.Now().Add(crowdWithin); time.Now().Before(end); pause(ctx, time.Second) {
		// All of them: a list that goes on keeps its whole state in the engine's memory for five minutes.
		list, err := c.client.CoreV1().Pods(Namespace).List(ctx, metav1.ListOptions{})
		if err != nil {
			return err
		}
		if len(list.Items) == 0 {
			return nil
		}
	}
	return fmt.Errorf("pods of deleted Jobs are still there after %s", crowdWithin)
}

// lapped is what a follower is told when the log was faster than it.
func lapped(line string) bool {
	return strings.Contains(line, "removed before they could be read") || strings.Contains(line, "begins anew")
}
