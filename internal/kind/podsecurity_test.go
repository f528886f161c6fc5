package kind

import (
	"fmt"
	"iter"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/sampan-batch/sampan/internal/change"
)

// oneNamespace is a world with a namespace and nothing else.
type oneNamespace struct{ ns *corev1.Namespace }

func (o oneNamespace) Get(key change.Key) (Object, bool) {
	return o.ns, key == Namespaces.Key("", o.ns.Name)
}
func (oneNamespace) List(change.Resource, string) iter.Seq[Object] { return func(func(Object) bool) {} }

// secured is a namespace with labels of Pod Security: "enforce=baseline warn=restricted".
func secured(labels string) *corev1.Namespace {
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "ns", ResourceVersion: "1", Labels: map[string]string{}}}
	for _, label := range strings.Fields(labels) {
		name, value, _ := strings.Cut(label, "=")
		ns.Labels["pod-security.kubernetes.io/"+name] = value
	}
	return ns
}

func podWith(edits ...func(*corev1.Pod)) *corev1.Pod {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "p"}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "i"}}}}
	for _, edit := range edits {
		edit(pod)
	}
	return pod
}

func privileged(pod *corev1.Pod) {
	pod.Spec.Containers[0].SecurityContext = &corev1.SecurityContext{Privileged: ptr.To(true)}
}

func weak(pod *corev1.Pod) {
	pod.Spec.SecurityContext = &corev1.PodSecurityContext{RunAsNonRoot: ptr.To(true), SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault}}
	pod.Spec.Containers[0].SecurityContext = &corev1.SecurityContext{AllowPrivilegeEscalation: ptr.To(false), Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}}}
}

func ofHost(pod *corev1.Pod) { pod.Spec.RuntimeClassName = ptr.To("host") }

const (
	wantsPrivileged = `privileged (container "c" must not set securityContext.privileged=true)`
	isNotWeak       = `allowPrivilegeEscalation != false (container "c" must set securityContext.allowPrivilegeEscalation=false), unrestricted capabilities (container "c" must set securityContext.capabilities.drop=["ALL"]), ` +
		`runAsNonRoot != true (pod or container "c" must set securityContext.runAsNonRoot=true), seccompProfile (pod or container "c" must set securityContext.seccompProfile.type to "RuntimeDefault" or "Localhost")`
	wantsHost = `process of the machine (pod must not set spec.runtimeClassName="host")`
)

// TestPodSecurity: what a namespace does not allow is refused, in Kubernetes' words, whoever creates it, and
// what it warns of is told.
func TestPodSecurity(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		labels  string
		pod     *corev1.Pod
		refused string
		warned  string
	}{
		{"", podWith(privileged), "", ""},
		{"enforce=privileged", podWith(privileged), "", ""},
		{"enforce=baseline", podWith(), "", ""},
		{"enforce=baseline", podWith(privileged), `violates PodSecurity "baseline:latest": ` + wantsPrivileged, ""},
		{"enforce=baseline enforce-version=v1.20", podWith(privileged), `violates PodSecurity "baseline:v1.20": ` + wantsPrivileged, ""},
		{"enforce=restricted", podWith(), `violates PodSecurity "restricted:latest": ` + isNotWeak, ""},
		{"enforce=restricted", podWith(weak), "", ""},
		{"enforce=baseline warn=restricted", podWith(), "", `would violate PodSecurity "restricted:latest": ` + isNotWeak},
		{"warn=baseline", podWith(privileged), "", `would violate PodSecurity "baseline:latest": ` + wantsPrivileged},
		{"enforce=baseline", podWith(ofHost), `violates PodSecurity "baseline:latest": ` + wantsHost, ""},
		{"enforce=restricted", podWith(weak, ofHost), `violates PodSecurity "restricted:latest": ` + wantsHost, ""},
		{"", podWith(ofHost), "", ""},
		{"enforce=sloppy", podWith(), `violates PodSecurity "restricted:latest": ` + isNotWeak, ""}, // it was not always refused
		{"enforce=baseline", podWith(func(pod *corev1.Pod) { pod.Namespace = "unknown"; privileged(pod) }), "", ""},
	} {
		ns := secured(c.labels)
		got := ""
		if err := Pod().Create.Limit(c.pod, oneNamespace{ns}); err != nil {
			got = err.Error()
		}
		if got != c.refused {
			t.Errorf("%s: %s\nwant %s", c.labels, got, c.refused)
		}
		req := &Request{Namespace: func(name string) (*corev1.Namespace, bool) { return ns, name == ns.Name }}
		if got := strings.Join(SecurityWarnings(req, c.pod, nil), "\n"); got != c.warned {
			t.Errorf("%s: it warns: %s\nwant %s", c.labels, got, c.warned)
		}
	}
}

// TestPodSecurityOfUpdates: what is there may go on, but not become another program.
func TestPodSecurityOfUpdates(t *testing.T) {
	t.Parallel()
	view := oneNamespace{secured("enforce=baseline")}
	old := podWith(privileged)
	ephemeral := func(pod *corev1.Pod) {
		pod.Spec.EphemeralContainers = append(pod.Spec.EphemeralContainers, corev1.EphemeralContainer{EphemeralContainerCommon: corev1.EphemeralContainerCommon{Name: "e", Image: "i"}})
	}
	for name, c := range map[string]struct {
		next    *corev1.Pod
		refused bool
	}{
		"a label":                {podWith(privileged, func(pod *corev1.Pod) { pod.Labels = map[string]string{"a": "b"} }), false},
		"another image":          {podWith(privileged, func(pod *corev1.Pod) { pod.Spec.Containers[0].Image = "other" }), true},
		"an ephemeral container": {podWith(privileged, ephemeral), true},
	} {
		for _, rules := range append([]Update{Pod().Update}, Pod().Parts[0].Update) {
			if err := rules.Limit(c.next, old, view); (err != nil) != c.refused {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	if err := Pod().Update.Limit(podWith(privileged, ephemeral), podWith(privileged, ephemeral), view); err != nil {
		t.Errorf("one that was there: %v", err)
	}
}

// TestPodSecurityOfTemplates: who writes what makes pods hears of what will not be.
func TestPodSecurityOfTemplates(t *testing.T) {
	t.Parallel()
	ns := secured("enforce=baseline")
	req := &Request{Namespace: func(string) (*corev1.Namespace, bool) { return ns, true }}
	template := corev1.PodTemplateSpec{Spec: podWith(privileged).Spec}
	for _, obj := range []Object{
		&corev1.PodTemplate{Template: template}, &corev1.ReplicationController{Spec: corev1.ReplicationControllerSpec{Template: &template}},
		&appsv1.ReplicaSet{Spec: appsv1.ReplicaSetSpec{Template: template}}, &appsv1.Deployment{Spec: appsv1.DeploymentSpec{Template: template}},
		&appsv1.DaemonSet{Spec: appsv1.DaemonSetSpec{Template: template}}, &appsv1.StatefulSet{Spec: appsv1.StatefulSetSpec{Template: template}},
		&batchv1.Job{Spec: batchv1.JobSpec{Template: template}}, &batchv1.CronJob{Spec: batchv1.CronJobSpec{JobTemplate: batchv1.JobTemplateSpec{Spec: batchv1.JobSpec{Template: template}}}},
	} {
		if got, want := SecurityWarnings(req, obj, obj), []string{`would violate PodSecurity "baseline:latest": ` + wantsPrivileged}; !slices.Equal(got, want) {
			t.Errorf("%T: %q", obj, got)
		}
	}
	for _, obj := range []Object{&corev1.ReplicationController{}, &corev1.ConfigMap{}, &appsv1.Deployment{Spec: appsv1.DeploymentSpec{Template: corev1.PodTemplateSpec{Spec: podWith().Spec}}}} {
		if got := SecurityWarnings(req, obj, nil); len(got) > 0 {
			t.Errorf("%T: %q", obj, got)
		}
	}
}

// TestPodSecurityOfNamespaces: labels that say no level are refused, and who sets one hears which pods are
// not of it.
func TestPodSecurityOfNamespaces(t *testing.T) {
	t.Parallel()
	const wrong = `metadata.labels[pod-security.kubernetes.io/enforce]: Invalid value: "sloppy": must be one of privileged, baseline, restricted`
	if errs := Namespace().Create.Validate(secured("enforce=sloppy")); len(errs) != 1 || errs[0].Error() != wrong {
		t.Errorf("created: %v", errs)
	}
	if errs := Namespace().Update.Validate(secured("enforce=sloppy"), secured("")); len(errs) != 1 || errs[0].Error() != wrong {
		t.Errorf("changed: %v", errs)
	}
	if errs := Namespace().Update.Validate(secured("enforce=sloppy"), secured("enforce=sloppy")); len(errs) > 0 {
		t.Errorf("as it was: %v", errs)
	}
	var pods []*corev1.Pod
	for i, edit := range []func(*corev1.Pod){privileged, weak, privileged, ofHost, privileged} {
		pods = append(pods, podWith(edit, func(pod *corev1.Pod) { pod.Name = fmt.Sprint("p", i) }))
	}
	req := &Request{Pods: func(string) []*corev1.Pod { return pods }}
	warned := func(now, before string) string {
		return strings.Join(SecurityWarnings(req, secured(now), secured(before)), "\n")
	}
	const want = `existing pods in namespace "ns" violate the new PodSecurity enforce level "baseline:latest"
p0 (and 2 other pods): privileged
p3: process of the machine`
	if got := warned("enforce=baseline", ""); got != want {
		t.Errorf("it warns\n%s\nwant\n%s", got, want)
	}
	for now, before := range map[string]string{"enforce=privileged": "", "enforce=baseline": "enforce=restricted", "enforce=restricted": "enforce=restricted", "warn=baseline": ""} {
		if got := warned(now, before); got != "" {
			t.Errorf("%s after %s: it warns: %s", now, before, got)
		}
	}
	for i := range mostPodsLookedAt {
		pods = append(pods, podWith(weak, func(pod *corev1.Pod) {
			pod.Name, pod.OwnerReferences = fmt.Sprint("q", i), []metav1.OwnerReference{{UID: "u", Controller: ptr.To(true)}}
		}))
	}
	if got, want := warned("enforce=baseline", ""), fmt.Sprintf("new PodSecurity enforce level only checked against the first %d of %d existing pods\n", mostPodsLookedAt, len(pods))+want; got != want {
		t.Errorf("it warns\n%s\nwant\n%s", got, want)
	}
}

// BenchmarkPodSecurity is what a pod costs in a namespace without labels, and in a closed one.
func BenchmarkPodSecurity(b *testing.B) {
	for _, labels := range []string{"", "enforce=restricted"} {
		b.Run(labels, func(b *testing.B) {
			view, pod := oneNamespace{secured(labels)}, podWith(weak)
			b.ReportAllocs()
			for b.Loop() {
				if err := withinSecurity(pod, view); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
