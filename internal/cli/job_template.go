package cli

import (
	"fmt"
	"maps"
	"regexp"
	"strconv"
	"strings"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	corejob "github.com/sampan-batch/sampan/internal/job"
	"github.com/sampan-batch/sampan/internal/kind"
)

// fromCronJob returns what `kubectl create job NAME --from=cronjob/…` creates;
// without a name one that derives from the CronJob's.
func fromCronJob(c *batchv1.CronJob, name string) *batchv1.Job {
	template := c.Spec.JobTemplate.DeepCopy()
	job := &batchv1.Job{
		ObjectMeta: metav1.ObjectMeta{
			Name: name, Labels: template.Labels, Annotations: template.Annotations,
			OwnerReferences: []metav1.OwnerReference{manualOwner(c.Name, c)},
		},
		Spec: template.Spec,
	}
	if name == "" {
		job.GenerateName = c.Name + "-manual-"
	}
	if job.Annotations == nil {
		job.Annotations = make(map[string]string, 1)
	}
	if _, set := job.Annotations[kind.JobInstantiate]; !set {
		job.Annotations[kind.JobInstantiate] = "manual"
	}
	return job
}

// manualOwner does not block the owner's deletion: that would take permission
// to update the CronJob's finalizers.
func manualOwner(name string, c metav1.Object) metav1.OwnerReference {
	return metav1.OwnerReference{
		APIVersion: "batch/v1", Kind: "CronJob", Name: name, UID: c.GetUID(), Controller: ptr.To(true),
	}
}

// again returns a new Job with the spec of a finished one: without what the API
// and the controllers have added, which belongs to the one that it came from.
func again(old *batchv1.Job) (*batchv1.Job, error) {
	if kind.JobEnd(old) == nil {
		return nil, fmt.Errorf("job/%s has not finished yet", old.Name)
	}
	job := &batchv1.Job{ObjectMeta: metav1.ObjectMeta{
		Namespace:   old.Namespace,
		Labels:      ownLabels(old.Labels),
		Annotations: maps.Clone(old.Annotations),
	}}
	if job.Annotations == nil {
		job.Annotations = make(map[string]string, 1)
	}
	for key := range job.Annotations {
		switch key {
		case corev1.LastAppliedConfigAnnotation, "batch.kubernetes.io/job-tracking", kind.JobCarriedIndexes, kind.JobInstantiate, corejob.BackoffAnnotation:
			delete(job.Annotations, key)
		}
	}
	job.Annotations[kind.JobRerunOf] = old.Name
	old.Spec.DeepCopyInto(&job.Spec)
	job.Spec.Selector, job.Spec.ManualSelector, job.Spec.Suspend = nil, nil, nil
	job.Spec.Template.Labels = ownLabels(job.Spec.Template.Labels)
	return job, nil
}

// ownLabels drops the labels that tell the pods of one Job from another's.
func ownLabels(labels map[string]string) map[string]string {
	own := maps.Clone(labels)
	for _, key := range []string{batchv1.ControllerUidLabel, batchv1.JobNameLabel, "controller-uid", "job-name"} {
		delete(own, key)
	}
	return own
}

var rerunName = regexp.MustCompile(`^(.+)-rerun-([1-9][0-9]{0,8})$`)

// nextName is the name of a rerun of a Job of this name: NAME-rerun-1, after
// which come NAME-rerun-2 and so on.
func nextName(name string) string {
	n := 0
	if m := rerunName.FindStringSubmatch(name); m != nil {
		name = m[1]
		n, _ = strconv.Atoi(m[2])
	}
	tail := fmt.Sprintf("-rerun-%d", n+1)
	const limit = 63 // names of Jobs become values of labels
	return strings.TrimRight(name[:min(len(name), limit-len(tail))], "-.") + tail
}
