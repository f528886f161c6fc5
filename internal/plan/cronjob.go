package plan

import (
	"fmt"
	"maps"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sampan-batch/sampan/internal/cron"
	"github.com/sampan-batch/sampan/internal/kind"
)

// once makes of a CronJob the Job that it would start, which runs now and once.
func (p *planner) once(it *item, c *batchv1.CronJob) {
	checked := c.DeepCopy()
	p.scheme.Default(checked)
	for _, err := range p.invalid(it.kind, checked) {
		it.refuse(err.Field, "%s", err.ErrorBody())
	}
	template := c.Spec.JobTemplate.DeepCopy()
	job := &batchv1.Job{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: c.Namespace, Name: c.Name, GenerateName: c.GenerateName,
			Labels: template.Labels, Annotations: maps.Clone(template.Annotations),
		},
		Spec: template.Spec,
	}
	if job.Annotations == nil {
		job.Annotations = make(map[string]string, 1)
	}
	job.Annotations[kind.JobInstantiate] = "manual"
	if len(it.errs) == 0 {
		p.note("%s: its Job runs once, now%s", it.origin, p.due(checked))
	}
	it.obj, it.kind, it.role = job, p.kinds.ByGVK(batchv1.SchemeGroupVersion.WithKind("Job")), Work
	it.path, it.pod, it.podPath = "spec.jobTemplate", &job.Spec.Template, "spec.jobTemplate.spec.template"
}

// due says when the schedule would start it next.
func (p *planner) due(c *batchv1.CronJob) string {
	table, err := cron.TimetableOf(c, p.Zones, p.Now.Location())
	if err != nil {
		return ""
	}
	next := table.Next(p.Now)
	if next.IsZero() {
		return fmt.Sprintf("; its schedule %q never comes", c.Spec.Schedule)
	}
	return fmt.Sprintf("; its schedule %q would be due next on %s", c.Spec.Schedule, next.In(p.Now.Location()).Format(time.RFC1123))
}
