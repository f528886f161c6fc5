package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/utils/ptr"

	"github.com/sampan-batch/sampan/internal/job"
	"github.com/sampan-batch/sampan/internal/kind"
)

// rerunJob creates a Job that does once more what a finished one did, or what
// it left undone.
func rerunJob(ctx context.Context, client kubernetes.Interface, namespace, oldName, name string, onlyFailed bool) (*batchv1.Job, error) {
	old, err := client.BatchV1().Jobs(namespace).Get(ctx, oldName, metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	next, done, err := prepareRerun(old, onlyFailed)
	if err != nil {
		return nil, err
	}
	if err := keepCronJob(ctx, client, old, next); err != nil {
		return nil, err
	}
	next.Name = name
	return createRerun(ctx, client, next, old.Name, done)
}

// prepareRerun returns a Job, still without a name, that does once more what a finished
// one did, or what it left undone, and the indexes that it need not do.
func prepareRerun(old *batchv1.Job, onlyFailed bool) (next *batchv1.Job, done job.Indexes, err error) {
	if next, err = again(old); err != nil {
		return nil, nil, err
	}
	if onlyFailed {
		if done, err = carried(old); err != nil {
			return nil, nil, fmt.Errorf("job/%s: %w", old.Name, err)
		}
	}
	if done.Len() > 0 {
		next.Spec.Suspend = ptr.To(true)
		next.Annotations[kind.JobCarriedIndexes] = done.String()
	}
	return next, done, nil
}

// createRerun creates a Job, under a name that derives from that of the old one if it has
// none, and tells it what is done.
func createRerun(ctx context.Context, client kubernetes.Interface, next *batchv1.Job, oldName string, done job.Indexes) (*batchv1.Job, error) {
	created, err := createNamed(ctx, client, next, oldName, next.Name)
	if err != nil || done.Len() == 0 {
		return created, err
	}
	resumed, err := carryOver(ctx, client, created, done)
	if err == nil {
		return resumed, nil
	}
	// A Job that stays suspended would be a riddle.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	err = fmt.Errorf("tell job/%s what has been done already: %w", created.Name, err)
	gone := client.BatchV1().Jobs(created.Namespace).Delete(ctx, created.Name, metav1.DeleteOptions{
		PropagationPolicy: ptr.To(metav1.DeletePropagationBackground), Preconditions: metav1.NewUIDPreconditions(string(created.UID)),
	})
	if gone != nil {
		gone = fmt.Errorf("job/%s stays behind suspended: %w", created.Name, gone)
	}
	return nil, errors.Join(err, gone)
}

// carried returns the indexes of a failed Job that need not run again.
func carried(old *batchv1.Job) (job.Indexes, error) {
	switch {
	case !kind.Indexed(&old.Spec) || old.Spec.Completions == nil:
		return nil, errors.New("it is not an Indexed Job")
	case kind.JobEnd(old).Type == batchv1.JobComplete:
		return nil, errors.New("it is Complete, so that no index is left to run")
	}
	return job.ParseIndexes(old.Status.CompletedIndexes, *old.Spec.Completions), nil
}

// keepCronJob makes the new Job belong to the CronJob of the old one, as one
// that was started by hand, if that still exists. Other owners make their Jobs
// themselves.
func keepCronJob(ctx context.Context, client kubernetes.Interface, old, next *batchv1.Job) error {
	owner := metav1.GetControllerOfNoCopy(old)
	if owner == nil || owner.Kind != "CronJob" {
		return nil
	}
	c, err := client.BatchV1().CronJobs(old.Namespace).Get(ctx, owner.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) || apierrors.IsForbidden(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if c.UID == owner.UID {
		next.OwnerReferences = []metav1.OwnerReference{manualOwner(c.Name, c)}
		next.Annotations[kind.JobInstantiate] = "manual"
	}
	return nil
}

// createNamed creates a Job under the name that was asked for, or else the
// first NAME-rerun-N that is free.
func createNamed(ctx context.Context, client kubernetes.Interface, next *batchv1.Job, oldName, name string) (*batchv1.Job, error) {
	next.Name = name
	if name == "" {
		next.Name = nextName(oldName)
	}
	for {
		created, err := client.BatchV1().Jobs(next.Namespace).Create(ctx, next, strict)
		if name != "" || !apierrors.IsAlreadyExists(err) {
			return created, err
		}
		next.Name = nextName(next.Name)
	}
}

// carryOver writes into the status of a suspended Job which indexes are done,
// and lets it go. Its controller starts the others.
func carryOver(ctx context.Context, client kubernetes.Interface, created *batchv1.Job, done job.Indexes) (*batchv1.Job, error) {
	if err := tellDone(ctx, client, created, done); err != nil {
		return nil, err
	}
	return patchJob(ctx, client, created, object{"spec": object{"suspend": false}})
}

// tellDone writes into the status of a suspended Job which indexes are done.
func tellDone(ctx context.Context, client kubernetes.Interface, created *batchv1.Job, done job.Indexes) error {
	_, err := patchJob(ctx, client, created, object{"status": object{
		"completedIndexes": done.String(), "succeeded": done.Len(),
	}}, "status")
	return err
}

type object = map[string]any

// patchJob patches a Job, and not another of its name.
func patchJob(ctx context.Context, client kubernetes.Interface, job *batchv1.Job, change object, subresources ...string) (*batchv1.Job, error) {
	change["metadata"] = object{"uid": job.UID}
	data, err := json.Marshal(change)
	if err != nil {
		return nil, err
	}
	return client.BatchV1().Jobs(job.Namespace).Patch(ctx, job.Name, types.MergePatchType, data, metav1.PatchOptions{FieldManager: fieldManager}, subresources...)
}
