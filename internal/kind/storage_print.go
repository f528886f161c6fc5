package kind

import (
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/utils/ptr"
)

// accessModes are the modes as kubectl shows them, each once.
func accessModes(modes []corev1.PersistentVolumeAccessMode) string {
	var all []string
	for _, m := range []struct {
		mode  corev1.PersistentVolumeAccessMode
		short string
	}{{corev1.ReadWriteOnce, "RWO"}, {corev1.ReadOnlyMany, "ROX"}, {corev1.ReadWriteMany, "RWX"}, {corev1.ReadWriteOncePod, "RWOP"}} {
		for _, mode := range modes {
			if mode == m.mode {
				all = append(all, m.short)
				break
			}
		}
	}
	return strings.Join(all, ",")
}

// phaseOf is the phase, or that the object is being deleted.
func phaseOf[P ~string](obj metav1.Object, phase P) string {
	if obj.GetDeletionTimestamp() != nil {
		return "Terminating"
	}
	return string(phase)
}

// classOf is the name of a storage class, which an annotation once was.
func classOf(obj metav1.Object, class string) string {
	if old, is := obj.GetAnnotations()[corev1.BetaStorageClassAnnotation]; is {
		return old
	}
	return class
}

func persistentVolumeTable(k *Kind) *Kind {
	spec, status := corev1.PersistentVolumeSpec{}.SwaggerDoc(), corev1.PersistentVolumeStatus{}.SwaggerDoc()
	columns := []metav1.TableColumnDefinition{
		column("Capacity", "string", spec["capacity"]), column("Access Modes", "string", spec["accessModes"]),
		column("Reclaim Policy", "string", spec["persistentVolumeReclaimPolicy"]), column("Status", "string", status["phase"]),
		column("Claim", "string", spec["claimRef"]), column("StorageClass", "string", "StorageClass of the pv"),
		column("VolumeAttributesClass", "string", "VolumeAttributesClass of the pv"), column("Reason", "string", status["reason"]),
		ageColumn(), wideColumn("VolumeMode", "string", spec["volumeMode"]),
	}
	return tabled(k, columns, func(v *corev1.PersistentVolume, now time.Time) []any {
		claim := ""
		if ref := v.Spec.ClaimRef; ref != nil {
			claim = ref.Namespace + "/" + ref.Name
		}
		return []any{v.Spec.Capacity.Storage().String(), accessModes(v.Spec.AccessModes), string(v.Spec.PersistentVolumeReclaimPolicy),
			phaseOf(v, v.Status.Phase), claim, classOf(v, v.Spec.StorageClassName), ptr.Deref(v.Spec.VolumeAttributesClassName, "<unset>"),
			v.Status.Reason, age(v.CreationTimestamp, now), string(ptr.Deref(v.Spec.VolumeMode, "<unset>"))}
	})
}

func persistentVolumeClaimTable(k *Kind) *Kind {
	spec, status := corev1.PersistentVolumeClaimSpec{}.SwaggerDoc(), corev1.PersistentVolumeClaimStatus{}.SwaggerDoc()
	columns := []metav1.TableColumnDefinition{
		column("Status", "string", status["phase"]), column("Volume", "string", spec["volumeName"]), column("Capacity", "string", status["capacity"]),
		column("Access Modes", "string", status["accessModes"]), column("StorageClass", "string", "StorageClass of the pvc"),
		column("VolumeAttributesClass", "string", "VolumeAttributesClass of the pvc"), ageColumn(), wideColumn("VolumeMode", "string", spec["volumeMode"]),
	}
	return tabled(k, columns, func(c *corev1.PersistentVolumeClaim, now time.Time) []any {
		capacity, modes := "", ""
		if c.Spec.VolumeName != "" {
			capacity, modes = c.Status.Capacity.Storage().String(), accessModes(c.Status.AccessModes)
		}
		return []any{phaseOf(c, c.Status.Phase), c.Spec.VolumeName, capacity, modes, classOf(c, ptr.Deref(c.Spec.StorageClassName, "")),
			ptr.Deref(c.Spec.VolumeAttributesClassName, "<unset>"), age(c.CreationTimestamp, now), string(ptr.Deref(c.Spec.VolumeMode, "<unset>"))}
	})
}

func storageClassTable(k *Kind) *Kind {
	doc := storagev1.StorageClass{}.SwaggerDoc()
	columns := []metav1.TableColumnDefinition{
		column("Provisioner", "string", doc["provisioner"]), column("ReclaimPolicy", "string", doc["reclaimPolicy"]),
		column("VolumeBindingMode", "string", doc["volumeBindingMode"]), column("AllowVolumeExpansion", "string", doc["allowVolumeExpansion"]), ageColumn(),
	}
	tabled(k, columns, func(c *storagev1.StorageClass, now time.Time) []any {
		return []any{c.Provisioner, string(ptr.Deref(c.ReclaimPolicy, corev1.PersistentVolumeReclaimDelete)),
			string(ptr.Deref(c.VolumeBindingMode, storagev1.VolumeBindingImmediate)), ptr.Deref(c.AllowVolumeExpansion, false), age(c.CreationTimestamp, now)}
	})
	k.Table.List = markDefaultClass
	return k
}

// markDefaultClass marks which of the classes in a list is that of claims that name none.
func markDefaultClass(rows []metav1.TableRow) {
	best := defaultClass(func(yield func(*storagev1.StorageClass) bool) {
		for i := range rows {
			if c, ok := rows[i].Object.Object.(*storagev1.StorageClass); ok && !yield(c) {
				return
			}
		}
	})
	for i := range rows {
		if best != nil && rows[i].Object.Object == runtime.Object(best) {
			rows[i].Cells[0] = best.Name + " (default)"
		}
	}
}

func volumeAttributesClassTable(k *Kind) *Kind {
	columns := []metav1.TableColumnDefinition{column("DriverName", "string", storagev1.VolumeAttributesClass{}.SwaggerDoc()["driverName"]), ageColumn()}
	return tabled(k, columns, func(c *storagev1.VolumeAttributesClass, now time.Time) []any {
		return []any{c.DriverName, age(c.CreationTimestamp, now)}
	})
}

func volumeAttachmentTable(k *Kind) *Kind {
	spec := storagev1.VolumeAttachmentSpec{}.SwaggerDoc()
	attacher := column("Attacher", "string", spec["attacher"])
	attacher.Format = "name"
	columns := []metav1.TableColumnDefinition{
		attacher, column("PV", "string", storagev1.VolumeAttachmentSource{}.SwaggerDoc()["persistentVolumeName"]), column("Node", "string", spec["nodeName"]),
		column("Attached", "boolean", storagev1.VolumeAttachmentStatus{}.SwaggerDoc()["attached"]), ageColumn(),
	}
	return tabled(k, columns, func(a *storagev1.VolumeAttachment, now time.Time) []any {
		return []any{a.Spec.Attacher, ptr.Deref(a.Spec.Source.PersistentVolumeName, ""), a.Spec.NodeName, a.Status.Attached, age(a.CreationTimestamp, now)}
	})
}

func csiDriverTable(k *Kind) *Kind {
	spec := storagev1.CSIDriverSpec{}.SwaggerDoc()
	columns := []metav1.TableColumnDefinition{
		column("AttachRequired", "boolean", spec["attachRequired"]), column("PodInfoOnMount", "boolean", spec["podInfoOnMount"]),
		column("StorageCapacity", "boolean", spec["storageCapacity"]), column("TokenRequests", "string", spec["tokenRequests"]),
		column("RequiresRepublish", "boolean", spec["requiresRepublish"]), column("Modes", "string", spec["volumeLifecycleModes"]), ageColumn(),
	}
	return tabled(k, columns, func(d *storagev1.CSIDriver, now time.Time) []any {
		tokens := "<unset>"
		if d.Spec.TokenRequests != nil {
			var audiences []string
			for _, t := range d.Spec.TokenRequests {
				audiences = append(audiences, t.Audience)
			}
			tokens = strings.Join(audiences, ",")
		}
		var modes []string
		for _, m := range d.Spec.VolumeLifecycleModes {
			modes = append(modes, string(m))
		}
		return []any{ptr.Deref(d.Spec.AttachRequired, true), ptr.Deref(d.Spec.PodInfoOnMount, false), ptr.Deref(d.Spec.StorageCapacity, false),
			tokens, ptr.Deref(d.Spec.RequiresRepublish, false), orElse(strings.Join(modes, ","), "<none>"), age(d.CreationTimestamp, now)}
	})
}

func csiNodeTable(k *Kind) *Kind {
	columns := []metav1.TableColumnDefinition{column("Drivers", "integer", "Drivers indicates the number of CSI drivers registered on the node"), ageColumn()}
	return tabled(k, columns, func(n *storagev1.CSINode, now time.Time) []any {
		return []any{int64(len(n.Spec.Drivers)), age(n.CreationTimestamp, now)}
	})
}

func csiStorageCapacityTable(k *Kind) *Kind {
	doc := storagev1.CSIStorageCapacity{}.SwaggerDoc()
	columns := []metav1.TableColumnDefinition{column("StorageClassName", "string", doc["storageClassName"]), column("Capacity", "string", doc["capacity"])}
	return tabled(k, columns, func(c *storagev1.CSIStorageCapacity, _ time.Time) []any {
		capacity := "<unset>"
		if c.Capacity != nil {
			capacity = c.Capacity.String()
		}
		return []any{c.StorageClassName, capacity}
	})
}
