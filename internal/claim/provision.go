package claim

import (
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/component-helpers/storage/volume"
	"k8s.io/utils/ptr"

	"github.com/sampan-batch/sampan/internal/kind"
	"github.com/sampan-batch/sampan/internal/reason"
)

// DirectoryOf returns the directory of a volume of the local-path provisioner: one of dir that
// has the volume's name. ok is false for any other volume, whatever its annotations say: no
// object may have a directory made or removed that is not the provisioner's.
func DirectoryOf(dir string, v *corev1.PersistentVolume) (path string, ok bool) {
	if dir == "" || v.Spec.Local == nil || v.Annotations[volume.AnnDynamicallyProvisioned] != kind.LocalPath || !strings.HasPrefix(v.Name, "pvc-") {
		return "", false
	}
	path = filepath.Join(dir, v.Name)
	return path, path == v.Spec.Local.Path
}

// provision makes a volume for a claim, and binds the two. node is where the pod goes that it is
// for; nil: it is for no pod in particular. The error says why there is none, and is the user's
// to mend, or waits for the disk.
func (l *Ledger) provision(c *corev1.PersistentVolumeClaim, class *storagev1.StorageClass, node *corev1.Node) error {
	err := l.canProvision(c, class)
	if err == nil && l.Refused != nil {
		l.again()
		err = fmt.Errorf("failed to provision volume with StorageClass %q: %w", class.Name, l.Refused)
	}
	if err != nil {
		l.noteClaim(c, corev1.EventTypeWarning, reason.ProvisioningFailed, err.Error())
		return err
	}
	name := "pvc-" + string(c.UID)
	if there := l.volume(name); there != nil {
		l.bind(c, there) // its claim lost it, and was set back by hand
		return nil
	}
	v := &corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{
			Name:        name,
			Annotations: map[string]string{volume.AnnDynamicallyProvisioned: kind.LocalPath},
			Finalizers:  []string{kind.VolumeProtection},
		},
		Spec: corev1.PersistentVolumeSpec{
			Capacity:                      corev1.ResourceList{corev1.ResourceStorage: c.Spec.Resources.Requests.Storage().DeepCopy()},
			AccessModes:                   slices.Clone(c.Spec.AccessModes),
			PersistentVolumeReclaimPolicy: ptr.Deref(class.ReclaimPolicy, corev1.PersistentVolumeReclaimDelete),
			StorageClassName:              volume.GetPersistentVolumeClaimClass(c),
			VolumeMode:                    ptr.To(corev1.PersistentVolumeFilesystem),
			VolumeAttributesClassName:     c.Spec.VolumeAttributesClassName,
			PersistentVolumeSource:        corev1.PersistentVolumeSource{Local: &corev1.LocalVolumeSource{Path: filepath.Join(l.Dir, name)}},
			NodeAffinity:                  &corev1.VolumeNodeAffinity{Required: reach(c, node)},
		},
	}
	if v.Spec.PersistentVolumeReclaimPolicy == corev1.PersistentVolumeReclaimDelete {
		v.Finalizers = append(v.Finalizers, volume.PVDeletionProtectionFinalizer)
	}
	bound, _, err := volume.GetBindVolumeToClaim(v, c)
	if err != nil {
		return err // claims have a reference
	}
	delete(bound.Annotations, volume.AnnBoundByController) // it was made for the claim
	l.addVolume(bound)
	next := l.changeClaim(c)
	metav1.SetMetaDataAnnotation(&next.ObjectMeta, volume.AnnBetaStorageProvisioner, class.Provisioner)
	metav1.SetMetaDataAnnotation(&next.ObjectMeta, volume.AnnStorageProvisioner, class.Provisioner)
	if node != nil {
		metav1.SetMetaDataAnnotation(&next.ObjectMeta, volume.AnnSelectedNode, node.Name)
	}
	l.bindClaim(next, bound)
	l.noteClaim(c, corev1.EventTypeNormal, reason.ProvisioningSucceeded, "Successfully provisioned volume "+name)
	return nil
}

// canProvision says what of a claim, or of its class, the provisioner cannot do.
func (l *Ledger) canProvision(c *corev1.PersistentVolumeClaim, class *storagev1.StorageClass) error {
	var err error
	switch {
	case ptr.Deref(c.Spec.VolumeMode, "") == corev1.PersistentVolumeBlock:
		return fmt.Errorf("%s does not support block volume provisioning", class.Provisioner)
	case l.Dir == "":
		err = errors.New("this engine keeps no volumes")
	case c.Spec.Selector != nil:
		err = errors.New("claim.Spec.Selector is not supported")
	case c.Spec.DataSource != nil || c.Spec.DataSourceRef != nil:
		err = errors.New("a claim with a data source is not supported")
	case ptr.Deref(c.Spec.VolumeAttributesClassName, "") != "":
		err = errors.New("volumeAttributesClassName is not supported")
	case len(class.MountOptions) > 0:
		err = errors.New("mount options are not supported")
	case len(class.Parameters) > 0:
		err = fmt.Errorf("parameters are not supported: %s", strings.Join(slices.Sorted(maps.Keys(class.Parameters)), ", "))
	}
	if err != nil {
		return fmt.Errorf("failed to provision volume with StorageClass %q: %w", class.Name, err)
	}
	return nil
}

// reach says on which nodes a new volume is. All nodes are of this machine, so that a claim which
// several nodes may use at a time is on all of them; any other is on the one of its pod, as a
// directory on one of many machines would be.
func reach(c *corev1.PersistentVolumeClaim, node *corev1.Node) *corev1.NodeSelector {
	rule := corev1.NodeSelectorRequirement{Key: corev1.LabelHostname, Operator: corev1.NodeSelectorOpExists}
	shared := slices.ContainsFunc(c.Spec.AccessModes, func(m corev1.PersistentVolumeAccessMode) bool {
		return m == corev1.ReadWriteMany || m == corev1.ReadOnlyMany
	})
	if node != nil && !shared && node.Labels[corev1.LabelHostname] != "" {
		rule.Operator, rule.Values = corev1.NodeSelectorOpIn, []string{node.Labels[corev1.LabelHostname]}
	}
	return &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{MatchExpressions: []corev1.NodeSelectorRequirement{rule}}}}
}

// askProvisioner leaves a claim to a provisioner that is another program.
func (l *Ledger) askProvisioner(c *corev1.PersistentVolumeClaim, class *storagev1.StorageClass) {
	next := l.changeClaim(c)
	metav1.SetMetaDataAnnotation(&next.ObjectMeta, volume.AnnBetaStorageProvisioner, class.Provisioner)
	metav1.SetMetaDataAnnotation(&next.ObjectMeta, volume.AnnStorageProvisioner, class.Provisioner)
	l.noteClaim(c, corev1.EventTypeNormal, reason.ExternalProvisioning, fmt.Sprintf("Waiting for a volume to be created either by the external provisioner '%s' "+
		"or manually by the system administrator. If volume creation is delayed, please verify that "+
		"the provisioner is running and correctly registered.", class.Provisioner))
}
