package cli

import (
	"context"
	"fmt"
	"io"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"github.com/sampan-batch/sampan/internal/explain"
)

// explainer reads what an answer goes by. Of one object it asks for what is about it; of all
// objects of a kind it reads a few lists first, however many there are.
type explainer struct {
	client kubernetes.Interface
	notes  io.Writer
	warned bool // that events may not be read

	// What was read for all; nil: nothing was.
	pods     map[target]*corev1.Pod
	jobs     map[target]*batchv1.Job
	cronJobs map[target]*batchv1.CronJob
	podsOf   map[types.UID][]*corev1.Pod // by their controllers
	jobsOf   map[types.UID][]*batchv1.Job
	about    map[types.UID][]*corev1.Event
}

// readAll reads the objects of a kind that a selector selects, and all that their explanations go by.
func (e *explainer) readAll(ctx context.Context, namespace, kind, selector string) (targets []target, err error) {
	switch kind {
	case kindPod:
		targets, err = e.readPods(ctx, namespace, selector)
	case kindJob:
		if targets, err = e.readJobs(ctx, namespace, selector); err == nil {
			_, err = e.readPods(ctx, namespace, "")
		}
	case kindCronJob:
		if targets, err = e.readCronJobs(ctx, namespace, selector); err == nil {
			_, err = e.readJobs(ctx, namespace, "")
		}
	}
	if err != nil || len(targets) == 0 {
		return targets, err
	}
	events, err := e.list(ctx, namespace, metav1.ListOptions{})
	e.about = map[types.UID][]*corev1.Event{}
	for _, ev := range events {
		e.about[ev.InvolvedObject.UID] = append(e.about[ev.InvolvedObject.UID], ev)
	}
	return targets, err
}

func (e *explainer) readPods(ctx context.Context, namespace, selector string) ([]target, error) {
	list, err := e.client.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{LabelSelector: selector})
	if err != nil {
		return nil, err
	}
	e.pods, e.podsOf = map[target]*corev1.Pod{}, map[types.UID][]*corev1.Pod{}
	targets := make([]target, len(list.Items))
	for i := range list.Items {
		pod := &list.Items[i]
		targets[i] = target{kindPod, pod.Namespace, pod.Name}
		e.pods[targets[i]] = pod
		if owner := metav1.GetControllerOfNoCopy(pod); owner != nil {
			e.podsOf[owner.UID] = append(e.podsOf[owner.UID], pod)
		}
	}
	return targets, nil
}

func (e *explainer) readJobs(ctx context.Context, namespace, selector string) ([]target, error) {
	list, err := e.client.BatchV1().Jobs(namespace).List(ctx, metav1.ListOptions{LabelSelector: selector})
	if err != nil {
		return nil, err
	}
	e.jobs, e.jobsOf = map[target]*batchv1.Job{}, map[types.UID][]*batchv1.Job{}
	targets := make([]target, len(list.Items))
	for i := range list.Items {
		job := &list.Items[i]
		targets[i] = target{kindJob, job.Namespace, job.Name}
		e.jobs[targets[i]] = job
		if owner := metav1.GetControllerOfNoCopy(job); owner != nil {
			e.jobsOf[owner.UID] = append(e.jobsOf[owner.UID], job)
		}
	}
	return targets, nil
}

func (e *explainer) readCronJobs(ctx context.Context, namespace, selector string) ([]target, error) {
	list, err := e.client.BatchV1().CronJobs(namespace).List(ctx, metav1.ListOptions{LabelSelector: selector})
	if err != nil {
		return nil, err
	}
	e.cronJobs = map[target]*batchv1.CronJob{}
	targets := make([]target, len(list.Items))
	for i := range list.Items {
		targets[i] = target{kindCronJob, list.Items[i].Namespace, list.Items[i].Name}
		e.cronJobs[targets[i]] = &list.Items[i]
	}
	return targets, nil
}

func (e *explainer) explain(ctx context.Context, at target) (explain.Answer, error) {
	switch at.kind {
	case kindCronJob:
		return e.cronJob(ctx, at)
	case kindPod:
		return e.pod(ctx, at)
	}
	return e.job(ctx, at)
}

func (e *explainer) pod(ctx context.Context, at target) (explain.Answer, error) {
	pod := e.pods[at]
	if pod == nil {
		var err error
		if pod, err = e.client.CoreV1().Pods(at.namespace).Get(ctx, at.name, metav1.GetOptions{}); err != nil {
			return explain.Answer{}, err
		}
	}
	events, err := e.events(ctx, at.namespace, "Pod", pod.UID)
	return explain.Pod(time.Now(), pod, events), err
}

func (e *explainer) job(ctx context.Context, at target) (explain.Answer, error) {
	job, read := e.jobs[at]
	var pods []*corev1.Pod
	if read {
		pods = e.podsOf[job.UID]
	} else {
		var err error
		if job, err = e.client.BatchV1().Jobs(at.namespace).Get(ctx, at.name, metav1.GetOptions{}); err != nil {
			return explain.Answer{}, err
		}
		if pods, err = e.podsOfJob(ctx, job); err != nil {
			return explain.Answer{}, err
		}
	}
	events, err := e.events(ctx, at.namespace, "Job", job.UID)
	if err != nil {
		return explain.Answer{}, err
	}
	// Why pods do not start is in events about them. A few are as good as all.
	const few = 20
	for n, i := 0, 0; i < len(pods) && n < few; i++ {
		if pods[i].Status.Phase != corev1.PodPending {
			continue
		}
		n++
		about, err := e.events(ctx, at.namespace, "Pod", pods[i].UID)
		if err != nil {
			return explain.Answer{}, err
		}
		events = append(events, about...)
	}
	return explain.Job(time.Now(), job, pods, events), nil
}

func (e *explainer) podsOfJob(ctx context.Context, job *batchv1.Job) (pods []*corev1.Pod, err error) {
	if job.Spec.Selector == nil {
		return nil, nil
	}
	list, err := e.client.CoreV1().Pods(job.Namespace).List(ctx, metav1.ListOptions{LabelSelector: metav1.FormatLabelSelector(job.Spec.Selector)})
	if err != nil {
		return nil, err
	}
	for i := range list.Items {
		if metav1.IsControlledBy(&list.Items[i], job) {
			pods = append(pods, &list.Items[i])
		}
	}
	return pods, nil
}

func (e *explainer) cronJob(ctx context.Context, at target) (explain.Answer, error) {
	c, read := e.cronJobs[at]
	var jobs []*batchv1.Job
	if read {
		jobs = e.jobsOf[c.UID]
	} else {
		var err error
		if c, err = e.client.BatchV1().CronJobs(at.namespace).Get(ctx, at.name, metav1.GetOptions{}); err != nil {
			return explain.Answer{}, err
		}
		list, err := e.client.BatchV1().Jobs(at.namespace).List(ctx, metav1.ListOptions{})
		if err != nil {
			return explain.Answer{}, err
		}
		for i := range list.Items {
			if metav1.IsControlledBy(&list.Items[i], c) {
				jobs = append(jobs, &list.Items[i])
			}
		}
	}
	events, err := e.events(ctx, at.namespace, "CronJob", c.UID)
	return explain.CronJob(time.Now(), time.LoadLocation, c, jobs, events), err
}

// events returns the events about an object.
func (e *explainer) events(ctx context.Context, namespace, kind string, uid types.UID) ([]*corev1.Event, error) {
	if e.about != nil {
		return e.about[uid], nil
	}
	return e.list(ctx, namespace, metav1.ListOptions{FieldSelector: fields.AndSelectors(
		fields.OneTermEqualSelector("involvedObject.kind", kind), fields.OneTermEqualSelector("involvedObject.uid", string(uid))).String()})
}

// list lists events, of which there are none for who may not read them.
func (e *explainer) list(ctx context.Context, namespace string, o metav1.ListOptions) ([]*corev1.Event, error) {
	list, err := e.client.CoreV1().Events(namespace).List(ctx, o)
	if apierrors.IsForbidden(err) { // the objects say a lot without them
		if !e.warned {
			e.warned = true
			fmt.Fprintf(e.notes, "warning: without events, as %s\n", plain(err.Error()))
		}
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	events := make([]*corev1.Event, len(list.Items))
	for i := range list.Items {
		events[i] = &list.Items[i]
	}
	return events, nil
}
