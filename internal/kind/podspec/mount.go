package podspec

import (
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"
)

// mounts checks where a container mounts its volumes. What is wrong with a
// sub-path or with propagation is reported under the path of the list.
func (c *checker) mounts(path *field.Path, ctr *corev1.Container) {
	devices := map[string]string{}
	for _, d := range ctr.VolumeDevices {
		devices[d.Name] = d.DevicePath
	}
	points := sets.New[string]()
	for i := range ctr.VolumeMounts {
		m, at := &ctr.VolumeMounts[i], path.Index(i)
		if m.Name == "" {
			c.required(at.Child("name"), "")
		}
		if c.volumes[m.Name] == nil {
			c.add(field.NotFound(at.Child("name"), m.Name))
		}
		if m.MountPath == "" {
			c.required(at.Child("mountPath"), "")
		}
		if points.Has(m.MountPath) {
			c.invalid(at.Child("mountPath"), m.MountPath, "must be unique")
		}
		points.Insert(m.MountPath)
		if _, ok := devices[m.Name]; ok {
			c.invalid(at.Child("name"), m.Name, "must not already exist in volumeDevices")
		}
		if slices.Contains(slices.Collect(maps.Values(devices)), m.MountPath) {
			c.invalid(at.Child("mountPath"), m.MountPath, "must not already exist as a path in volumeDevices")
		}
		if m.SubPath != "" {
			c.descendingPath(path.Child("subPath"), m.SubPath)
		}
		if m.SubPathExpr != "" {
			if m.SubPath != "" {
				c.invalid(at.Child("subPathExpr"), m.SubPathExpr, "subPathExpr and subPath are mutually exclusive")
			}
			c.descendingPath(path.Child("subPathExpr"), m.SubPathExpr)
		}
		c.mountPropagation(path.Child("mountPropagation"), m.MountPropagation, ctr)
		c.recursiveReadOnly(path.Child("recursiveReadOnly"), m)
	}
}

func (c *checker) mountPropagation(path *field.Path, mode *corev1.MountPropagationMode, ctr *corev1.Container) {
	if mode == nil {
		return
	}
	oneOf(c, path, *mode, corev1.MountPropagationBidirectional, corev1.MountPropagationHostToContainer, corev1.MountPropagationNone)
	privileged := ctr.SecurityContext != nil && ptr.Deref(ctr.SecurityContext.Privileged, false)
	if *mode == corev1.MountPropagationBidirectional && !privileged {
		c.forbidden(path, "Bidirectional mount propagation is available only to privileged containers")
	}
}

func (c *checker) recursiveReadOnly(path *field.Path, m *corev1.VolumeMount) {
	if m.RecursiveReadOnly == nil {
		return
	}
	switch *m.RecursiveReadOnly {
	case corev1.RecursiveReadOnlyDisabled:
	case corev1.RecursiveReadOnlyEnabled, corev1.RecursiveReadOnlyIfPossible:
		if !m.ReadOnly {
			c.forbidden(path, "may only be specified when readOnly is true")
		}
		if ptr.Deref(m.MountPropagation, corev1.MountPropagationNone) != corev1.MountPropagationNone {
			c.forbidden(path, "may only be specified when mountPropagation is None or not specified")
		}
	default:
		oneOf(c, path, *m.RecursiveReadOnly, corev1.RecursiveReadOnlyDisabled,
			corev1.RecursiveReadOnlyEnabled, corev1.RecursiveReadOnlyIfPossible)
	}
}

// devices checks the volumes that a container uses as raw devices.
func (c *checker) devices(path *field.Path, ctr *corev1.Container) {
	mounts := map[string]string{}
	for _, m := range ctr.VolumeMounts {
		mounts[m.Name] = m.MountPath
	}
	names, paths := sets.New[string](), sets.New[string]()
	for i, d := range ctr.VolumeDevices {
		at := path.Index(i)
		c.deviceVolume(at.Child("name"), d.Name, names)
		if d.DevicePath == "" {
			c.required(at.Child("devicePath"), "")
		}
		if paths.Has(d.DevicePath) {
			c.invalid(at.Child("devicePath"), d.DevicePath, "must be unique")
		}
		if back := newChecker(nil, nil); d.DevicePath != "" {
			if back.noBacksteps(at, d.DevicePath); len(back.errs) > 0 {
				c.invalid(at.Child("devicePath"), d.DevicePath, "can not contain backsteps ('..')")
			} else {
				paths.Insert(d.DevicePath)
			}
		}
		if _, ok := mounts[d.Name]; ok {
			c.invalid(at.Child("name"), d.Name, "must not already exist in volumeMounts")
		}
		if slices.Contains(slices.Collect(maps.Values(mounts)), d.DevicePath) {
			c.invalid(at.Child("devicePath"), d.DevicePath, "must not already exist as a path in volumeMounts")
		}
		if d.Name != "" {
			names.Insert(d.Name)
		}
	}
}

func (c *checker) deviceVolume(path *field.Path, name string, taken sets.Set[string]) {
	if name == "" {
		c.required(path, "")
	}
	if taken.Has(name) {
		c.invalid(path, name, "must be unique")
	}
	v := c.volumes[name]
	if v == nil {
		c.add(field.NotFound(path, name))
	} else if v.PersistentVolumeClaim == nil && v.Ephemeral == nil {
		c.invalid(path, name, "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode")
	}
}
