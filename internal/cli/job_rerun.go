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
	next, err := again(old)
	if err != nil {
		return nil, err
	}
	var done job.Indexes
	if onlyFailed {
		if done, err = carried(old); err != nil {
			return nil, fmt.Errorf("job/%s: %w", old.Name, err)
		}
	}
	if done.Len() > 0 {
		next.Spec.Suspend = ptr.To(true)
		next.Annotations[kind.JobCarriedIndexes] = done.String()
	}
	if err := keepCronJob(ctx, client, old, next); err != nil {
		return nil, err
	}
	created, err := createNamed(ctx, client, next, old.Name, name)
	if err != nil || done.Len() == 0 {
		return created, err
	}
	if err := carryOver(ctx, client, created, done); err != nil {
		// A Job that stays suspended would be a riddle.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		defer cancel()
		err = fmt.Errorf("tell job/%s what has been done already: %w", created.Name, err)
		gone := client.BatchV1().Jobs(namespace).Delete(ctx, created.Name, metav1.DeleteOptions{
			PropagationPolicy: ptr.To(metav1.DeletePropagationBackground), Preconditions: metav1.NewUIDPreconditions(string(created.UID)),
		})
		if gone != nil {
			gone = fmt.Errorf("job/%s stays behind suspended: %w", created.Name, gone)
		}
		return nil, errors.Join(err, gone)
	}
	return created, nil
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
func carryOver(ctx context.Context, client kubernetes.Interface, created *batchv1.Job, done job.Indexes) error {
	jobs := client.BatchV1().Jobs(created.Namespace)
	patch := func(body any, subresources ...string) error {
		data, err := json.Marshal(body)
		if err != nil {
			return err
		}
		_, err = jobs.Patch(ctx, created.Name, types.MergePatchType, data, metav1.PatchOptions{FieldManager: fieldManager}, subresources...)
		return err
	}
	type object = map[string]any
	meta := object{"uid": created.UID} // not another Job of that name
	if err := patch(object{"metadata": meta, "status": object{
		"completedIndexes": done.String(), "succeeded": done.Len(),
	}}, "status"); err != nil {
		return err
	}
	return patch(object{"metadata": meta, "spec": object{"suspend": false}})
}
