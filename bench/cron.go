package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// punctuality measures how long after its slot a CronJob's Job is created, for
// one CronJob and for many that are due at once. An API's times are whole
// seconds, so it is when a watch shows the Job that counts.
func (b *bench) punctuality(ctx context.Context, r *report) error {
	e, err := b.serve(ctx, "host")
	if err != nil {
		return err
	}
	defer e.stop()
	for _, n := range []int{1, 50} {
		delays, err := e.delays(ctx, n)
		if err != nil {
			return fmt.Errorf("%d CronJobs: %w", n, err)
		}
		r.add(fmt.Sprintf("cron: slot to Job, %d due at once, median and last", n),
			ms(delays[len(delays)/2])+", "+ms(delays[len(delays)-1]), "", "goal 100 ms; never before 0")
	}
	return nil
}

// delays creates n CronJobs that are due every minute, and returns how late the
// Jobs of the next minute are seen, the earliest first.
func (e *engine) delays(ctx context.Context, n int) ([]time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	if left := time.Until(time.Now().Truncate(time.Minute).Add(time.Minute)); left < 5*time.Second {
		time.Sleep(left) // they are all to be there before their slot
	}
	cronJobs := e.client.BatchV1().CronJobs("default")
	labels := map[string]string{"cron": fmt.Sprint("bench-", n)} // Jobs of the last measurement may still be there
	w, err := e.client.BatchV1().Jobs("default").Watch(ctx, metav1.ListOptions{LabelSelector: metav1.FormatLabelSelector(metav1.SetAsLabelSelector(labels))})
	if err != nil {
		return nil, err
	}
	defer w.Stop()
	for range n {
		job := e.job(false)
		c := &batchv1.CronJob{
			ObjectMeta: metav1.ObjectMeta{Name: job.Name},
			Spec: batchv1.CronJobSpec{Schedule: "* * * * *", JobTemplate: batchv1.JobTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: job.Spec,
			}},
		}
		if _, err := cronJobs.Create(ctx, c, metav1.CreateOptions{}); err != nil {
			return nil, err
		}
	}
	delays := map[string]time.Duration{}
	for len(delays) < n {
		ev, ok := <-w.ResultChan()
		if !ok {
			return nil, fmt.Errorf("the watch ended after %d Jobs", len(delays))
		}
		now := time.Now()
		job, ok := ev.Object.(*batchv1.Job)
		if !ok {
			continue
		}
		slot, err := time.Parse(time.RFC3339, job.Annotations[batchv1.CronJobScheduledTimestampAnnotation])
		if err != nil {
			return nil, err
		}
		if _, seen := delays[job.Name]; !seen {
			delays[job.Name] = now.Sub(slot)
		}
	}
	// The next measurement is to be of an idle engine.
	if err := cronJobs.DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{}); err != nil {
		return nil, err
	}
	return slices.Sorted(maps.Values(delays)), nil
}
