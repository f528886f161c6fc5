package kind

import (
	"cmp"
	"errors"
	"iter"
	"slices"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/component-helpers/storage/ephemeral"
	"k8s.io/component-helpers/storage/volume"
	"k8s.io/kubernetes/pkg/registry/core/persistentvolume"
	"k8s.io/kubernetes/pkg/registry/core/persistentvolumeclaim"
)

// The finalizers by which a claim stays as long as pods use it, and a volume as long as a
// claim is bound to it.
const (
	ClaimProtection  = "kubernetes.io/pvc-protection"
	VolumeProtection = "kubernetes.io/pv-protection"
)

// LocalPath is the provisioner whose volumes are directories of this machine. It is called
// what the one of kind and k3s is, for that is what their StorageClasses name.
const LocalPath = "rancher.io/local-path"

// DefaultClassAnnotation marks the StorageClass of claims that name none.
const DefaultClassAnnotation = "storageclass.kubernetes.io/is-default-class"

// PersistentVolume is the row of v1 persistentvolumes.
func PersistentVolume() *Kind {
	k := kubernetes[corev1.PersistentVolume, corev1.PersistentVolumeList](Names{
		Resource: PersistentVolumes, Singular: "persistentvolume", ShortNames: []string{"pv"},
		GVK: corev1.SchemeGroupVersion.WithKind("PersistentVolume"),
	}, persistentvolume.Strategy, persistentvolume.StatusStrategy).answersObject()
	k.Create.Admit = func(obj Object, _ Getter) error {
		protect(obj, VolumeProtection)
		return nil
	}
	k.Select.Fields = selects(func(v *corev1.PersistentVolume) fields.Set { return fields.Set{"name": v.Name} })
	k.Select.Index = func(obj Object) []string { return volumeTerms(obj.(*corev1.PersistentVolume)) }
	return persistentVolumeTable(k)
}

// PersistentVolumeClaim is the row of v1 persistentvolumeclaims.
func PersistentVolumeClaim() *Kind {
	k := kubernetes[corev1.PersistentVolumeClaim, corev1.PersistentVolumeClaimList](Names{
		Resource: PersistentVolumeClaims, Singular: "persistentvolumeclaim", ShortNames: []string{"pvc"},
		GVK: corev1.SchemeGroupVersion.WithKind("PersistentVolumeClaim"),
	}, persistentvolumeclaim.Strategy, persistentvolumeclaim.StatusStrategy).answersObject()
	k.Create.Admit = func(obj Object, others Getter) error {
		protect(obj, ClaimProtection)
		claim := obj.(*corev1.PersistentVolumeClaim)
		if class := DefaultStorageClass(others); class != nil && !volume.PersistentVolumeClaimHasClass(claim) {
			claim.Spec.StorageClassName = &class.Name
		}
		return nil
	}
	k.Create.Limit = withinLimits
	k.Update.Limit = func(obj, old Object, others Getter) error {
		if err := mayGrow(obj.(*corev1.PersistentVolumeClaim), old.(*corev1.PersistentVolumeClaim), others); err != nil {
			return err
		}
		return withinLimits(obj, others)
	}
	k.Select.Fields = selects(func(c *corev1.PersistentVolumeClaim) fields.Set { return fields.Set{"name": c.Name} })
	k.Select.Index = func(obj Object) []string { return claimTerms(obj.(*corev1.PersistentVolumeClaim)) }
	return persistentVolumeClaimTable(k)
}

// protect gives a new object a finalizer. (Kubernetes: StorageObjectInUseProtection)
func protect(obj Object, finalizer string) {
	if !slices.Contains(obj.GetFinalizers(), finalizer) {
		obj.SetFinalizers(append(obj.GetFinalizers(), finalizer))
	}
}

// DefaultStorageClass is the class of claims that name none; nil if there is none. Of
// several that are marked it is the newest. (Kubernetes: DefaultStorageClass)
func DefaultStorageClass(others Getter) *storagev1.StorageClass {
	return defaultClass(func(yield func(*storagev1.StorageClass) bool) {
		for obj := range others.List(StorageClasses, "") {
			if !yield(obj.(*storagev1.StorageClass)) {
				return
			}
		}
	})
}

func defaultClass(classes iter.Seq[*storagev1.StorageClass]) (best *storagev1.StorageClass) {
	for class := range classes {
		if !isDefaultClass(class) {
			continue
		}
		if best == nil || cmp.Or(class.CreationTimestamp.Compare(best.CreationTimestamp.Time), cmp.Compare(best.Name, class.Name)) > 0 {
			best = class
		}
	}
	return best
}

func isDefaultClass(class *storagev1.StorageClass) bool {
	return class.Annotations[DefaultClassAnnotation] == "true" || class.Annotations["storageclass.beta.kubernetes.io/is-default-class"] == "true"
}

// mayGrow says why a claim may not ask for more than it did. (Kubernetes:
// PersistentVolumeClaimResize)
func mayGrow(claim, old *corev1.PersistentVolumeClaim, others Getter) error {
	if claim.Spec.Resources.Requests.Storage().Cmp(*old.Spec.Resources.Requests.Storage()) <= 0 {
		return nil
	}
	if old.Status.Phase != corev1.ClaimBound {
		//lint:ignore ST1005 Kubernetes' words
		return errors.New("Only bound persistent volume claims can be expanded")
	}
	name := volume.GetPersistentVolumeClaimClass(claim)
	if name != "" && name == volume.GetPersistentVolumeClaimClass(old) {
		class, ok := others.Get(StorageClasses.Key("", name))
		if grows := ok && class.(*storagev1.StorageClass).AllowVolumeExpansion != nil; grows && *class.(*storagev1.StorageClass).AllowVolumeExpansion {
			return nil
		}
	}
	return errors.New("only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize")
}

// ClaimName is the claim of which a pod's volume is: the one that it names, or that is made
// for it. "": of none.
func ClaimName(pod *corev1.Pod, v *corev1.Volume) string {
	switch {
	case v.PersistentVolumeClaim != nil:
		return v.PersistentVolumeClaim.ClaimName
	case v.Ephemeral != nil:
		return ephemeral.VolumeClaimName(pod, v)
	}
	return ""
}
