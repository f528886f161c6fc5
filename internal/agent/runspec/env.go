package runspec

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/kubernetes/pkg/kubelet/envvars"
	"k8s.io/utils/ptr"
)

// Objects looks up what a pod's specification refers to in its namespace. An
// absent object is an error for which IsNotFound of apierrors is true.
type Objects interface {
	ConfigMap(name string) (*corev1.ConfigMap, error)
	Secret(name string) (*corev1.Secret, error)
}

// Env is an ordered set of environment variables.
type Env struct {
	list  []string // "NAME=value"
	index map[string]int
	size  int // of all of them, in bytes
}

// Set adds the variable, or replaces its value. It refuses what no program can be
// started with.
func (e *Env) Set(name, value string) error {
	size := len(name) + len("=") + len(value)
	i, ok := e.index[name]
	if ok {
		e.size -= len(e.list[i])
	}
	if e.size += size; size > maxString || e.size > maxStrings {
		return errTooLong("env: " + name)
	}
	if ok {
		e.list[i] = name + "=" + value
		return nil
	}
	if e.index == nil {
		e.index = make(map[string]int)
	}
	e.index[name] = len(e.list)
	e.list = append(e.list, name+"="+value)
	return nil
}

// Lookup returns the variable's value.
func (e *Env) Lookup(name string) (string, bool) {
	i, ok := e.index[name]
	if !ok {
		return "", false
	}
	return e.list[i][len(name)+1:], true
}

// Environment returns the variables that the container's specification asks
// for: envFrom, then env, whose values may refer to what came before; and what it does not say of
// where the Services and the API are.
func Environment(in *Input, objects Objects) (*Env, error) {
	env, files := &Env{}, &envFiles{in: in}
	services, err := links(in)
	if err != nil {
		return nil, err
	}
	lookup := func(name string) (string, bool) {
		if value, ok := env.Lookup(name); ok {
			return value, true
		}
		return services.Lookup(name)
	}
	for i := range in.Container.EnvFrom {
		if err := envFrom(env, &in.Container.EnvFrom[i], objects); err != nil {
			return nil, err
		}
	}
	for i := range in.Container.Env {
		v := &in.Container.Env[i]
		value, ok, err := Expand(v.Value, lookup), true, error(nil)
		if v.Value == "" && v.ValueFrom != nil {
			value, ok, err = valueFrom(in, v.ValueFrom, objects, files)
		}
		if err == nil && ok {
			err = env.Set(v.Name, value)
		}
		if err != nil {
			return nil, err
		}
	}
	return env, env.complete(services)
}

// complete sets what of other is not set.
func (e *Env) complete(other *Env) error {
	for _, kv := range other.list {
		name, value, _ := strings.Cut(kv, "=")
		if _, ok := e.index[name]; ok {
			continue
		}
		if err := e.Set(name, value); err != nil {
			return err
		}
	}
	return nil
}

// links returns the variables by which containers find Services, as a kubelet makes them: for
// programs that ask Kubernetes, and for those that knew Docker's links.
func links(in *Input) (*Env, error) {
	env := &Env{}
	all, err := services(in)
	if err != nil {
		return nil, err
	}
	for _, s := range all {
		if len(s.Spec.Ports) == 0 {
			continue // one that has an address has ports, or is no Service
		}
		for _, v := range envvars.FromServices([]*corev1.Service{s}) {
			if err := env.Set(v.Name, v.Value); err != nil {
				return nil, err
			}
		}
	}
	return env, nil
}

// services are those that the container is told of: the API, as far as the pod may know of it, and
// those of its namespace, unless the pod does not want to.
func services(in *Input) (all []*corev1.Service, err error) {
	if in.API.IsValid() {
		api := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "kubernetes"}}
		api.Spec.ClusterIP, api.Spec.Ports = in.API.Addr().String(), []corev1.ServicePort{{Name: "https", Port: int32(in.API.Port())}}
		all = append(all, api)
	}
	if in.Services == nil || !ptr.Deref(in.Pod.Spec.EnableServiceLinks, corev1.DefaultEnableServiceLinks) {
		return all, nil
	}
	own, err := in.Services()
	for _, s := range own {
		if s.Namespace != metav1.NamespaceDefault || s.Name != "kubernetes" {
			all = append(all, s)
		}
	}
	return all, err
}

func envFrom(env *Env, from *corev1.EnvFromSource, objects Objects) error {
	values := map[string]string{}
	switch {
	case from.ConfigMapRef != nil:
		cm, err := objects.ConfigMap(from.ConfigMapRef.Name)
		if err != nil {
			return unless(from.ConfigMapRef.Optional, err)
		}
		values = cm.Data
	case from.SecretRef != nil:
		secret, err := objects.Secret(from.SecretRef.Name)
		if err != nil {
			return unless(from.SecretRef.Optional, err)
		}
		for k, v := range secret.Data {
			values[k] = string(v)
		}
	}
	for _, k := range sortedKeys(values) {
		if name := from.Prefix + k; validName(name) {
			if err := env.Set(name, values[k]); err != nil {
				return err
			}
		}
	}
	return nil
}

// validName reports whether a program's environment can hold the name.
func validName(name string) bool {
	return name != "" && !strings.ContainsAny(name, "=\x00")
}

// valueFrom returns the value that a variable takes from elsewhere; ok is false
// when it is optional and not there.
func valueFrom(in *Input, from *corev1.EnvVarSource, objects Objects, files *envFiles) (value string, ok bool, err error) {
	switch {
	case from.FieldRef != nil:
		value, err = PodField(in.Pod, in.Addresses, from.FieldRef.FieldPath)
		return value, err == nil, err
	case from.ResourceFieldRef != nil:
		value, err = ResourceField(in.Pod, in.Container, in.Allocatable, from.ResourceFieldRef)
		return value, err == nil, err
	case from.ConfigMapKeyRef != nil:
		ref := from.ConfigMapKeyRef
		cm, err := objects.ConfigMap(ref.Name)
		if err != nil {
			return "", false, unless(ref.Optional, err)
		}
		value, ok := cm.Data[ref.Key]
		if !ok && !isTrue(ref.Optional) {
			return "", false, fmt.Errorf("couldn't find key %v in ConfigMap %v/%v", ref.Key, in.Pod.Namespace, ref.Name)
		}
		return value, ok, nil
	case from.SecretKeyRef != nil:
		ref := from.SecretKeyRef
		secret, err := objects.Secret(ref.Name)
		if err != nil {
			return "", false, unless(ref.Optional, err)
		}
		data, ok := secret.Data[ref.Key]
		if !ok && !isTrue(ref.Optional) {
			return "", false, fmt.Errorf("couldn't find key %v in Secret %v/%v", ref.Key, in.Pod.Namespace, ref.Name)
		}
		return string(data), ok, nil
	case from.FileKeyRef != nil:
		return files.variable(from.FileKeyRef)
	}
	return "", true, nil
}

// Command returns the whole command of the container: its command and args,
// each in place of what the image has, with references expanded. The error is a
// *runner.StartError: it is too long for any program.
func Command(c *corev1.Container, entrypoint, cmd []string, env *Env) ([]string, error) {
	head, err := expandAll(c.Command, env)
	if err != nil {
		return nil, err
	}
	tail, err := expandAll(c.Args, env)
	if err != nil {
		return nil, err
	}
	if len(head) == 0 {
		head = entrypoint
		if len(tail) == 0 {
			tail = cmd
		}
	}
	return slices.Concat(head, tail), nil
}

func expandAll(list []string, env *Env) ([]string, error) {
	out, size := make([]string, len(list)), 0
	for i, s := range list {
		out[i] = Expand(s, env.Lookup)
		if size += len(out[i]); len(out[i]) > maxString || size > maxStrings {
			return nil, errTooLong("exec: argument " + strconv.Itoa(i))
		}
	}
	return out, nil
}
