package load

import (
	"context"
	"fmt"
	"sync"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/utils/ptr"

	"github.com/sampan-batch/sampan/torture/model"
	"github.com/sampan-batch/sampan/torture/report"
)

// cronJob is due every minute. Every slot of it has one Job, however often the
// engine is killed.
type cronJob struct {
	load *Load
	name string

	mu    sync.Mutex
	slots model.Slots
}

var getNow = metav1.GetOptions{}

// awayFromSlot is how far from a minute a CronJob is created and suspended, so that
// nobody can be of two minds whether a slot was one of its.
const awayFromSlot = 3 * time.Second

func awaitBetweenSlots(ctx context.Context) {
	for ctx.Err() == nil {
		past := time.Since(time.Now().Truncate(time.Minute))
		if past > awayFromSlot && past < time.Minute-awayFromSlot {
			return
		}
		pause(ctx, 100*time.Millisecond)
	}
}

func (c *cronJob) create(ctx context.Context, client kubernetes.Interface) error {
	awaitBetweenSlots(ctx)
	meta := metav1.ObjectMeta{Name: c.name}
	job := batchv1.JobSpec{BackoffLimit: ptr.To(int32(10000)), Template: c.load.ledger.template(work{sleep: "0.2", lines: 3})}
	cron := &batchv1.CronJob{ObjectMeta: meta, Spec: batchv1.CronJobSpec{
		Schedule: "* * * * *", SuccessfulJobsHistoryLimit: ptr.To(int32(10000)), FailedJobsHistoryLimit: ptr.To(int32(10000)),
		JobTemplate: batchv1.JobTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"cron": c.name}}, Spec: job},
	}}
	if _, err := client.BatchV1().CronJobs(Namespace).Create(ctx, cron, metav1.CreateOptions{}); err != nil {
		return fmt.Errorf("create CronJob %s: %w", c.name, err)
	}
	c.slots.CronJob, c.slots.From = c.name, time.Now()
	return nil
}

// finish suspends the CronJob, and holds its Jobs against the clock. They are to
// have run as any other Job.
func (c *cronJob) finish(ctx context.Context, client kubernetes.Interface) {
	awaitBetweenSlots(ctx)
	_, err := again(ctx, c.load, func(ctx context.Context) (*batchv1.CronJob, error) {
		return client.BatchV1().CronJobs(Namespace).Patch(ctx, c.name, types.MergePatchType, []byte(`{"spec":{"suspend":true}}`), metav1.PatchOptions{})
	})
	if err != nil {
		c.load.findUnless(ctx, fmt.Errorf("suspend CronJob %s: %w", c.name, err))
		return
	}
	suspended := time.Now()
	list, err := again(ctx, c.load, func(ctx context.Context) (*batchv1.JobList, error) {
		return client.BatchV1().Jobs(Namespace).List(ctx, metav1.ListOptions{LabelSelector: "cron=" + c.name})
	})
	if err != nil {
		c.load.findUnless(ctx, fmt.Errorf("the Jobs of CronJob %s: %w", c.name, err))
		return
	}
	for i := range list.Items {
		c.saw(&list.Items[i])
	}
	c.checkSlots(suspended)
	r := &runner{load: c.load, client: client, name: c.name}
	for i := range list.Items {
		job := r.await(ctx, list.Items[i].Name)
		if job == nil {
			continue
		}
		job.Annotations[linesKey] = "3"
		r.check(ctx, job)
	}
}

func (c *cronJob) checkSlots(suspended time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.slots.To = suspended
	n, errs := c.slots.Check()
	c.load.find(errs...)
	c.load.Report.Count(report.Slots, n)
}

// sawJob notes a Job that a watch shows.
func (l *Load) sawJob(job metav1.Object) {
	for _, c := range l.crons {
		if job.GetLabels()["cron"] == c.name {
			c.saw(job)
		}
	}
}

// saw notes a Job, whoever shows it.
func (c *cronJob) saw(job metav1.Object) {
	slot, err := time.Parse(time.RFC3339, job.GetAnnotations()[batchv1.CronJobScheduledTimestampAnnotation])
	if err != nil {
		c.load.find(fmt.Errorf("job %s of CronJob %s has no slot: %w", job.GetName(), c.name, err))
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.slots.Saw(slot, string(job.GetUID()))
}
