package volume

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/sampan-batch/sampan/internal/agent/recipe"
	"github.com/sampan-batch/sampan/internal/runner"
)

// Mounts returns what a container of the pod mounts. env is the container's
// environment, to which subPathExpr refers. Setup has succeeded before.
func (p *Pod) Mounts(c *corev1.Container, env *recipe.Env) ([]runner.Mount, error) {
	mounts := make([]runner.Mount, 0, len(c.VolumeMounts))
	for i := range c.VolumeMounts {
		vm := &c.VolumeMounts[i]
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

func (p *Pod) mount(vm *corev1.VolumeMount, env *recipe.Env) (runner.Mount, error) {
	v := p.volume(vm.Name)
	if v == nil {
		return runner.Mount{}, fmt.Errorf("cannot find volume %q to mount", vm.Name)
	}
	target := vm.MountPath
	if !path.IsAbs(target) {
		target = "/" + target
	}
	m := runner.Mount{Source: p.path(v), Target: target, ReadOnly: vm.ReadOnly}
	if vm.MountPropagation != nil && *vm.MountPropagation != corev1.MountPropagationNone {
		m.Propagation = string(*vm.MountPropagation)
	}
	if r := vm.RecursiveReadOnly; r != nil && *r == corev1.RecursiveReadOnlyEnabled {
		return m, errors.New("recursiveReadOnly: Enabled is not supported by this node")
	}
	switch {
	case v.HostPath != nil:
		m.Source, m.Recursive = v.HostPath.Path, true
	case v.EmptyDir != nil:
		if v.EmptyDir.Medium == corev1.StorageMediumMemory {
			m.Tmpfs, m.TmpfsSize = true, p.tmpfsSize(v.EmptyDir)
		}
	default:
		m.ReadOnly = true // what the API says is not the container's to change
	}
	return p.below(m, vm, env)
}

// tmpfsSize bounds a volume in memory: by its own limit, else by that of all
// containers, if each has one.
func (p *Pod) tmpfsSize(src *corev1.EmptyDirVolumeSource) int64 {
	if src.SizeLimit != nil && !src.SizeLimit.IsZero() {
		return src.SizeLimit.Value()
	}
	var sum int64
	for i := range p.Object.Spec.Containers {
		limit, ok := p.Object.Spec.Containers[i].Resources.Limits[corev1.ResourceMemory]
		if !ok {
			return 0
		}
		sum += limit.Value()
	}
	return sum
}

// below narrows m to the subPath that the container asks for. It is made when
// it is missing, and never leaves the volume: os.Root refuses links that do.
func (p *Pod) below(m runner.Mount, vm *corev1.VolumeMount, env *recipe.Env) (runner.Mount, error) {
	sub, err := subPath(vm, env)
	if err != nil || sub == "" {
		return m, err
	}
	if m.Tmpfs {
		return m, errors.New("subPath in a volume of medium Memory is not supported by this node")
	}
	root, err := os.OpenRoot(m.Source)
	if err != nil {
		return m, err
	}
	defer root.Close()
	if _, err := root.Stat(sub); errors.Is(err, fs.ErrNotExist) {
		if err := root.MkdirAll(sub, 0o750); err != nil {
			return m, err
		}
		if err := p.ownSubPath(root, sub); err != nil {
			return m, err
		}
	} else if err != nil {
		return m, err
	}
	return resolve(m, sub)
}

// ownSubPath gives a new subPath the mode and group of the volume it is in.
func (p *Pod) ownSubPath(root *os.Root, sub string) error {
	info, err := root.Stat(".")
	if err != nil {
		return err
	}
	if gid, ok := p.fsGroup(); ok {
		if err := root.Chown(sub, -1, gid); err != nil && os.Geteuid() == 0 {
			return err
		}
	}
	return root.Chmod(sub, info.Mode().Perm()|info.Mode()&os.ModeSetgid)
}

// resolve follows the links on the way to sub, which lead nowhere outside. A
// process that can write to the volume may change them at any time; the runner
// is told to follow none on the way from the volume to the source.
func resolve(m runner.Mount, sub string) (runner.Mount, error) {
	volume, err := filepath.EvalSymlinks(m.Source)
	if err != nil {
		return m, err
	}
	source, err := filepath.EvalSymlinks(filepath.Join(volume, sub))
	if err != nil {
		return m, err
	}
	if rel, err := filepath.Rel(volume, source); err != nil || !filepath.IsLocal(rel) {
		return m, fmt.Errorf("subPath %q leads out of the volume", sub)
	}
	m.Within, m.Source = volume, source
	return m, nil
}

// subPath returns the path inside the volume that the container asks for, "" if
// it wants the volume itself.
func subPath(vm *corev1.VolumeMount, env *recipe.Env) (string, error) {
	sub := vm.SubPath
	if vm.SubPathExpr != "" {
		missing := ""
		sub = recipe.Expand(vm.SubPathExpr, func(name string) (string, bool) {
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
