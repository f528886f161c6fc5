package plan

import (
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	"k8s.io/utils/ptr"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/kind"
)

// references are the objects of the input that pods refer to. In a run there are no
// others, and none will come.
type references struct {
	keys     map[string]map[string]bool // of ConfigMaps and Secrets, by kind/namespace/name
	accounts map[string]*corev1.ServiceAccount
	classes  classes
}

func newReferences(items []*item) references {
	r := references{map[string]map[string]bool{}, map[string]*corev1.ServiceAccount{}, nil}
	for _, it := range items {
		at := it.obj.GetNamespace() + "/" + it.obj.GetName()
		keys := map[string]bool{}
		switch obj := it.obj.(type) {
		case *corev1.ConfigMap:
			for key := range maps.Keys(obj.Data) {
				keys[key] = true
			}
			for key := range maps.Keys(obj.BinaryData) {
				keys[key] = true
			}
			r.keys["ConfigMap/"+at] = keys
		case *corev1.Secret:
			for key := range maps.Keys(obj.Data) {
				keys[key] = true
			}
			for key := range maps.Keys(obj.StringData) {
				keys[key] = true
			}
			r.keys["Secret/"+at] = keys
		case *corev1.ServiceAccount:
			r.accounts[at] = obj
		case *schedulingv1.PriorityClass:
			r.classes = append(r.classes, obj)
		}
	}
	return r
}

// classes are the PriorityClasses of the input, as the admission of pods asks for them.
type classes []kind.Object

// Get implements kind.Getter.
func (c classes) Get(key change.Key) (kind.Object, bool) {
	for _, class := range c {
		if key == kind.PriorityClasses.Key("", class.GetName()) {
			return class, true
		}
	}
	return nil, false
}

// List implements kind.Getter.
func (c classes) List(resource change.Resource, _ string) iter.Seq[kind.Object] {
	if resource != kind.PriorityClasses {
		return slices.Values[classes](nil)
	}
	return slices.Values(c)
}

// reference is one of a pod to a ConfigMap or a Secret.
type reference struct {
	kind, name string
	keys       []string // that it must have
	path       string   // of what names it
}

// refer refuses what refers to something that is not there.
func (p *planner) refer(it *item, have references) {
	if p.Partial {
		return
	}
	ns := it.obj.GetNamespace()
	for _, ref := range referencesOf(it) {
		keys, ok := have.keys[ref.kind+"/"+ns+"/"+ref.name]
		if !ok {
			it.refuse(ref.path, "the %s %q is not in the input, so that nothing could start", ref.kind, ref.name)
			continue
		}
		for _, key := range ref.keys {
			if !keys[key] {
				it.refuse(ref.path, "the %s %q has no key %q, so that nothing could start; it has %s", ref.kind, ref.name, key, listed(keys))
			}
		}
	}
	p.referClaims(it)
	p.admit(it, have)
}

// admit asks what the API's admission will say to the pods.
func (p *planner) admit(it *item, have references) {
	pod := &corev1.Pod{ObjectMeta: *it.pod.ObjectMeta.DeepCopy(), Spec: *it.pod.Spec.DeepCopy()}
	pod.Namespace = it.obj.GetNamespace()
	account := kind.AccountKey(pod)
	if err := kind.AdmitAccount(pod, have.accounts[account.Namespace+"/"+account.Name]); err != nil {
		it.refuse(it.spec("serviceAccountName"), "the ServiceAccount %q is not in the input, so that no pod could be made", account.Name)
	}
	if err := kind.AdmitPod(pod, have.classes); err != nil {
		switch text := err.Error(); {
		case strings.Contains(text, "PriorityClass"):
			it.refuse(it.spec("priorityClassName"), "%s in the input", err)
		case strings.Contains(text, "RuntimeClass"):
			it.refuse(it.spec("runtimeClassName"), "%s; here there are the classes %s", err, strings.Join(kind.RuntimeClassNames(), " and "))
		default:
			it.refuse("", "%s", err)
		}
	}
}

func listed(keys map[string]bool) string {
	if len(keys) == 0 {
		return "none"
	}
	return some(slices.Sorted(maps.Keys(keys)))
}

// referencesOf lists what must be there before a pod can start.
func referencesOf(it *item) []reference {
	var all []reference
	add := func(kind, name string, optional *bool, path string, keys ...string) {
		if name != "" && !ptr.Deref(optional, false) {
			all = append(all, reference{kind, name, keys, path})
		}
	}
	it.containers(func(at string, c *corev1.Container) {
		for j, e := range c.Env {
			if e.ValueFrom == nil {
				continue
			}
			if r := e.ValueFrom.ConfigMapKeyRef; r != nil {
				add("ConfigMap", r.Name, r.Optional, fmt.Sprintf("%s.env[%d].valueFrom.configMapKeyRef.name", at, j), r.Key)
			}
			if r := e.ValueFrom.SecretKeyRef; r != nil {
				add("Secret", r.Name, r.Optional, fmt.Sprintf("%s.env[%d].valueFrom.secretKeyRef.name", at, j), r.Key)
			}
		}
		for j, e := range c.EnvFrom {
			if r := e.ConfigMapRef; r != nil {
				add("ConfigMap", r.Name, r.Optional, fmt.Sprintf("%s.envFrom[%d].configMapRef.name", at, j))
			}
			if r := e.SecretRef; r != nil {
				add("Secret", r.Name, r.Optional, fmt.Sprintf("%s.envFrom[%d].secretRef.name", at, j))
			}
		}
	})
	volumesOf(it, add)
	return all
}

// volumesOf adds what the pods' volumes show.
func volumesOf(it *item, add func(kind, name string, optional *bool, path string, keys ...string)) {
	spec := &it.pod.Spec
	for i := range spec.Volumes {
		v, at := &spec.Volumes[i], it.spec("volumes[%d]", i)
		if s := v.ConfigMap; s != nil {
			add("ConfigMap", s.Name, s.Optional, at+".configMap.name", keysOf(s.Items)...)
		}
		if s := v.Secret; s != nil {
			add("Secret", s.SecretName, s.Optional, at+".secret.secretName", keysOf(s.Items)...)
		}
		if v.Projected == nil {
			continue
		}
		for _, s := range v.Projected.Sources {
			if s.ConfigMap != nil {
				add("ConfigMap", s.ConfigMap.Name, s.ConfigMap.Optional, at+".projected", keysOf(s.ConfigMap.Items)...)
			}
			if s.Secret != nil {
				add("Secret", s.Secret.Name, s.Secret.Optional, at+".projected", keysOf(s.Secret.Items)...)
			}
		}
	}
}

func keysOf(items []corev1.KeyToPath) []string {
	var keys []string
	for _, item := range items {
		keys = append(keys, item.Key)
	}
	return keys
}
