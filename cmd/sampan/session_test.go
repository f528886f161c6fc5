package main_test

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/txtar"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	sigsyaml "sigs.k8s.io/yaml"
)

// session is a conversation with a Kubernetes API, in a namespace of its own.
type session struct {
	client    dynamic.Interface
	http      *http.Client // for what client does not do
	host      string
	namespace string
	files     map[string][]byte
	// quiet is for how long nothing may move before it counts as settled, and
	// patience how long an answer may take.
	quiet, patience time.Duration
	began           time.Time
	spelt           map[string]string // what spell writes, and for what

	mu       sync.Mutex
	warnings []string // of the request under way
}

// resources are the kinds that a session can speak of.
var resources = map[string]schema.GroupVersionResource{
	"job":             {Group: "batch", Version: "v1", Resource: "jobs"},
	"cronjob":         {Group: "batch", Version: "v1", Resource: "cronjobs"},
	"cronjob.v1beta1": {Group: "batch", Version: "v1beta1", Resource: "cronjobs"},
	"pod":             {Version: "v1", Resource: "pods"},
	"event":           {Version: "v1", Resource: "events"},
	"namespace":       {Version: "v1", Resource: "namespaces"},
}

// command is what a session understands.
type command struct {
	reads bool // and may be repeated
	run   func(args []string) (string, error)
}

// commands are
//
//	create [-dry-run] [-show] [-validate=Strict] FILE [KEY=VALUE]…
//	                                    every object of the file, with these changes (spec.containers.0.name=x);
//	                                    -show shows what became of them
//	apply [-dry-run] [-show] [-manager=NAME] [-force] FILE [KEY=VALUE]…
//	                                    the same, as a server-side apply
//	patch [-dry-run] [-status] [-type=json|strategic] [-validate=Strict] KIND/NAME JSON
//	                                    a merge patch, if no type is said
//	put [-dry-run] [-status] KIND/NAME [KEY=VALUE]…
//	                                    the object as it is, with these changes
//	request METHOD PATH [HEADER=VALUE]… [BODY | FILE]
//	                                    anything else
//	delete KIND/NAME [PROPAGATION]      without one, as the API does by itself
//	show KIND/NAME [FIELD]              an object, or a field such as .status
//	jobs                                what matters of the Jobs, a line each
//	pods JOB                            what matters of its pods, a line each
//	events                              what was said, each once
//	table KIND [NAME]                   what `kubectl get -o wide` prints; columns of that alone have a (1)
//	pod JOB[/INDEX] STATE [KEY=VALUE]   play the kubelet, see play
//	after DURATION                      before Kubernetes does what is asked for next
//
// A NAME may end in *, as in pod/a-*: the oldest object whose name begins so.
// Commands and files may speak of <slot 5m>, <minute 5m>, <time 5m> and
// <uid of KIND/NAME>, see spell.
func (s *session) commands() map[string]command {
	return map[string]command{
		"create":  {run: s.create},
		"patch":   {run: s.patch},
		"apply":   {run: s.apply},
		"put":     {run: s.put},
		"request": {run: s.request},
		"delete":  {run: s.delete},
		"show":    {reads: true, run: s.show},
		"jobs":    {reads: true, run: s.jobs},
		"pods":    {reads: true, run: s.pods},
		"events":  {reads: true, run: s.events},
		"table":   {reads: true, run: s.table},
		"pod":     {run: s.play},
		"after":   {run: s.after},
	}
}

func newSession(t *testing.T, config *rest.Config, files []txtar.File) *session {
	t.Helper()
	s := &session{
		files: make(map[string][]byte), quiet: 200 * time.Millisecond, patience: 30 * time.Second,
		began: time.Now().UTC(), spelt: make(map[string]string),
	}
	if *recordFrom != "" {
		s.quiet = 3 * time.Second // the Job controller gathers what happens for a second
	}
	for _, f := range files {
		s.files[f.Name] = f.Data
		s.mention(string(f.Data))
	}
	config = rest.CopyConfig(config)
	config.WarningHandler = s
	var err error
	if s.client, err = dynamic.NewForConfig(config); err != nil {
		t.Fatal(err)
	}
	if s.http, err = rest.HTTPClientFor(config); err != nil {
		t.Fatal(err)
	}
	s.host = strings.TrimSuffix(config.Host, "/")
	ctx := context.Background()
	namespaces := s.client.Resource(resources["namespace"])
	ns := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "v1", "kind": "Namespace", "metadata": map[string]any{"generateName": "conformance-"},
	}}
	if ns, err = namespaces.Create(ctx, ns, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	s.namespace = ns.GetName()
	t.Cleanup(func() {
		if err := namespaces.Delete(ctx, s.namespace, metav1.DeleteOptions{}); err != nil {
			t.Error(err)
		}
	})
	return s
}

// HandleWarningHeader implements rest.WarningHandler.
func (s *session) HandleWarningHeader(code int, _ string, text string) {
	if code == 299 && text != "" {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.warnings = append(s.warnings, text)
	}
}

// outcome is the answer to a request that writes: its warnings, and what was
// done or why not.
func (s *session) outcome(done string, err error) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out strings.Builder
	for _, w := range s.warnings {
		fmt.Fprintf(&out, "Warning: %s\n", w)
	}
	s.warnings = nil
	var status apierrors.APIStatus
	switch {
	case errors.As(err, &status):
		fmt.Fprintf(&out, "%d %s: %s\n", status.Status().Code, status.Status().Reason, status.Status().Message)
	case err != nil:
		return "", err
	default:
		fmt.Fprintln(&out, done)
	}
	return s.normal(out.String()), nil
}

func (s *session) resource(kind string) (dynamic.ResourceInterface, error) {
	gvr, known := resources[kind]
	if !known {
		return nil, fmt.Errorf("no kind %q", kind)
	}
	return s.client.Resource(gvr).Namespace(s.namespace), nil
}

// object finds what KIND/NAME means.
func (s *session) object(kindAndName string) (dynamic.ResourceInterface, string, error) {
	kind, name, _ := strings.Cut(kindAndName, "/")
	r, err := s.resource(kind)
	prefix, any := strings.CutSuffix(name, "*")
	if err != nil || !any {
		return r, name, err
	}
	list, err := r.List(context.Background(), metav1.ListOptions{})
	if err != nil {
		return nil, "", err
	}
	slices.SortFunc(list.Items, func(a, b unstructured.Unstructured) int { return older(&a, &b) })
	for i := range list.Items {
		if name := list.Items[i].GetName(); strings.HasPrefix(name, prefix) {
			return r, name, nil
		}
	}
	return nil, "", fmt.Errorf("there is no %s", kindAndName)
}

// older sorts objects, the oldest first.
func older(a, b metav1.Object) int {
	at, bt := a.GetCreationTimestamp(), b.GetCreationTimestamp()
	return cmp.Or(at.Compare(bt.Time), strings.Compare(a.GetName(), b.GetName()))
}

func (s *session) delete(args []string) (string, error) {
	if len(args) == 0 {
		return "", fmt.Errorf("usage: delete KIND/NAME [PROPAGATION]")
	}
	r, name, err := s.object(args[0])
	if err != nil {
		return "", err
	}
	var opts metav1.DeleteOptions
	if len(args) > 1 {
		policy := metav1.DeletionPropagation(args[1])
		opts.PropagationPolicy = &policy
	}
	return s.outcome(args[0]+" deleted", r.Delete(context.Background(), name, opts))
}

func (s *session) show(args []string) (string, error) {
	r, name, err := s.object(args[0])
	if err != nil {
		return "", err
	}
	u, err := r.Get(context.Background(), name, metav1.GetOptions{})
	if err != nil {
		return s.outcome("", err)
	}
	if len(args) == 1 {
		return s.text(u.Object), nil
	}
	field, found, err := unstructured.NestedFieldNoCopy(u.Object, strings.Split(args[1], ".")[1:]...)
	if !found || err != nil {
		return "<none>\n", err
	}
	return s.text(field), nil
}

// jobPods returns the pods that have a Job's label, the oldest first.
func (s *session) jobPods(job, index string) ([]corev1.Pod, error) {
	r, err := s.resource("pod")
	if err != nil {
		return nil, err
	}
	selector := "batch.kubernetes.io/job-name=" + job
	if index != "" {
		selector += ",batch.kubernetes.io/job-completion-index=" + index
	}
	list, err := r.List(context.Background(), metav1.ListOptions{LabelSelector: selector})
	if err != nil {
		return nil, err
	}
	pods := make([]corev1.Pod, len(list.Items))
	for i := range list.Items {
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(list.Items[i].Object, &pods[i]); err != nil {
			return nil, err
		}
	}
	slices.SortFunc(pods, func(a, b corev1.Pod) int { return older(&a, &b) })
	return pods, nil
}

func (s *session) pods(args []string) (string, error) {
	pods, err := s.jobPods(args[0], "")
	if err != nil {
		return "", err
	}
	var lines []string
	for _, p := range pods {
		line := fmt.Sprintf("%s %s", p.Name, p.Status.Phase)
		if p.DeletionTimestamp != nil {
			line += " terminating"
		}
		if ref := metav1.GetControllerOf(&p); ref == nil {
			line += " orphan"
		}
		if p.Spec.Hostname != "" {
			line += " hostname=" + p.Spec.Hostname
		}
		for _, key := range slices.Sorted(maps.Keys(p.Annotations)) {
			line += fmt.Sprintf(" %s=%s", strings.TrimPrefix(key, "batch.kubernetes.io/"), p.Annotations[key])
		}
		for _, f := range p.Finalizers {
			line += " " + f
		}
		lines = append(lines, s.normal(line)+"\n")
	}
	slices.Sort(lines)
	return strings.Join(lines, ""), nil
}

// ours are the reasons of events that Kubernetes does not write: it does the
// same, but silently.
var ours = map[string]bool{
	"CronJobSuspended": true, "ClockSetBack": true, "JobAlreadyExists": true,
	"MissSchedule": true, // which it means to write, but never does: kubernetes/kubernetes#101148
	"BackOff":      true, "IndexFailed": true, "ManagedBy": true, "NotReplaced": true, "PodAdopted": true, "PodFailureIgnored": true,
	"PodNotCounted": true, "PodReleased": true, "WaitingForTermination": true,
}

func (s *session) events([]string) (string, error) {
	r, err := s.resource("event")
	if err != nil {
		return "", err
	}
	list, err := r.List(context.Background(), metav1.ListOptions{})
	if err != nil {
		return "", err
	}
	var lines []string
	for _, u := range list.Items {
		var e corev1.Event
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, &e); err != nil {
			return "", err
		}
		if !ours[e.Reason] {
			lines = append(lines, s.normal(fmt.Sprintf("%s/%s %s %s: %s", strings.ToLower(e.InvolvedObject.Kind), e.InvolvedObject.Name,
				e.Type, e.Reason, e.Message))+"\n")
		}
	}
	slices.Sort(lines)
	return strings.Join(slices.Compact(lines), ""), nil
}

// after lets the time pass that Kubernetes needs for what comes next. Only a
// recording waits: a comparison waits for the answer itself.
func (s *session) after(args []string) (string, error) {
	d, err := time.ParseDuration(args[0])
	if err != nil {
		return "", err
	}
	if *recordFrom != "" {
		time.Sleep(d)
	}
	s.patience = max(s.patience, d+30*time.Second)
	return "", nil
}

// settle waits until nothing moves in the namespace.
func (s *session) settle(t *testing.T, deadline time.Time) {
	t.Helper()
	was, since := "", time.Now()
	for time.Since(since) < s.quiet {
		var state strings.Builder
		for _, kind := range []string{"job", "cronjob", "pod", "event"} {
			r, _ := s.resource(kind)
			list, err := r.List(context.Background(), metav1.ListOptions{})
			if err != nil {
				t.Fatal(err)
			}
			for _, u := range list.Items {
				fmt.Fprintln(&state, kind, u.GetName(), u.GetResourceVersion())
			}
		}
		if state.String() != was {
			was, since = state.String(), time.Now()
			if since.After(deadline.Add(30 * time.Second)) {
				t.Fatal("the namespace does not come to rest")
			}
		}
		time.Sleep(s.quiet / 5)
	}
}

// play does what a kubelet would do about pods of a Job:
//
//	running    it runs
//	ready      and is ready
//	succeeded  it ended with 0
//	failed     it ended with exit=N, 1 if not said
//	gone       it is deleted with no grace left, as at the end of its termination
//
// It waits for such pods to be there, and takes those that run first. n=3 is for so many of them, condition=TYPE
// adds a condition that is true and condition=TYPE:False one that is not,
// restarts=N is a restart count, and ago=1m when it ended, which is now if not
// said. exit and restarts may name the only container that they are for, as in
// exit=main:3; the others then have 0. An init container has a status only so.
func (s *session) play(args []string) (string, error) {
	if len(args) < 2 {
		return "", fmt.Errorf("usage: pod JOB[/INDEX] STATE [KEY=VALUE]")
	}
	job, index, _ := strings.Cut(args[0], "/")
	p := part{state: args[1], exits: map[string]int32{"": 1}, restarts: map[string]int32{}, count: 1}
	for _, option := range args[2:] {
		if err := p.set(option); err != nil {
			return "", err
		}
	}
	r, err := s.resource("pod")
	if err != nil {
		return "", err
	}
	deadline := time.Now().Add(s.patience)
	for {
		pods, err := s.jobPods(job, index)
		if err != nil {
			return "", err
		}
		if pods = slices.DeleteFunc(pods, p.notFor); len(pods) < p.count {
			if time.Now().After(deadline) {
				return "", fmt.Errorf("%d such pods, not %d", len(pods), p.count)
			}
			time.Sleep(50 * time.Millisecond)
			continue
		}
		slices.SortStableFunc(pods, func(a, b corev1.Pod) int { return strings.Compare(string(b.Status.Phase), string(a.Status.Phase)) })
		for i := range pods[:p.count] {
			if err := p.act(r, &pods[i]); err != nil {
				return "", err
			}
		}
		return "", nil
	}
}

// part is what a kubelet is to do.
type part struct {
	state           string
	exits, restarts map[string]int32 // by container, "" is all
	count           int
	condition       string
	ago             time.Duration
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
	case p.state == "gone":
		return pod.DeletionTimestamp == nil
	case pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed:
		return true
	case p.state == "running":
		return pod.Status.Phase == corev1.PodRunning && len(p.restarts) == 0
	}
	return false
}

func (p *part) act(r dynamic.ResourceInterface, pod *corev1.Pod) error {
	ctx := context.Background()
	if p.state == "gone" {
		return r.Delete(ctx, pod.Name, metav1.DeleteOptions{GracePeriodSeconds: new(int64)})
	}
	now := metav1.NewTime(time.Now().Add(-p.ago).Truncate(time.Second))
	status := corev1.PodStatus{StartTime: &now}
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

// text is an object as YAML, without what differs from cluster to cluster.
func (s *session) text(value any) string {
	if object, ok := value.(map[string]any); ok {
		if _, ok := object["metadata"]; ok {
			for _, field := range []string{"uid", "creationTimestamp", "managedFields"} {
				unstructured.RemoveNestedField(object, "metadata", field)
			}
			for _, annotation := range []string{"sampan.dev/schedule", "sampan.dev/explained-until", "sampan.dev/backoff"} {
				unstructured.RemoveNestedField(object, "metadata", "annotations", annotation)
			}
			if a, found, _ := unstructured.NestedMap(object, "metadata", "annotations"); found && len(a) == 0 {
				unstructured.RemoveNestedField(object, "metadata", "annotations")
			}
		}
	}
	withoutRevisions(value)
	out, err := sigsyaml.Marshal(value)
	if err != nil {
		return err.Error()
	}
	return s.normal(string(out))
}

// withoutRevisions drops them from references too: a reference in a CronJob's
// status.active has the revision at which the Job was created, and the engine's
// none, because one commit writes both.
func withoutRevisions(value any) {
	switch v := value.(type) {
	case map[string]any:
		delete(v, "resourceVersion")
		for _, field := range v {
			withoutRevisions(field)
		}
	case []any:
		for _, item := range v {
			withoutRevisions(item)
		}
	}
}

var normalForms = []struct {
	pattern *regexp.Regexp
	text    string
}{
	{regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`), "<uid>"},
	{regexp.MustCompile(`"?\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z"?`), "<time>"},
	{regexp.MustCompile(`"?\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d([+-]\d\d:\d\d)"?`), "<time>$1"},
	{regexp.MustCompile(`-\d{8}\b`), "-<minute>"},
	{regexp.MustCompile(`[A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d [+-]\d{4}`), "<time>"},
	{regexp.MustCompile(`\b([0-9a-z][0-9a-z-]{56}[0-9a-z])[bcdfghjklmnpqrstvwxz2456789]{5}\b`), "$1<random>"}, // of the full 63 characters
	{regexp.MustCompile(`-[bcdfghjklmnpqrstvwxz2456789]{5}\b`), "-<random>"},
	{regexp.MustCompile(`(ResourceVersion in record \(|resource version: \d+, current: )\d+`), "$1<revision>"},
	// A patch that makes no object is refused with the object that it was for.
	{regexp.MustCompile(`patch: Invalid value: "\{.*\}": `), `patch: Invalid value: "<object>": `},
	// The fields in a template that may not change stand in another order since
	// Kubernetes 1.37, and some in another place.
	{regexp.MustCompile(`(spec\.template(\.spec)?: Invalid value: )\{.*?\}(: field is immutable)`), "$1<template>$3"},
}

// normal replaces what is different each time: names, times and UIDs.
func (s *session) normal(text string) string {
	text = strings.ReplaceAll(text, s.namespace, "<namespace>")
	text = s.unspell(text)
	for _, f := range normalForms {
		text = f.pattern.ReplaceAllString(text, f.text)
	}
	return text
}

var agoPattern = regexp.MustCompile(`<([0-9a-z]+) ago>`)

// since writes times into a text that speaks of "<10m ago>".
func since(text string) string {
	return agoPattern.ReplaceAllStringFunc(text, func(m string) string {
		d, err := time.ParseDuration(agoPattern.FindStringSubmatch(m)[1])
		if err != nil {
			return m
		}
		return time.Now().Add(-d).UTC().Format(time.RFC3339)
	})
}
