package kind

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/kubernetes/pkg/registry/core/persistentvolume"
	"k8s.io/kubernetes/pkg/registry/core/persistentvolumeclaim"
)

// PersistentVolume is the row of v1 persistentvolumes.
func PersistentVolume() *Kind {
	k := kubernetes[corev1.PersistentVolume, corev1.PersistentVolumeList](Names{
		Resource: PersistentVolumes, Singular: "persistentvolume", ShortNames: []string{"pv"},
		GVK: corev1.SchemeGroupVersion.WithKind("PersistentVolume"),
	}, persistentvolume.Strategy, persistentvolume.StatusStrategy).answersObject().withoutEffect("no claim is bound to a volume")
	k.Select.Fields = selects(func(v *corev1.PersistentVolume) fields.Set { return fields.Set{"name": v.Name} })
	return persistentVolumeTable(k)
}

// PersistentVolumeClaim is the row of v1 persistentvolumeclaims.
func PersistentVolumeClaim() *Kind {
	k := kubernetes[corev1.PersistentVolumeClaim, corev1.PersistentVolumeClaimList](Names{
		Resource: PersistentVolumeClaims, Singular: "persistentvolumeclaim", ShortNames: []string{"pvc"},
		GVK: corev1.SchemeGroupVersion.WithKind("PersistentVolumeClaim"),
	}, persistentvolumeclaim.Strategy, persistentvolumeclaim.StatusStrategy).answersObject().withoutEffect("no volume is bound to a claim, and a pod that names one waits")
	k.Create.Limit, k.Update.Limit = withinLimits, withinLimits
	k.Select.Fields = selects(func(c *corev1.PersistentVolumeClaim) fields.Set { return fields.Set{"name": c.Name} })
	return persistentVolumeClaimTable(k)
}
