package claim

import (
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/component-helpers/storage/volume"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/kind"
	"github.com/sampan-batch/sampan/internal/reason"
)

// DecideVolume returns what is to be done about a volume now.
//
// One of ours whose policy is Delete goes in two steps. Its deletion begins, which nobody can
// take back, and it says so (Released, Terminating); then its directory goes, and with that the
// finalizer. Whoever changes the policy in time keeps the data.
func DecideVolume(now time.Time, s State, v *corev1.PersistentVolume) change.Set {
	var set change.Set
	l := New(now, s)
	l.protect(v)
	unclaimed := l.syncVolume(v)
	_, ours := DirectoryOf(s.Dir, v)
	goes := ours && v.Spec.PersistentVolumeReclaimPolicy == corev1.PersistentVolumeReclaimDelete
	switch next := l.volume(v.Name); {
	case v.DeletionTimestamp != nil && next.Status.Phase != corev1.VolumeBound:
		next = l.changeVolume(v)
		drop(next, kind.VolumeProtection)
		if v.Annotations[volume.AnnDynamicallyProvisioned] == kind.LocalPath {
			drop(next, volume.PVDeletionProtectionFinalizer) // ours, or what somebody calls ours
		}
	case v.DeletionTimestamp == nil && unclaimed && goes:
		next = l.changeVolume(v)
		if w, ok := l.VolumeKind.Removal(next, change.RevOf(v), now, nil); ok {
			return change.Set{Writes: []change.Write{w}}
		}
	}
	l.Write(&set)
	return set
}

// TakesDirectory reports whether a write that replaces v by next (nil: by nothing) is the one
// before which the directory of the volume has to go.
func TakesDirectory(dir string, v, next *corev1.PersistentVolume) (path string, takes bool) {
	path, ours := DirectoryOf(dir, v)
	held := func(v *corev1.PersistentVolume) bool {
		return v != nil && slices.Contains(v.Finalizers, volume.PVDeletionProtectionFinalizer)
	}
	return path, ours && v.DeletionTimestamp != nil && v.Spec.PersistentVolumeReclaimPolicy == corev1.PersistentVolumeReclaimDelete && held(v) && !held(next)
}

// protect gives a volume the finalizers that it is to have: as long as it is not being deleted,
// that of volumes, and that of the provisioner if its directory is to go with it.
func (l *Ledger) protect(v *corev1.PersistentVolume) {
	if v.DeletionTimestamp != nil {
		return
	}
	want := map[string]bool{kind.VolumeProtection: true}
	if _, ours := DirectoryOf(l.Dir, v); ours {
		want[volume.PVDeletionProtectionFinalizer] = v.Spec.PersistentVolumeReclaimPolicy == corev1.PersistentVolumeReclaimDelete
	}
	for _, finalizer := range [...]string{kind.VolumeProtection, volume.PVDeletionProtectionFinalizer} {
		wanted, known := want[finalizer]
		switch has := slices.Contains(v.Finalizers, finalizer); {
		case known && wanted && !has:
			next := l.changeVolume(v)
			next.Finalizers = append(next.Finalizers, finalizer)
		case known && !wanted && has:
			drop(l.changeVolume(v), finalizer)
		}
	}
}

// syncVolume finds the phase of a volume. It reports whether the claim that it was bound to is
// gone, or has another volume.
func (l *Ledger) syncVolume(v *corev1.PersistentVolume) (unclaimed bool) {
	ref := v.Spec.ClaimRef
	if ref == nil || ref.UID == "" {
		l.setVolumePhase(v, corev1.VolumeAvailable)
		return false
	}
	c := l.claim(ref.Namespace, ref.Name)
	if c != nil && c.UID != ref.UID {
		c = nil // another one of that name
	}
	switch {
	case c == nil:
		l.reclaim(v)
		return true
	case c.Spec.VolumeName == "":
		if volume.CheckVolumeModeMismatches(&c.Spec, &v.Spec) {
			l.noteVolume(v, corev1.EventTypeWarning, reason.VolumeMismatch, fmt.Sprintf("Cannot bind PersistentVolume to requested PersistentVolumeClaim %q due to incompatible volumeMode.", c.Name))
			l.noteClaim(c, corev1.EventTypeWarning, reason.VolumeMismatch, fmt.Sprintf("Cannot bind PersistentVolume %q to requested PersistentVolumeClaim due to incompatible volumeMode.", v.Name))
		}
		// Else the look at the claim binds it.
	case c.Spec.VolumeName == v.Name:
		l.setVolumePhase(v, corev1.VolumeBound)
	case v.Annotations[volume.AnnDynamicallyProvisioned] != "" && v.Spec.PersistentVolumeReclaimPolicy == corev1.PersistentVolumeReclaimDelete:
		l.reclaim(v) // it was made for the claim, which has another
		return true
	default:
		l.unbind(v)
	}
	return false
}

// reclaim gives a volume whose claim is gone the phase that its policy asks for.
func (l *Ledger) reclaim(v *corev1.PersistentVolume) {
	if v.Status.Phase != corev1.VolumeFailed {
		l.setVolumePhase(v, corev1.VolumeReleased)
	}
	fail := func(why, message string) {
		if v.Status.Phase != corev1.VolumeFailed {
			l.setVolumePhase(v, corev1.VolumeFailed)
			l.changeVolume(v).Status.Message = message
			l.noteVolume(v, corev1.EventTypeWarning, why, message)
		}
	}
	by := v.Annotations[volume.AnnDynamicallyProvisioned]
	switch v.Spec.PersistentVolumeReclaimPolicy {
	case corev1.PersistentVolumeReclaimRetain:
	case corev1.PersistentVolumeReclaimRecycle:
		fail(reason.VolumeFailedRecycle, "No recycler plugin found for the volume!")
	case corev1.PersistentVolumeReclaimDelete:
		switch _, ours := DirectoryOf(l.Dir, v); {
		case ours:
		case by == kind.LocalPath:
			fail(reason.VolumeFailedDelete, "the volume is no directory of the provisioner "+kind.LocalPath+" here")
		case by == "" || strings.HasPrefix(by, "kubernetes.io/"):
			fail(reason.VolumeFailedDelete, fmt.Sprintf("error getting deleter volume plugin for volume %q: no deletable volume plugin matched", v.Name))
		}
	default:
		fail(reason.VolumeUnknownReclaimPolicy, "Volume has unrecognized PersistentVolumeReclaimPolicy")
	}
}
