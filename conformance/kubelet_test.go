package conformance

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
)

// play does what a kubelet would do about pods of a Job:
//
//	running    it runs
//	ready      and is ready
//	succeeded  it ended with 0
//	failed     it ended with exit=N, 1 if not said
//	gone       it is deleted with no grace left, as at the end of its termination
//	bound      the scheduler has found the node that its affinity names
//
// Instead of a Job, KEY=VALUE names a label, and ip=10.1.1.1 is the address of the first pod.
// It waits for such pods to be there, and takes those that run first. n=3 is for
// so many of them, condition=TYPE adds a condition that is true and
// condition=TYPE:False one that is not, restarts=N is a restart count, and ago=1m
// when it ended, which is now if not said. exit and restarts may name the only
// container that they are for, as in exit=main:3; the others then have 0. An init
// container has a status only so.
func (s *session) play(args []string) (string, error) {
	if len(args) < 2 {
		return "", fmt.Errorf("usage: pod JOB[/INDEX] STATE [KEY=VALUE]")
	}
	labelled := strings.Contains(args[0], "=")
	of := func() ([]corev1.Pod, error) { return s.labelled(args[0]) }
	if !labelled {
		job, index, _ := strings.Cut(args[0], "/")
		of = func() ([]corev1.Pod, error) { return s.jobPods(job, index) }
	}
	p := part{state: args[1], labelled: labelled, exits: map[string]int32{"": 1}, restarts: map[string]int32{}, count: 1}
	for _, option := range args[2:] {
		if err := p.set(option); err != nil {
			return "", err
		}
	}
	r, err := s.resource("pod")
	if err != nil {
		return "", err
	}
	for began := time.Now(); ; {
		pods, err := of()
		if err != nil {
			return "", err
		}
		if pods = slices.DeleteFunc(pods, p.notFor); len(pods) < p.count {
			if s.waited(began) {
				return "", fmt.Errorf("%d such pods, not %d", len(pods), p.count)
			}
			time.Sleep(50 * time.Millisecond)
			continue
		}
		slices.SortStableFunc(pods, func(a, b corev1.Pod) int { return strings.Compare(string(b.Status.Phase), string(a.Status.Phase)) })
		var acts errgroup.Group
		acts.SetLimit(8) // in turn, 600 would take longer than anything else here
		for i := range pods[:p.count] {
			acts.Go(func() error { return p.act(r, &pods[i], i) })
		}
		return "", acts.Wait()
	}
}

// jobPods returns the pods that have a Job's label, the oldest first.
func (s *session) jobPods(job, index string) ([]corev1.Pod, error) {
	labels := batchv1.JobNameLabel + "=" + job
	if index != "" {
		labels += "," + batchv1.JobCompletionIndexAnnotation + "=" + index
	}
	pods, err := listOf[corev1.Pod](s, "pod", labels)
	slices.SortFunc(pods, func(a, b corev1.Pod) int { return older(&a, &b) })
	return pods, err
}

// part is what a kubelet is to do.
type part struct {
	state           string
	exits, restarts map[string]int32 // by container, "" is all
	count           int
	condition       string
	ago             time.Duration
	labelled        bool       // of pods with a label: "ready" is for those that are not yet
	ip              netip.Addr // of the first pod; the next ones have the next ones
}

func (p *part) set(option string) (err error) {
	key, value, _ := strings.Cut(option, "=")
	switch key {
	case "exit":
		p.exits, err = byContainer(value)
	case "restarts":
		p.restarts, err = byContainer(value)
	case "n":
		p.count, err = strconv.Atoi(value)
	case "condition":
		p.condition = value
	case "ip":
		p.ip, err = netip.ParseAddr(value)
	case "ago":
		p.ago, err = time.ParseDuration(value)
	default:
		err = fmt.Errorf("unknown option %s", option)
	}
	return err
}

// byContainer reads N, or CONTAINER:N.
func byContainer(value string) (map[string]int32, error) {
	container, number, named := strings.Cut(value, ":")
	if !named {
		container, number = "", value
	}
	n, err := strconv.ParseInt(number, 10, 32)
	return map[string]int32{container: int32(n)}, err
}

// notFor: it is too late to do this to the pod, or done.
func (p *part) notFor(pod corev1.Pod) bool {
	switch {
	case p.state == "bound":
		return pod.Spec.NodeName != "" || pod.DeletionTimestamp != nil
	case p.state == "gone":
		return pod.DeletionTimestamp == nil
	case pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed:
		return true
	case p.state == "ready" && p.labelled:
		return pod.DeletionTimestamp != nil || isReady(&pod)
	case p.state == "running":
		return pod.Status.Phase == corev1.PodRunning && len(p.restarts) == 0
	}
	return false
}

// act plays the part for the ith of the pods.
func (p *part) act(r dynamic.ResourceInterface, pod *corev1.Pod, i int) error {
	ctx := context.Background()
	switch p.state {
	case "bound":
		return bind(r, pod)
	case "gone":
		return r.Delete(ctx, pod.Name, metav1.DeleteOptions{GracePeriodSeconds: new(int64)})
	}
	now := metav1.NewTime(time.Now().Add(-p.ago).Truncate(time.Second))
	status := corev1.PodStatus{StartTime: &now}
	if p.ip.IsValid() {
		ip := p.ip
		for range i {
			ip = ip.Next()
		}
		status.PodIP, status.PodIPs = ip.String(), []corev1.PodIP{{IP: ip.String()}}
	}
	switch p.state {
	case "running":
		status.Phase = corev1.PodRunning
	case "ready":
		status.Phase = corev1.PodRunning
		status.Conditions = append(status.Conditions, corev1.PodCondition{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: now})
	case "succeeded":
		status.Phase = corev1.PodSucceeded
	case "failed":
		status.Phase = corev1.PodFailed
	default:
		return fmt.Errorf("unknown state %s", p.state)
	}
	if name, value, _ := strings.Cut(p.condition, ":"); name != "" {
		status.Conditions = append(status.Conditions, corev1.PodCondition{
			Type: corev1.PodConditionType(name), Status: cmp.Or(corev1.ConditionStatus(value), corev1.ConditionTrue), LastTransitionTime: now,
		})
	}
	for _, c := range pod.Spec.Containers {
		status.ContainerStatuses = append(status.ContainerStatuses, p.container(c, now))
	}
	for _, c := range pod.Spec.InitContainers {
		if p.exits[c.Name] != 0 || p.restarts[c.Name] != 0 {
			status.InitContainerStatuses = append(status.InitContainerStatuses, p.container(c, now))
		}
	}
	body, err := json.Marshal(map[string]any{"status": status})
	if err != nil {
		return err
	}
	_, err = r.Patch(ctx, pod.Name, types.MergePatchType, body, metav1.PatchOptions{}, "status")
	return err
}

// bind binds a pod to the node that its affinity names, as those of DaemonSets have one.
func bind(r dynamic.ResourceInterface, pod *corev1.Pod) error {
	if pod.Spec.Affinity == nil || pod.Spec.Affinity.NodeAffinity == nil || pod.Spec.Affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution == nil {
		return fmt.Errorf("%s is for no node", pod.Name)
	}
	terms := pod.Spec.Affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms
	_, err := r.Create(context.Background(), &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "v1", "kind": "Binding", "metadata": map[string]any{"name": pod.Name},
		"target": map[string]any{"apiVersion": "v1", "kind": "Node", "name": terms[0].MatchFields[0].Values[0]},
	}}, metav1.CreateOptions{}, "binding")
	return err
}

// container is the status of one of the pod's containers.
func (p *part) container(c corev1.Container, now metav1.Time) corev1.ContainerStatus {
	status := corev1.ContainerStatus{
		Name: c.Name, Image: c.Image, RestartCount: p.restarts[""] + p.restarts[c.Name], Ready: p.state == "ready",
	}
	ended := &corev1.ContainerStateTerminated{StartedAt: now, FinishedAt: now, Reason: "Completed"}
	switch p.state {
	case "succeeded":
		status.State.Terminated = ended
	case "failed":
		if ended.ExitCode = p.exits[""] + p.exits[c.Name]; ended.ExitCode != 0 {
			ended.Reason = "Error"
		}
		status.State.Terminated = ended
	default:
		status.State.Running = &corev1.ContainerStateRunning{StartedAt: now}
	}
	return status
}
