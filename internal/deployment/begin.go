package deployment

import (
	"fmt"
	"maps"
	"strconv"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/utils/ptr"

	"github.com/sampan-batch/sampan/internal/kind"
	"github.com/sampan-batch/sampan/internal/podset"
	"github.com/sampan-batch/sampan/internal/reason"
)

// begin sees to it that there is a ReplicaSet of the present template. It reports false
// when there is none, as its name is taken or the API does not take it; what is to be said
// of that, is said.
func (d *decision) begin() bool {
	if d.fresh != nil {
		d.syncRevision()
		return true
	}
	hash := podset.Hash(&d.next.Spec.Template, d.next.Status.CollisionCount)
	name := nameOf(d.next.Name, hash)
	if d.Set(name) != nil {
		// Another template's: count that, for another name the next time. The write is what
		// wakes the Deployment.
		d.next.Status.CollisionCount = ptr.To(ptr.Deref(d.next.Status.CollisionCount, 0) + 1)
		return false
	}
	if d.Refused != nil {
		if !kind.NamespaceTerminates(d.Refused) {
			d.refused(name)
		}
		return false
	}
	revision := d.nextRevision()
	d.fresh = &replicaSet{nil, d.newSet(name, hash)}
	size := d.freshSize()
	d.fresh.next.Spec.Replicas = &size
	d.copyAnnotations(d.fresh)
	d.fresh.annotate(kind.DeploymentRevision, revision)
	d.noteSize(d.fresh)
	if size > 0 {
		d.tell(corev1.EventTypeNormal, reason.ScalingReplicaSet, fmt.Sprintf("Scaled up replica set %s from 0 to %d", name, size))
	}
	d.setRevision(revision)
	if d.hasDeadline() {
		d.setCondition(&d.next.Status, appsv1.DeploymentProgressing, corev1.ConditionTrue, newReplicaSetCreated, fmt.Sprintf("Created new replica set %q", name))
	}
	return true
}

// newSet returns a ReplicaSet of the present template, without its size.
func (d *decision) newSet(name, hash string) *appsv1.ReplicaSet {
	template := *d.next.Spec.Template.DeepCopy()
	template.Labels = maps.Clone(template.Labels)
	metav1.SetMetaDataLabel(&template.ObjectMeta, hashLabel, hash)
	return &appsv1.ReplicaSet{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: d.next.Namespace, Name: name, Labels: maps.Clone(template.Labels),
			OwnerReferences: ownerOf(d.next).With(&metav1.ObjectMeta{}),
		},
		Spec: appsv1.ReplicaSetSpec{
			Replicas: ptr.To[int32](0), MinReadySeconds: d.next.Spec.MinReadySeconds,
			Selector: metav1.AddLabelToSelector(d.next.Spec.Selector.DeepCopy(), hashLabel, hash), Template: template,
		},
	}
}

// nameOf is what the ReplicaSet of a template is called.
func nameOf(deployment, hash string) string {
	return deployment[:min(len(deployment), validation.DNS1123SubdomainMaxLength-1-len(hash))] + "-" + hash
}

// refused tells that the API does not take the new ReplicaSet, and tries again later.
func (d *decision) refused(name string) {
	message := fmt.Sprintf("Failed to create new replica set %q: %v", name, d.Refused)
	if d.hasDeadline() {
		d.setCondition(&d.next.Status, appsv1.DeploymentProgressing, corev1.ConditionFalse, reason.ReplicaSetCreateError, message)
	}
	d.tell(corev1.EventTypeWarning, reason.ReplicaSetCreateError, message)
	d.wake(d.now.Add(refusedRetry))
}

// syncRevision brings what the new ReplicaSet has from the Deployment up to date, and what
// the Deployment has from it: its revision.
func (d *decision) syncRevision() {
	if d.fresh == nil {
		return
	}
	d.copyAnnotations(d.fresh)
	d.renumber(d.fresh, d.nextRevision())
	if d.fresh.next.Spec.MinReadySeconds != d.next.Spec.MinReadySeconds {
		d.fresh.edit().Spec.MinReadySeconds = d.next.Spec.MinReadySeconds
	}
	d.setRevision(d.fresh.next.Annotations[kind.DeploymentRevision])
	if d.hasDeadline() && condition(d.next.Status, appsv1.DeploymentProgressing) == nil {
		d.setCondition(&d.next.Status, appsv1.DeploymentProgressing, corev1.ConditionTrue, foundNewReplicaSet, fmt.Sprintf("Found new replica set %q", d.fresh.next.Name))
	}
}

// nextRevision is the number after those of the old sets.
func (d *decision) nextRevision() string {
	last := int64(0)
	for _, s := range d.old {
		if n, err := revisionOf(s.next); err == nil {
			last = max(last, n)
		}
	}
	return strconv.FormatInt(last+1, 10)
}
