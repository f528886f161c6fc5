package kind

import (
	"fmt"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"

	"github.com/sampan-batch/sampan/internal/kind/upstream"
)

// The labels of a namespace say what its pods may be (pod-security.kubernetes.io/enforce): whatever they
// like, nothing that reaches out of them (baseline), or what has been given up all rights that it does not
// need (restricted). The checks are Kubernetes' own; when they are made is what its admission plugin
// PodSecurity does.

// securityOf is what the labels of a namespace ask for. What they do not say is that pods may be anything;
// what is not to be understood, that they may be next to nothing.
func securityOf(ns *corev1.Namespace) (api.Policy, field.ErrorList) {
	anything := api.LevelVersion{Level: api.LevelPrivileged, Version: api.LatestVersion()}
	return api.PolicyToEvaluate(ns.Labels, api.Policy{Enforce: anything, Audit: anything, Warn: anything})
}

// violations are what a pod has that a level does not allow.
func violations(lv api.LevelVersion, meta *metav1.ObjectMeta, spec *corev1.PodSpec) policy.AggregateCheckResult {
	if lv.Level == api.LevelPrivileged {
		return policy.AggregateCheckResult{Allowed: true}
	}
	checks := upstream.CheckSecurity(lv, meta, spec)
	if class := spec.RuntimeClassName; class != nil && *class == hostClass {
		checks = append(checks, policy.CheckResult{ForbiddenReason: "process of the machine", ForbiddenDetail: fmt.Sprintf("pod must not set spec.runtimeClassName=%q", hostClass)})
	}
	return policy.AggregateCheckResults(checks)
}

// withinSecurity says what a pod has that its namespace does not allow.
func withinSecurity(obj Object, others Getter) error {
	ns, ok := others.Get(Namespaces.Key("", obj.GetNamespace()))
	if !ok {
		return nil // it is refused for that, unless nobody knows of namespaces
	}
	pod := obj.(*corev1.Pod)
	level, _ := securityOf(ns.(*corev1.Namespace))
	found := violations(level.Enforce, &pod.ObjectMeta, &pod.Spec)
	if found.Allowed {
		return nil
	}
	return fmt.Errorf("violates PodSecurity %q: %s", level.Enforce.String(), found.ForbiddenDetail())
}

// staysWithinSecurity is withinSecurity for a pod that is changed: what was there before its namespace had
// this label may go on, as long as it does not become something else.
func staysWithinSecurity(obj, old Object, others Getter) error {
	if !becomesAnother(obj.(*corev1.Pod), old.(*corev1.Pod)) {
		return nil
	}
	return withinSecurity(obj, others)
}

// becomesAnother reports whether another program is run in a pod, of what can be changed there.
func becomesAnother(pod, old *corev1.Pod) bool {
	images := func(p *corev1.Pod) (all []string) {
		for _, list := range [][]corev1.Container{p.Spec.InitContainers, p.Spec.Containers} {
			for i := range list {
				all = append(all, list[i].Name+" "+list[i].Image)
			}
		}
		return all
	}
	if !slices.Equal(images(pod), images(old)) {
		return true
	}
	for i := range pod.Spec.EphemeralContainers {
		c := &pod.Spec.EphemeralContainers[i]
		if !slices.ContainsFunc(old.Spec.EphemeralContainers, func(o corev1.EphemeralContainer) bool { return o.Name == c.Name && o.Image == c.Image }) {
			return true
		}
	}
	return false
}

// SecurityWarnings are what a client is told who writes a pod, or what makes pods, that its namespace warns
// of, or gives a namespace labels that pods which are there violate. old is nil on create.
func SecurityWarnings(req *Request, obj, old Object) []string {
	if ns, ok := obj.(*corev1.Namespace); ok {
		if old == nil {
			return nil
		}
		return warnOfPods(req, ns, old.(*corev1.Namespace))
	}
	meta, spec := PodOf(obj)
	if spec == nil {
		return nil
	}
	ns, ok := req.Namespace(obj.GetNamespace())
	if !ok {
		return nil
	}
	level, _ := securityOf(ns)
	if pod, ok := obj.(*corev1.Pod); ok {
		if old != nil && !becomesAnother(pod, old.(*corev1.Pod)) || !violations(level.Enforce, meta, spec).Allowed {
			return nil // nothing new, or an error
		}
	}
	found := violations(level.Warn, meta, spec)
	if found.Allowed {
		return nil
	}
	return []string{fmt.Sprintf("would violate PodSecurity %q: %s", level.Warn.String(), found.ForbiddenDetail())}
}

// PodOf returns what an object has, or makes, of a pod; nil if it has to do with none.
func PodOf(obj Object) (*metav1.ObjectMeta, *corev1.PodSpec) {
	var of *corev1.PodTemplateSpec
	switch obj := obj.(type) {
	case *corev1.Pod:
		return &obj.ObjectMeta, &obj.Spec
	case *corev1.PodTemplate:
		of = &obj.Template
	case *corev1.ReplicationController:
		of = obj.Spec.Template
	case *appsv1.ReplicaSet:
		of = &obj.Spec.Template
	case *appsv1.Deployment:
		of = &obj.Spec.Template
	case *appsv1.DaemonSet:
		of = &obj.Spec.Template
	case *appsv1.StatefulSet:
		of = &obj.Spec.Template
	case *batchv1.Job:
		of = &obj.Spec.Template
	case *batchv1.CronJob:
		of = &obj.Spec.JobTemplate.Spec.Template
	}
	if of == nil {
		return nil, nil
	}
	return &of.ObjectMeta, &of.Spec
}

// mostPodsLookedAt bounds how many pods are looked at when a label is set, as in Kubernetes.
const mostPodsLookedAt = 3000

// warnOfPods tells which pods are not what a namespace demands from now on. They go on.
func warnOfPods(req *Request, ns, old *corev1.Namespace) []string {
	now, _ := securityOf(ns)
	before, _ := securityOf(old)
	sameOrLess := now.Enforce.Version == before.Enforce.Version && api.CompareLevels(now.Enforce.Level, before.Enforce.Level) < 1
	if now.Enforce.Level == api.LevelPrivileged || sameOrLess || req.Pods == nil {
		return nil
	}
	pods, all := firstOfEach(req.Pods(ns.Name))
	first, number := map[string]string{}, map[string]int{} // by what is wrong: the first pod's name, and how many there are
	for _, pod := range pods {
		found := violations(now.Enforce, &pod.ObjectMeta, &pod.Spec)
		if found.Allowed {
			continue
		}
		why := found.ForbiddenReason()
		if name, seen := first[why]; !seen || pod.Name < name {
			first[why] = pod.Name
		}
		number[why]++
	}
	return warningsOf(ns.Name, now.Enforce, first, number, len(pods), all)
}

// firstOfEach returns as many pods as are looked at, one of each controller first, and how many there are.
func firstOfEach(pods []*corev1.Pod) (chosen []*corev1.Pod, all int) {
	var others []*corev1.Pod
	seen := map[any]bool{}
	for _, pod := range pods {
		ref := metav1.GetControllerOfNoCopy(pod)
		if ref != nil && seen[ref.UID] {
			others = append(others, pod)
			continue
		}
		if ref != nil {
			seen[ref.UID] = true
		}
		chosen = append(chosen, pod)
	}
	chosen = append(chosen, others...)
	return chosen[:min(len(chosen), mostPodsLookedAt)], len(pods)
}

func warningsOf(namespace string, level api.LevelVersion, first map[string]string, number map[string]int, looked, all int) []string {
	var warnings, of []string
	if looked < all {
		warnings = append(warnings, fmt.Sprintf("new PodSecurity enforce level only checked against the first %d of %d existing pods", looked, all))
	}
	if len(first) > 0 {
		warnings = append(warnings, fmt.Sprintf("existing pods in namespace %q violate the new PodSecurity enforce level %q", namespace, level.String()))
	}
	for why, name := range first {
		switch n := number[why]; n {
		case 1:
		case 2:
			name += " (and 1 other pod)"
		default:
			name += fmt.Sprintf(" (and %d other pods)", n-1)
		}
		of = append(of, name+": "+why)
	}
	slices.Sort(of)
	return append(warnings, of...)
}

// validateSecurity refuses labels that say no level, unless they were there before.
func validateSecurity(ns, old *corev1.Namespace) field.ErrorList {
	_, errs := securityOf(ns)
	if len(errs) == 0 || old == nil {
		return errs
	}
	if _, before := securityOf(old); len(before) > 0 && errs.ToAggregate().Error() == before.ToAggregate().Error() {
		return nil
	}
	return errs
}
