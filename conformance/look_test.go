package conformance

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/utils/ptr"

	"github.com/sampan-batch/sampan/internal/kind"
	"github.com/sampan-batch/sampan/internal/reason"
)

// listOf returns the objects of a kind that have the labels.
func listOf[T any](s *session, kind, labels string) ([]T, error) {
	r, err := s.resource(kind)
	if err != nil {
		return nil, err
	}
	list, err := r.List(context.Background(), metav1.ListOptions{LabelSelector: labels})
	if err != nil {
		return nil, err
	}
	all := make([]T, len(list.Items))
	for i := range list.Items {
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(list.Items[i].Object, &all[i]); err != nil {
			return nil, err
		}
	}
	return all, nil
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

func (s *session) jobs([]string) (string, error) {
	all, err := listOf[batchv1.Job](s, "job", "")
	if err != nil {
		return "", err
	}
	var lines []string
	for _, j := range all {
		line, state := j.Name, "unfinished"
		for _, c := range j.Status.Conditions {
			if c.Type == batchv1.JobComplete || c.Type == batchv1.JobFailed {
				state = string(c.Type)
			}
		}
		line += " " + state
		if j.DeletionTimestamp != nil {
			line += " terminating"
		}
		for _, f := range j.Finalizers {
			line += " " + f
		}
		for _, ref := range j.OwnerReferences {
			line += " owner=" + ref.Name
		}
		lines = append(lines, s.normal(line)+"\n")
	}
	slices.Sort(lines)
	return strings.Join(lines, ""), nil
}

func (s *session) pods(args []string) (string, error) {
	if strings.Contains(args[0], "=") {
		return s.podsWith(args[0])
	}
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

// labelled are the pods that have a label, the oldest first.
func (s *session) labelled(label string) ([]corev1.Pod, error) {
	pods, err := listOf[corev1.Pod](s, "pod", label)
	slices.SortFunc(pods, func(a, b corev1.Pod) int { return older(&a, &b) })
	return pods, err
}

func isReady(pod *corev1.Pod) bool {
	c := kind.PodCondition(pod, corev1.PodReady)
	return c != nil && c.Status == corev1.ConditionTrue
}

// podsWith shows what matters of the pods of a set, which is not what matters of a Job's.
func (s *session) podsWith(label string) (string, error) {
	pods, err := s.labelled(label)
	if err != nil {
		return "", err
	}
	var lines []string
	for _, p := range pods {
		line := fmt.Sprintf("%s %s", p.Name, p.Status.Phase)
		if isReady(&p) {
			line += " ready"
		}
		if p.DeletionTimestamp != nil {
			line += " terminating"
		}
		if ref := metav1.GetControllerOf(&p); ref == nil {
			line += " orphan"
		} else {
			line += fmt.Sprintf(" of %s/%s", strings.ToLower(ref.Kind), ref.Name)
		}
		if p.Spec.Hostname != "" {
			line += " hostname=" + p.Spec.Hostname
		}
		for _, c := range p.Spec.Containers {
			line += " " + c.Image
		}
		for _, key := range slices.Sorted(maps.Keys(p.Labels)) {
			line += fmt.Sprintf(" %s=%s", key, p.Labels[key])
		}
		for _, f := range p.Finalizers {
			line += " " + f
		}
		lines = append(lines, s.normal(line)+"\n")
	}
	slices.Sort(lines)
	return strings.Join(lines, ""), nil
}

// endpoints shows a line for each endpoint of a Service, and one for the ports of each
// slice: in which order a slice has them nobody has decided.
func (s *session) endpoints(args []string) (string, error) {
	all, err := listOf[discoveryv1.EndpointSlice](s, "endpointslice", discoveryv1.LabelServiceName+"="+args[0])
	if err != nil {
		return "", err
	}
	var lines []string
	for _, slice := range all {
		line := fmt.Sprintf("%s of %s:", slice.AddressType, slice.Labels[discoveryv1.LabelManagedBy])
		for _, p := range slice.Ports {
			line += fmt.Sprintf(" %s=%d/%s", ptr.Deref(p.Name, "<none>"), ptr.Deref(p.Port, 0), ptr.Deref(p.Protocol, ""))
		}
		lines = append(lines, s.normal(line)+"\n")
		for _, e := range slice.Endpoints {
			line := strings.Join(e.Addresses, " ")
			line += fmt.Sprintf(" ready=%v serving=%v terminating=%v", said(e.Conditions.Ready), said(e.Conditions.Serving), said(e.Conditions.Terminating))
			if e.TargetRef != nil {
				line += fmt.Sprintf(" %s/%s", strings.ToLower(e.TargetRef.Kind), e.TargetRef.Name)
			}
			if e.NodeName != nil {
				line += " node=" + *e.NodeName
			}
			if e.Hostname != nil {
				line += " hostname=" + *e.Hostname
			}
			lines = append(lines, s.normal(line)+"\n")
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, ""), nil
}

// said is a condition that may not be said.
func said(is *bool) string {
	if is == nil {
		return "<none>"
	}
	return fmt.Sprint(*is)
}

// events shows those that Kubernetes writes, too. Those that it does not are listed for
// users in docs/differences.md.
func (s *session) events([]string) (string, error) {
	all, err := listOf[corev1.Event](s, "event", "")
	if err != nil {
		return "", err
	}
	var lines []string
	for _, e := range all {
		if !reason.IsOurs(e.InvolvedObject.Kind, e.Reason) {
			lines = append(lines, s.normal(fmt.Sprintf("%s/%s %s %s: %s", strings.ToLower(e.InvolvedObject.Kind), e.InvolvedObject.Name,
				e.Type, e.Reason, e.Message))+"\n")
		}
	}
	slices.Sort(lines)
	return strings.Join(slices.Compact(lines), ""), nil
}

// secondsPattern is an age of something that a session has just made.
var secondsPattern = regexp.MustCompile(`^\d+s$`)

func (s *session) table(args []string) (string, error) {
	at, known := s.place(args[0])
	if !known {
		return "", fmt.Errorf("no kind %q", args[0])
	}
	path := s.path(at)
	if len(args) > 1 {
		path += "/" + args[1]
	}
	req, err := http.NewRequest(http.MethodGet, s.host+path, nil)
	if err != nil {
		return "", err
	}
	req.Header.Set("Accept", "application/json;as=Table;v=v1;g=meta.k8s.io")
	resp, err := s.http.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		body, err := io.ReadAll(resp.Body)
		return s.normal(fmt.Sprintf("%d %s\n", resp.StatusCode, heart(body))), err
	}
	var table metav1.Table
	if err := json.NewDecoder(resp.Body).Decode(&table); err != nil {
		return "", err
	}
	var out strings.Builder
	for i, c := range table.ColumnDefinitions {
		if i > 0 {
			out.WriteString(" | ")
		}
		out.WriteString(c.Name)
		if c.Priority > 0 {
			fmt.Fprintf(&out, "(%d)", c.Priority)
		}
	}
	out.WriteString("\n")
	for _, row := range table.Rows {
		for i, cell := range row.Cells {
			if i > 0 {
				out.WriteString(" | ")
			}
			text := fmt.Sprint(cell)
			if table.ColumnDefinitions[i].Name == "Age" && secondsPattern.MatchString(text) {
				text = "<age>"
			}
			out.WriteString(text)
		}
		out.WriteString("\n")
	}
	return s.normal(out.String()), nil
}
