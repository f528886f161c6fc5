package kind

import (
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/kubernetes/pkg/registry/storage/csidriver"
	"k8s.io/kubernetes/pkg/registry/storage/csinode"
	"k8s.io/kubernetes/pkg/registry/storage/csistoragecapacity"
	"k8s.io/kubernetes/pkg/registry/storage/storageclass"
	"k8s.io/kubernetes/pkg/registry/storage/volumeattachment"
	"k8s.io/kubernetes/pkg/registry/storage/volumeattributesclass"
)

const noStorage = "volumes are directories of this machine, and no driver makes them"

// StorageClass is the row of storage.k8s.io/v1 storageclasses.
func StorageClass() *Kind {
	return storageClassTable(kubernetes[storagev1.StorageClass, storagev1.StorageClassList](Names{
		Resource: StorageClasses, Singular: "storageclass", ShortNames: []string{"sc"},
		GVK: storagev1.SchemeGroupVersion.WithKind("StorageClass"),
	}, storageclass.Strategy, nil).answersObject())
}

// VolumeAttributesClass is the row of storage.k8s.io/v1 volumeattributesclasses.
func VolumeAttributesClass() *Kind {
	return volumeAttributesClassTable(kubernetes[storagev1.VolumeAttributesClass, storagev1.VolumeAttributesClassList](Names{
		Resource: VolumeAttributesClasses, Singular: "volumeattributesclass", ShortNames: []string{"vac"},
		GVK: storagev1.SchemeGroupVersion.WithKind("VolumeAttributesClass"),
	}, volumeattributesclass.Strategy, nil).answersObject().withoutEffect(noStorage))
}

// VolumeAttachment is the row of storage.k8s.io/v1 volumeattachments.
func VolumeAttachment() *Kind {
	return volumeAttachmentTable(kubernetes[storagev1.VolumeAttachment, storagev1.VolumeAttachmentList](Names{
		Resource: VolumeAttachments, Singular: "volumeattachment",
		GVK: storagev1.SchemeGroupVersion.WithKind("VolumeAttachment"),
	}, volumeattachment.Strategy, volumeattachment.StatusStrategy).answersObject().withoutEffect(noStorage))
}

// CSIDriver is the row of storage.k8s.io/v1 csidrivers.
func CSIDriver() *Kind {
	return csiDriverTable(kubernetes[storagev1.CSIDriver, storagev1.CSIDriverList](Names{
		Resource: CSIDrivers, Singular: "csidriver",
		GVK: storagev1.SchemeGroupVersion.WithKind("CSIDriver"),
	}, csidriver.Strategy, nil).answersObject().withoutEffect(noStorage))
}

// CSINode is the row of storage.k8s.io/v1 csinodes.
func CSINode() *Kind {
	return csiNodeTable(kubernetes[storagev1.CSINode, storagev1.CSINodeList](Names{
		Resource: CSINodes, Singular: "csinode",
		GVK: storagev1.SchemeGroupVersion.WithKind("CSINode"),
	}, csinode.Strategy, csinode.StatusStrategy).answersObject().withoutEffect(noStorage))
}

// CSIStorageCapacity is the row of storage.k8s.io/v1 csistoragecapacities.
func CSIStorageCapacity() *Kind {
	return csiStorageCapacityTable(kubernetes[storagev1.CSIStorageCapacity, storagev1.CSIStorageCapacityList](Names{
		Resource: CSIStorageCapacities, Singular: "csistoragecapacity",
		GVK: storagev1.SchemeGroupVersion.WithKind("CSIStorageCapacity"),
	}, csistoragecapacity.Strategy, nil).withoutEffect(noStorage))
}
