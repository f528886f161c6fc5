package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"github.com/sampan-batch/sampan/internal/explain"
)

func newExplain() *cobra.Command {
	var c cluster
	cmd := &cobra.Command{
		Use:   "explain job/NAME | cronjob/NAME | pod/NAME",
		Short: "Say why a Job, CronJob or pod is (not) running, and what happens next",
		Long: `Explain answers in a few lines: why is it (not) running, what happened so far, what happens
next and when. It reads the object, what belongs to it and their events, and changes
nothing; it works with this machine's engine and with any Kubernetes cluster.`,
		Example: `  sampan explain job/import
  sampan explain cronjob/nightly
  sampan explain pod/import-x7k2p -n batch --kubeconfig ~/.kube/config`,
		Args: wantArgs(cobra.RangeArgs(1, 2), "explain what? Give job/NAME, cronjob/NAME or pod/NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			at, err := oneTarget(args, "", kindJob, kindCronJob, kindPod)
			if err != nil {
				return err
			}
			client, namespace, err := c.connect()
			if err != nil {
				return err
			}
			answer, err := explainer{client, namespace}.explain(cmd.Context(), at)
			if err != nil {
				return err
			}
			_, err = fmt.Fprint(cmd.OutOrStdout(), answer)
			return err
		},
		ValidArgsFunction: c.completeTargets(kindJob, kindCronJob, kindPod),
	}
	c.addFlags(cmd, cmd.Flags(), "n")
	return cmd
}

// explainer reads what an answer goes by.
type explainer struct {
	client    kubernetes.Interface
	namespace string
}

func (e explainer) explain(ctx context.Context, at target) (explain.Answer, error) {
	switch at.kind {
	case kindCronJob:
		return e.cronJob(ctx, at.name)
	case kindPod:
		return e.pod(ctx, at.name)
	}
	return e.job(ctx, at.name)
}

func (e explainer) pod(ctx context.Context, name string) (explain.Answer, error) {
	pod, err := e.client.CoreV1().Pods(e.namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return explain.Answer{}, err
	}
	events, err := e.events(ctx, "Pod", pod.UID)
	return explain.Pod(time.Now(), pod, events), err
}

func (e explainer) job(ctx context.Context, name string) (explain.Answer, error) {
	job, err := e.client.BatchV1().Jobs(e.namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return explain.Answer{}, err
	}
	var pods []*corev1.Pod
	if job.Spec.Selector != nil {
		list, err := e.client.CoreV1().Pods(e.namespace).List(ctx, metav1.ListOptions{LabelSelector: metav1.FormatLabelSelector(job.Spec.Selector)})
		if err != nil {
			return explain.Answer{}, err
		}
		for i := range list.Items {
			if metav1.IsControlledBy(&list.Items[i], job) {
				pods = append(pods, &list.Items[i])
			}
		}
	}
	events, err := e.events(ctx, "Job", job.UID)
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
		about, err := e.events(ctx, "Pod", pods[i].UID)
		if err != nil {
			return explain.Answer{}, err
		}
		events = append(events, about...)
	}
	return explain.Job(time.Now(), job, pods, events), nil
}

func (e explainer) cronJob(ctx context.Context, name string) (explain.Answer, error) {
	c, err := e.client.BatchV1().CronJobs(e.namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return explain.Answer{}, err
	}
	list, err := e.client.BatchV1().Jobs(e.namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return explain.Answer{}, err
	}
	var jobs []*batchv1.Job
	for i := range list.Items {
		if metav1.IsControlledBy(&list.Items[i], c) {
			jobs = append(jobs, &list.Items[i])
		}
	}
	events, err := e.events(ctx, "CronJob", c.UID)
	return explain.CronJob(time.Now(), c, jobs, events), err
}

// events lists the events about an object.
func (e explainer) events(ctx context.Context, kind string, uid types.UID) ([]*corev1.Event, error) {
	list, err := e.client.CoreV1().Events(e.namespace).List(ctx, metav1.ListOptions{FieldSelector: fields.AndSelectors(
		fields.OneTermEqualSelector("involvedObject.kind", kind), fields.OneTermEqualSelector("involvedObject.uid", string(uid))).String()})
	if err != nil {
		return nil, err
	}
	events := make([]*corev1.Event, len(list.Items))
	for i := range list.Items {
		events[i] = &list.Items[i]
	}
	return events, nil
}
