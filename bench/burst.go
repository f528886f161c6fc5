package main

import (
	"context"
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

// settled is how long after a burst the engine should have given its memory back.
const settled = time.Minute

// burst measures what is left in memory when many Jobs have come and gone, and
// whether the engine is as fast after them as it was before.
func (b *bench) burst(ctx context.Context, r *report) error {
	e, err := b.serve(ctx, "host")
	if err != nil {
		return err
	}
	defer e.stop()
	e.ttl = ptr.To[int32](0)
	if _, err := e.throughput(ctx, 100, b.clients); err != nil { // warms up
		return err
	}
	before, err := e.throughput(ctx, b.jobs, b.clients)
	if err != nil {
		return err
	}
	if _, err := e.throughput(ctx, b.jobsGone, b.clients); err != nil {
		return err
	}
	peak, err := e.resident()
	if err != nil {
		return err
	}
	after, err := e.throughput(ctx, b.jobs, b.clients)
	if err != nil {
		return err
	}
	if err := e.empty(ctx); err != nil {
		return err
	}
	select {
	case <-time.After(settled):
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	rest, err := e.resident()
	if err != nil {
		return err
	}
	r.add(fmt.Sprintf("memory, right after %d Jobs came and went", b.jobsGone), mb(peak), "", "")
	r.add("memory, a minute after them", mb(rest), "", "goal 150 MB")
	r.add("host: one-pod Jobs per second after them", fmt.Sprintf("%.0f", after.perSecond), fmt.Sprintf("%.0f", before.perSecond),
		fmt.Sprintf("%.0f %% of the rate before them; goal 85 %%", 100*after.perSecond/before.perSecond))
	return nil
}

// empty waits until no Job and no pod is left. It asks for all: the state of a list
// that goes on is kept in memory for five minutes.
func (e *engine) empty(ctx context.Context) error {
	for {
		jobs, err := e.client.BatchV1().Jobs("default").List(ctx, metav1.ListOptions{})
		if err != nil {
			return err
		}
		pods, err := e.client.CoreV1().Pods("default").List(ctx, metav1.ListOptions{})
		if err != nil || len(jobs.Items)+len(pods.Items) == 0 {
			return err
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
