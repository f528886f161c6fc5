package volume

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/component-helpers/storage/ephemeral"
	"k8s.io/utils/ptr"

	"github.com/sampan-batch/sampan/internal/kind"
	"github.com/sampan-batch/sampan/internal/runner"
	"github.com/sampan-batch/sampan/internal/runner/hostpath"
)

// absentError says that what a local volume is of is not there. A kubelet names the
// PersistentVolume then, not the volume of the pod.
type absentError struct{ volume, path string }

func (e *absentError) Error() string { return fmt.Sprintf("path %q does not exist", e.path) }

// claimed returns the PersistentVolume of a volume that is a claim, and whether the pod wants it
// read-only. The rules and words are those of a kubelet.
func (p *Pod) claimed(v *corev1.Volume) (pv *corev1.PersistentVolume, readOnly bool, err error) {
	name := kind.ClaimName(p.Object, v)
	wrong := func(format string, args ...any) error {
		return fmt.Errorf("error processing PVC %s/%s: %w", p.Object.Namespace, name, fmt.Errorf(format, args...))
	}
	claim, err := p.Objects.Claim(name)
	switch {
	case err != nil:
		return nil, false, wrong("failed to fetch PVC from API server: %w", err)
	case claim.DeletionTimestamp != nil && !slices.Contains(claim.Finalizers, kind.ClaimProtection):
		return nil, false, wrong("PVC is being deleted")
	case claim.Status.Phase != corev1.ClaimBound:
		return nil, false, wrong("PVC is not bound")
	case claim.Spec.VolumeName == "":
		return nil, false, wrong("PVC has empty pvc.Spec.VolumeName")
	}
	if v.Ephemeral != nil {
		if err := ephemeral.VolumeIsForPod(p.Object, claim); err != nil {
			return nil, false, err
		}
	}
	pv, err = p.Objects.Volume(claim.Spec.VolumeName)
	switch {
	case err != nil:
		return nil, false, wrong("failed to fetch PV %s from API server: %w", claim.Spec.VolumeName, err)
	case pv.Spec.ClaimRef == nil:
		return nil, false, wrong("found PV object %s but it has a nil pv.Spec.ClaimRef indicating it is not yet bound to the claim", pv.Name)
	case pv.Spec.ClaimRef.UID != claim.UID:
		return nil, false, wrong("found PV object %s but its pv.Spec.ClaimRef.UID %s does not point to claim.UID %s", pv.Name, pv.Spec.ClaimRef.UID, claim.UID)
	}
	if err := p.checkMode(v.Name, ptr.Deref(pv.Spec.VolumeMode, corev1.PersistentVolumeFilesystem)); err != nil {
		return nil, false, err
	}
	if _, ok := pathOf(pv); !ok {
		return nil, false, fmt.Errorf("volumes of type %s are not supported by this node", nameOfSource(pv.Spec.PersistentVolumeSource))
	}
	if len(pv.Spec.MountOptions) > 0 || pv.Annotations[corev1.MountOptionAnnotation] != "" {
		return nil, false, errors.New("mount options are not supported by this node")
	}
	return pv, v.PersistentVolumeClaim != nil && v.PersistentVolumeClaim.ReadOnly, nil
}

// checkMode refuses a volume that is a device, and one that a container wants as the other thing
// than it is.
func (p *Pod) checkMode(name string, mode corev1.PersistentVolumeMode) error {
	for _, c := range slices.Concat(p.Object.Spec.InitContainers, p.Object.Spec.Containers) {
		mounted := slices.ContainsFunc(c.VolumeMounts, func(m corev1.VolumeMount) bool { return m.Name == name })
		device := slices.ContainsFunc(c.VolumeDevices, func(d corev1.VolumeDevice) bool { return d.Name == name })
		switch {
		case mounted && mode != corev1.PersistentVolumeFilesystem:
			return fmt.Errorf("volume %s has volumeMode %s, but is specified in volumeMounts", name, mode)
		case device && mode != corev1.PersistentVolumeBlock:
			return fmt.Errorf("volume %s has volumeMode %s, but is specified in volumeDevices", name, mode)
		}
	}
	if mode == corev1.PersistentVolumeBlock {
		return errors.New("volumes of mode Block are not supported by this node")
	}
	return nil
}

// pathOf returns the path of this machine that a PersistentVolume is; ok is false if it is none.
func pathOf(pv *corev1.PersistentVolume) (path string, ok bool) {
	switch {
	case pv.Spec.HostPath != nil:
		return pv.Spec.HostPath.Path, true
	case pv.Spec.Local != nil:
		return pv.Spec.Local.Path, true
	}
	return "", false
}

// setClaim looks at the path of a claim's volume. A local one has to be there: an empty directory
// in its place would be taken for one that has lost its files. It is given to the pod's fsGroup, which
// one that is anywhere on the machine, a hostPath, is not.
func (p *Pod) setClaim(ctx context.Context, v *corev1.Volume, setter Setter) error {
	pv, readOnly, err := p.claimed(v)
	if err != nil {
		return err
	}
	if pv.Spec.HostPath != nil {
		return p.hostPath(ctx, pv.Spec.HostPath)
	}
	mode, err := p.Paths.Stat(ctx, pv.Spec.Local.Path, hostpath.Nothing)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return &absentError{pv.Name, pv.Spec.Local.Path}
	case err != nil:
		return err
	case mode&unix.S_IFMT != unix.S_IFDIR:
		return errors.New("only directory and block device are supported")
	}
	group := p.fsGroup()
	if group == nil || readOnly || p.Class == runner.Host {
		return nil
	}
	policy := p.Object.Spec.SecurityContext.FSGroupChangePolicy
	return setter.SetVolume(ctx, &runner.Volume{
		Class: p.Class, PodUID: string(p.Object.UID), Name: v.Name, Source: pv.Spec.Local.Path, Group: group,
		Matching: policy != nil && *policy == corev1.FSGroupChangeOnRootMismatch,
	})
}
