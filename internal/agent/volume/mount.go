package volume

import (
	"errors"
	"fmt"
	"path"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/sampan-batch/sampan/internal/agent/runspec"
	"github.com/sampan-batch/sampan/internal/kind"
	"github.com/sampan-batch/sampan/internal/runner"
)

// Mounts returns what a container of the pod mounts. env is the container's
// environment, to which subPathExpr refers.
func (p *Pod) Mounts(c *corev1.Container, env *runspec.Env) ([]runner.Mount, error) {
	mounts := make([]runner.Mount, 0, len(c.VolumeMounts))
	for i := range c.VolumeMounts {
		vm := &c.VolumeMounts[i]
		if v := p.volume(vm.Name); v != nil && vm.MountPath == kind.TokenDir && !needed(v, p.Class) {
			continue
		}
		m, err := p.mount(vm, env)
		if err != nil {
			if vm.SubPath != "" || vm.SubPathExpr != "" {
				err = fmt.Errorf("failed to prepare subPath for volumeMount %q of container %q: %w", vm.Name, c.Name, err)
			}
			return nil, err
		}
		mounts = append(mounts, m)
	}
	return mounts, nil
}

func (p *Pod) mount(vm *corev1.VolumeMount, env *runspec.Env) (runner.Mount, error) {
	v := p.volume(vm.Name)
	if v == nil {
		return runner.Mount{}, fmt.Errorf("cannot find volume %q to mount", vm.Name)
	}
	target := vm.MountPath
	if !path.IsAbs(target) {
		target = "/" + target
	}
	m := runner.Mount{Volume: v.Name, Target: target, ReadOnly: vm.ReadOnly}
	if vm.MountPropagation != nil && *vm.MountPropagation != corev1.MountPropagationNone {
		m.Propagation = string(*vm.MountPropagation)
	}
	if r := vm.RecursiveReadOnly; r != nil && *r == corev1.RecursiveReadOnlyEnabled {
		return m, errors.New("recursiveReadOnly: Enabled is not supported by this node")
	}
	switch {
	case v.HostPath != nil:
		m.Source, m.Recursive = v.HostPath.Path, true
	case v.PersistentVolumeClaim != nil, v.Ephemeral != nil:
		pv, readOnly, err := p.claimed(v)
		if err != nil {
			return m, err
		}
		m.Source, _ = pathOf(pv)
		m.Recursive, m.ReadOnly = true, m.ReadOnly || readOnly
	case v.EmptyDir == nil:
		m.ReadOnly = true // what the API says is not the container's to change
	}
	var err error
	m.SubPath, err = subPath(vm, env)
	return m, err
}

// subPath returns the path inside the volume that the container asks for, "" if
// it wants the volume itself.
func subPath(vm *corev1.VolumeMount, env *runspec.Env) (string, error) {
	sub := vm.SubPath
	if vm.SubPathExpr != "" {
		missing := ""
		sub = runspec.Expand(vm.SubPathExpr, func(name string) (string, bool) {
			value, ok := env.Lookup(name)
			if !ok && missing == "" {
				missing = name
			}
			return value, ok
		})
		if missing != "" {
			return "", fmt.Errorf("missing value for %q", missing)
		}
	}
	switch {
	case sub == "":
		return "", nil
	case path.IsAbs(sub):
		return "", fmt.Errorf("error SubPath `%s` must not be an absolute path", sub)
	}
	for part := range strings.SplitSeq(sub, "/") {
		if part == ".." {
			return "", fmt.Errorf("unable to provision SubPath `%s`: must not contain '..'", sub)
		}
	}
	return path.Clean(sub), nil
}

func (p *Pod) volume(name string) *corev1.Volume {
	for i := range p.Object.Spec.Volumes {
		if v := &p.Object.Spec.Volumes[i]; v.Name == name {
			return v
		}
	}
	return nil
}
