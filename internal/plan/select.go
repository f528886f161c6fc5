package plan

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/sampan-batch/sampan/internal/kind"
	"github.com/sampan-batch/sampan/internal/manifest"
)

// builtIn are Kubernetes' own kinds in groups to which nobody else adds any: another
// kind in one of them is a mistake. The versions are those that were ever served.
var builtIn = map[string][]string{
	"": {"Binding", "ConfigMap", "Endpoints", "Event", "LimitRange", "Namespace", "Node", "PersistentVolume", "PersistentVolumeClaim", "Pod",
		"PodTemplate", "ReplicationController", "ResourceQuota", "Secret", "Service", "ServiceAccount"},
	"apps":        {"ControllerRevision", "DaemonSet", "Deployment", "ReplicaSet", "StatefulSet"},
	"autoscaling": {"HorizontalPodAutoscaler"},
	"batch":       {"CronJob", "Job"},
	"extensions":  {"DaemonSet", "Deployment", "Ingress", "NetworkPolicy", "PodSecurityPolicy", "ReplicaSet"},
	"policy":      {"PodDisruptionBudget", "PodSecurityPolicy"},
}

// needed reports whether a run takes objects of the kind: those that run, what they refer
// to, by what they find each other, and what they may reach. Not those that the engine writes
// itself, those that say who may do what, since no pod of a run reaches the API, and those that
// only a cluster makes something of.
func needed(k *kind.Kind) bool {
	switch k.Resource {
	case kind.Namespaces, kind.ConfigMaps, kind.Secrets, kind.ServiceAccounts, kind.PriorityClasses, kind.Pods, kind.Jobs, kind.CronJobs,
		kind.Services, kind.EndpointsOf, kind.EndpointSlices, kind.NetworkPolicies:
		return true
	}
	return slices.Contains(workloads, k.Resource)
}

// takeAll makes items of the input. The tests of a chart are what is to be run where nothing
// else ends, as "helm test" does once all is installed; else they are left out.
func (p *planner) takeAll(input []manifest.Object) []*item {
	var items []*item
	var tests []manifest.Object
	work := false
	take := func(in manifest.Object) {
		if it := p.take(in); it != nil {
			work = work || it.role == Work
			items = append(items, it)
			items = append(items, p.claimsOf(it)...)
		}
	}
	for _, in := range input {
		if _, test := hookOf(in); test {
			tests = append(tests, in)
		} else {
			take(in)
		}
	}
	alone := !work
	for _, in := range tests {
		if alone {
			take(in)
		} else {
			p.later = append(p.later, laterName(in))
		}
	}
	return items
}

// take makes an item of an object; nil when it is left out, or refused.
func (p *planner) take(in manifest.Object) *item {
	gvk := in.GroupVersionKind()
	k := p.kinds.ByGVK(gvk)
	name := nameOf(gvk.Kind, in.GetName(), in.GetGenerateName())
	later, test := hookOf(in)
	switch {
	case later && !test:
		p.later = append(p.later, laterName(in))
		return nil
	case p.sets.makes(in), everywhere(in):
		p.skipped = append(p.skipped, name)
		return nil
	case gvk.Group == "" && gvk.Kind == "PersistentVolumeClaim":
		p.claim(in)
		return nil
	case p.OnlyJobs && k != nil && slices.Contains(workloads, k.Resource):
	case k != nil && needed(k):
		it := p.decode(in, k, name)
		if it != nil && it.role == Companion && p.OnlyJobs {
			p.skipped = append(p.skipped, name)
			return nil
		}
		return it
	}
	if k == nil {
		if wrong := misnamed(p.served(), gvk); wrong != "" {
			p.errs = append(p.errs, fmt.Errorf("%s: %s: %s", in.At("kind"), name, wrong))
			return nil
		}
	}
	p.skipped = append(p.skipped, name)
	return nil
}

// served are the kinds of which something comes in a run.
func (p *planner) served() []schema.GroupVersionKind {
	var all []schema.GroupVersionKind
	for _, k := range p.kinds.All() {
		if k.NoEffect == "" {
			all = append(all, k.GVKs()...)
		}
	}
	return all
}

// misnamed says what a kind should be that nobody has: "" for one that only is not here.
func misnamed(served []schema.GroupVersionKind, gvk schema.GroupVersionKind) string {
	in := gvk.GroupVersion().String()
	for _, k := range served {
		// The same kind, in a group or version that it was in once, or never.
		if strings.EqualFold(k.Kind, gvk.Kind) && (builtIn[gvk.Group] != nil || strings.HasPrefix(gvk.Group, "batch.k8s")) {
			return fmt.Sprintf("there is no kind %q in %s: did you mean kind %s in %s?", gvk.Kind, in, k.Kind, k.GroupVersion())
		}
		// The kind, in a group that is misspelt.
		if k.Kind == gvk.Kind && gvk.Group != "" && k.Group != "" && Distance(k.Group, gvk.Group) <= 2 {
			return fmt.Sprintf("there is no kind %q in %s: did you mean %s?", gvk.Kind, in, k.GroupVersion())
		}
	}
	known := builtIn[gvk.Group]
	if known == nil || slices.Contains(known, gvk.Kind) {
		return ""
	}
	text := fmt.Sprintf("there is no kind %q in %s", gvk.Kind, in)
	best, near := "", 3
	for group, kinds := range builtIn {
		for _, k := range kinds {
			if d := Distance(strings.ToLower(k), strings.ToLower(gvk.Kind)); d < near || d == near && best != "" && group == gvk.Group {
				best, near = k, d
			}
		}
	}
	if best != "" {
		text += fmt.Sprintf(": did you mean %s?", best)
	}
	return text
}

// Distance is how many letters have to be put in, left out or changed to make b of a.
func Distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(row[j]+1, row[j+1]+1, diagonal+cost)
		}
	}
	return row[len(b)]
}

// everywhere: each cluster makes the object by itself, and this one its own.
func everywhere(in manifest.Object) bool {
	switch in.GetKind() {
	case "ConfigMap":
		return in.GetName() == "kube-root-ca.crt"
	case "Service", "Endpoints", "EndpointSlice":
		return in.GetName() == "kubernetes" && in.GetLabels()["provider"]+in.GetLabels()[discoveryv1.LabelServiceName]+in.GetLabels()[discoveryv1.LabelSkipMirror] != "" ||
			in.GetLabels()["endpoints.kubernetes.io/managed-by"] != "" || in.GetLabels()[discoveryv1.LabelManagedBy] == "endpointslice-controller.k8s.io"
	}
	return false
}

// hookOf: Helm or Argo CD runs the object at another time than at an installation; test: as a
// test of what is installed.
func hookOf(in manifest.Object) (later, test bool) {
	hooks := in.GetAnnotations()["helm.sh/hook"] + "," + in.GetAnnotations()["argocd.argoproj.io/hook"]
	for hook := range strings.SplitSeq(hooks, ",") {
		switch hook = strings.TrimSpace(hook); hook {
		case "":
		case "test", "test-success", "test-failure":
			later, test = true, true
		case "pre-delete", "post-delete", "pre-rollback", "post-rollback", "pre-upgrade", "post-upgrade", "PreDelete", "PostDelete", "SyncFail", "Skip":
			later = true
		default:
			return false, false
		}
	}
	return later, test
}

// laterName is what an object is called that is left out for its hook.
func laterName(in manifest.Object) string {
	hooks := cmp.Or(in.GetAnnotations()["helm.sh/hook"], in.GetAnnotations()["argocd.argoproj.io/hook"])
	return fmt.Sprintf("%s (%s)", nameOf(in.GetKind(), in.GetName(), in.GetGenerateName()), hooks)
}

// sets are the objects of the input that make others, as another API had them.
type sets map[types.UID]bool

func newSets(input []manifest.Object) sets {
	s := sets{}
	for _, in := range input {
		if uid := in.GetUID(); uid != "" {
			s[uid] = true
		}
	}
	return s
}

// makes: the object is made again by one of the input.
func (s sets) makes(in manifest.Object) bool {
	owner := metav1.GetControllerOfNoCopy(in)
	return owner != nil && s[owner.UID]
}

// companions are pods, and what makes pods, that never end; without work they are what
// cannot be run.
func (p *planner) companions(items []*item) {
	for _, it := range items {
		if it.role == Work {
			p.work++
		}
	}
	var beside []string
	var endless []*item
	for _, it := range items {
		_, pod := it.obj.(*corev1.Pod)
		switch {
		case it.role != Companion:
		case p.work > 0 && pod:
			p.note("%s runs as long as the others do (restartPolicy Always)", it.origin)
		case p.work > 0:
			beside = append(beside, it.origin)
		case pod:
			it.refuse(it.spec("restartPolicy"), "is Always, which is the default, so that the pod never ends; OnFailure or Never let it")
		case !p.Partial:
			endless = append(endless, it)
		}
	}
	if len(endless) > 0 {
		p.refuseEndless(endless)
	}
	for _, it := range items {
		if it.role == Companion && p.work == 0 {
			p.errs = append(p.errs, it.errs...)
			it.errs = nil
		}
	}
	if len(beside) > 0 {
		p.note("%s run%s as long as the others do", some(beside), singular(len(beside)))
	}
}

// refuseEndless says once, of the first, that nothing of an input ends.
func (p *planner) refuseEndless(all []*item) {
	var others []string
	for _, it := range all[1:] {
		others = append(others, it.origin)
	}
	too, them := "", "it"
	if len(others) > 0 {
		too, them = ", nor do "+some(others), "them"
	}
	later := ""
	if len(p.later) > 0 {
		later = "; " + p.notNow()
	}
	all[0].refuse("kind", "a %s never ends%s, and there is no Job, CronJob or Pod here that does%s; \"sampan serve\" and \"sampan apply\" run %s", all[0].kind.GVK.Kind, too, later, them)
}

// notNow says what is left out because it is for another time.
func (p *planner) notNow() string {
	if len(p.later) == 1 {
		return p.later[0] + " is left out: no installation runs it"
	}
	return some(p.later) + " are left out: no installation runs them"
}

// powerless says what has rights on the API, and with that probably a use for it.
func (p *planner) powerless(input []manifest.Object, items []*item) {
	bound := map[string]bool{}
	for _, in := range input {
		if in.GroupVersionKind().Group != rbacv1.GroupName {
			continue
		}
		subjects, _, _ := unstructured.NestedSlice(in.Object, "subjects")
		for _, s := range subjects {
			if s, ok := s.(map[string]any); ok && s["kind"] == rbacv1.ServiceAccountKind {
				name, _ := s["name"].(string)
				namespace, _ := s["namespace"].(string)
				bound[cmp.Or(namespace, p.Namespace)+"/"+name] = true
			}
		}
	}
	var names []string
	for _, it := range items {
		if it.pod != nil && bound[it.obj.GetNamespace()+"/"+cmp.Or(it.pod.Spec.ServiceAccountName, "default")] {
			names = append(names, it.origin)
		}
	}
	if len(names) > 0 {
		p.note("%s ha%s rights on the Kubernetes API, which no pod of a run reaches; with \"sampan serve\" and \"sampan apply\" they do", some(names), have(len(names)))
	}
}

func have(n int) string {
	if n == 1 {
		return "s"
	}
	return "ve"
}

// singular is what the verb of one thing ends with.
func singular(n int) string {
	if n == 1 {
		return "s"
	}
	return ""
}

// leftOut says what is not run, or refuses that.
func (p *planner) leftOut(taken int) {
	say := p.note
	if p.Strict {
		say = func(format string, args ...any) { p.errs = append(p.errs, fmt.Errorf("--strict: "+format, args...)) }
	}
	if n := len(p.skipped); n > 0 {
		say("skipped %s that a run does not need: %s", count(n, "object"), some(p.skipped))
	}
	if len(p.later) > 0 && (p.work > 0 || p.Strict) {
		say("%s", p.notNow())
	}
	if p.work == 0 && len(p.errs) == 0 && !p.Partial {
		text := "there is nothing to run: no Job, CronJob or Pod is among the " + count(taken+len(p.skipped)+len(p.later), "object")
		if len(p.skipped) > 0 {
			text += "; a run does not need " + some(p.skipped)
		}
		if len(p.later) > 0 {
			text += "; " + p.notNow()
		}
		p.errs = append(p.errs, errors.New(text))
	}
}

func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// some names a few of many.
func some(names []string) string {
	const few = 6
	if len(names) <= few+1 {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:few], ", "), len(names)-few)
}
