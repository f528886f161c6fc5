package claim

import (
	"cmp"
	"errors"
	"slices"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/component-helpers/storage/volume"
	"k8s.io/utils/ptr"

	"github.com/sampan-batch/sampan/internal/kind"
)

// isBound reports whether the binding of a claim is complete.
func isBound(c *corev1.PersistentVolumeClaim) bool {
	return c.Spec.VolumeName != "" && metav1.HasAnnotation(c.ObjectMeta, volume.AnnBindCompleted)
}

// isDelayed reports whether a claim waits for a pod before it is bound.
func (l *Ledger) isDelayed(c *corev1.PersistentVolumeClaim) bool {
	class := l.class(volume.GetPersistentVolumeClaimClass(c))
	return class != nil && ptr.Deref(class.VolumeBindingMode, storagev1.VolumeBindingImmediate) == storagev1.VolumeBindingWaitForFirstConsumer
}

// candidates are the volumes that a claim may be bound to as far as an index knows: those that
// are for it, and those of its class that are for nobody, without those that were taken in this
// very ledger.
func (l *Ledger) candidates(c *corev1.PersistentVolumeClaim) (all []*corev1.PersistentVolume) {
	for _, term := range [...]string{
		kind.ClaimVolumes(c.Namespace, c.Name), kind.FreeVolumes(volume.GetPersistentVolumeClaimClass(c)),
	} {
		for obj := range l.View.Index(kind.PersistentVolumes, term) {
			all = append(all, l.volume(obj.GetName()))
		}
	}
	return all
}

// match finds the volume for a claim, nil if there is none. On a node the volume has to be
// reachable from there; without, a claim that waits for a pod gets only what is for it alone.
func (l *Ledger) match(c *corev1.PersistentVolumeClaim, node *corev1.Node) *corev1.PersistentVolume {
	fitting := slices.DeleteFunc(l.candidates(c), func(v *corev1.PersistentVolume) bool { return !volume.CheckAccessModes(c, v) })
	// Those that can do least come first, as in Kubernetes' index: a claim does not take what
	// others need more.
	modes := func(v *corev1.PersistentVolume) int { return len(v.Spec.AccessModes) }
	slices.SortStableFunc(fitting, func(a, b *corev1.PersistentVolume) int { return cmp.Compare(modes(a), modes(b)) })
	for len(fitting) > 0 {
		end := slices.IndexFunc(fitting, func(v *corev1.PersistentVolume) bool { return modes(v) != modes(fitting[0]) })
		if end < 0 {
			end = len(fitting)
		}
		// The error is of a selector that validation lets nobody write.
		found, err := volume.FindMatchingVolume(c, fitting[:end], node, nil, node == nil && l.isDelayed(c), true)
		if err == nil && found != nil {
			return found
		}
		fitting = fitting[end:]
	}
	return nil
}

// bind binds a claim and a volume to each other.
func (l *Ledger) bind(c *corev1.PersistentVolumeClaim, v *corev1.PersistentVolume) {
	if bound, changed, err := volume.GetBindVolumeToClaim(v, c); err == nil && changed {
		*l.changeVolume(v) = *bound
	}
	l.setVolumePhase(l.volume(v.Name), corev1.VolumeBound)
	l.bindClaim(c, v)
}

// bindClaim makes a claim say that it is bound to a volume.
func (l *Ledger) bindClaim(c *corev1.PersistentVolumeClaim, v *corev1.PersistentVolume) {
	next := l.changeClaim(c)
	if next.Spec.VolumeName != v.Name {
		next.Spec.VolumeName = v.Name
		annotateOnce(&next.ObjectMeta, volume.AnnBoundByController)
	}
	annotateOnce(&next.ObjectMeta, volume.AnnBindCompleted)
	next.Status.AccessModes = slices.Clone(v.Spec.AccessModes)
	if next.Status.Phase != corev1.ClaimBound {
		next.Status.Phase, next.Status.Capacity = corev1.ClaimBound, v.Spec.Capacity.DeepCopy()
		next.Status.CurrentVolumeAttributesClassName = v.Spec.VolumeAttributesClassName
	}
}

// unbind gives a volume back that names a claim which is bound elsewhere.
func (l *Ledger) unbind(v *corev1.PersistentVolume) {
	next := l.changeVolume(v)
	if metav1.HasAnnotation(v.ObjectMeta, volume.AnnBoundByController) {
		next.Spec.ClaimRef = nil
		delete(next.Annotations, volume.AnnBoundByController)
	} else {
		next.Spec.ClaimRef.UID = "" // who made it wants it for the claim of this name
	}
	l.setVolumePhase(next, corev1.VolumeAvailable)
}

func annotateOnce(meta *metav1.ObjectMeta, name string) {
	if !metav1.HasAnnotation(*meta, name) {
		metav1.SetMetaDataAnnotation(meta, name, "yes")
	}
}

// setVolumePhase sets the phase, and when that was.
func (l *Ledger) setVolumePhase(v *corev1.PersistentVolume, phase corev1.PersistentVolumePhase) {
	if v.Status.Phase == phase {
		return
	}
	at := metav1.NewTime(l.now)
	next := l.changeVolume(v)
	next.Status.Phase, next.Status.Message, next.Status.LastPhaseTransitionTime = phase, "", &at
}

// pend makes a claim say that it has no volume.
func (l *Ledger) pend(c *corev1.PersistentVolumeClaim, phase corev1.PersistentVolumeClaimPhase) {
	next := l.changeClaim(c)
	next.Status.Phase = phase
	next.Status.AccessModes, next.Status.Capacity, next.Status.CurrentVolumeAttributesClassName = nil, nil, nil
}

// satisfies says why a volume is none that a claim may ask for by its name.
func satisfies(v *corev1.PersistentVolume, c *corev1.PersistentVolumeClaim) error {
	switch {
	case v.DeletionTimestamp != nil:
		return errors.New("the volume is marked for deletion \"" + v.Name + "\"")
	case v.Spec.Capacity.Storage().Cmp(*c.Spec.Resources.Requests.Storage()) < 0:
		return errors.New("requested PV is too small")
	case volume.GetPersistentVolumeClass(v) != volume.GetPersistentVolumeClaimClass(c):
		return errors.New("storageClassName does not match")
	case ptr.Deref(v.Spec.VolumeAttributesClassName, "") != ptr.Deref(c.Spec.VolumeAttributesClassName, ""):
		return errors.New("volumeAttributesClassName does not match")
	case volume.CheckVolumeModeMismatches(&c.Spec, &v.Spec):
		return errors.New("incompatible volumeMode")
	case !volume.CheckAccessModes(c, v):
		return errors.New("incompatible accessMode")
	}
	return nil
}
