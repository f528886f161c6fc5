package plan

import (
	"crypto/sha256"
	"fmt"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/kind"
	"github.com/sampan-batch/sampan/internal/place"
)

// workloads are the kinds whose pods never end. What they run is there as long as the works
// are, which may need it: a queue, a database.
var workloads = []change.Resource{kind.Deployments, kind.StatefulSets, kind.DaemonSets, kind.ReplicaSets, kind.ReplicationControllers}

// workload takes one of these for a companion.
func (p *planner) workload(it *item) {
	it.role, it.podPath = Companion, "spec.template"
	switch obj := it.obj.(type) {
	case *appsv1.Deployment:
		it.pod, it.pods = &obj.Spec.Template, replicas(obj.Spec.Replicas)
		if obj.Spec.Paused {
			it.pods = 0
		}
	case *appsv1.StatefulSet:
		it.pod, it.pods = &obj.Spec.Template, replicas(obj.Spec.Replicas)
	case *appsv1.DaemonSet:
		it.pod, it.pods = &obj.Spec.Template, 1
	case *appsv1.ReplicaSet:
		it.pod, it.pods = &obj.Spec.Template, replicas(obj.Spec.Replicas)
	case *corev1.ReplicationController:
		it.pod, it.pods = obj.Spec.Template, replicas(obj.Spec.Replicas) // which validation wants, and may be nil
	}
}

// replicas is how many pods a workload has.
func replicas(n *int32) int32 { return max(0, ptr.Deref(n, 1)) }

// elsewhere: a DaemonSet is for other nodes than this one, and has no pod here, which is
// nothing wrong with it.
func (p *planner) elsewhere(it *item) bool {
	if _, ok := it.obj.(*appsv1.DaemonSet); !ok {
		return false
	}
	pod := &corev1.Pod{ObjectMeta: *it.pod.ObjectMeta.DeepCopy(), Spec: *it.pod.Spec.DeepCopy()}
	for _, why := range place.Never(p.Node, pod) {
		if !strings.HasPrefix(why, "Insufficient ") {
			return true
		}
	}
	return false
}

// claimsOf makes a directory of each claim that a StatefulSet would make for its pods. Its
// pods name the claims by themselves, so that each gets a volume that is kept for it.
func (p *planner) claimsOf(it *item) (volumes []*item) {
	set, ok := it.obj.(*appsv1.StatefulSet)
	if !ok {
		return nil
	}
	first := int32(0)
	if o := set.Spec.Ordinals; o != nil {
		first = max(0, o.Start)
	}
	for i := range set.Spec.VolumeClaimTemplates {
		claim := &set.Spec.VolumeClaimTemplates[i]
		if ptr.Deref(claim.Spec.VolumeMode, corev1.PersistentVolumeFilesystem) != corev1.PersistentVolumeFilesystem {
			it.refuse(fmt.Sprintf("spec.volumeClaimTemplates[%d].spec.volumeMode", i), "there are no block devices here that could be claimed; Filesystem gets a directory")
			continue
		}
		// It is for these volumes only, whatever class or snapshot it asks for.
		claim.Spec.StorageClassName = ptr.To("")
		claim.Spec.Selector, claim.Spec.VolumeName, claim.Spec.DataSource, claim.Spec.DataSourceRef, claim.Spec.VolumeAttributesClassName = nil, "", nil, nil, nil
		for n := range it.pods {
			name := fmt.Sprintf("%s-%s-%d", claim.Name, set.Name, first+n)
			if wrong := notAName(name); wrong != "" {
				break // validation says it of the set
			}
			volumes = append(volumes, p.volumeFor(it, claim, name))
		}
	}
	return volumes
}

// volumeFor is the volume of one claim.
func (p *planner) volumeFor(it *item, claim *corev1.PersistentVolumeClaim, name string) *item {
	namespace := it.obj.GetNamespace()
	dir := p.claimDir(namespace, name)
	p.claims = append(p.claims, dir)
	sum := sha256.Sum256([]byte(namespace + "/" + name))
	volume := &corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("run-%x", sum[:10])},
		Spec: corev1.PersistentVolumeSpec{
			Capacity:                      corev1.ResourceList{corev1.ResourceStorage: claim.Spec.Resources.Requests[corev1.ResourceStorage]},
			AccessModes:                   claim.Spec.AccessModes,
			PersistentVolumeReclaimPolicy: corev1.PersistentVolumeReclaimRetain,
			ClaimRef:                      &corev1.ObjectReference{APIVersion: "v1", Kind: "PersistentVolumeClaim", Namespace: namespace, Name: name},
			PersistentVolumeSource:        corev1.PersistentVolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: dir, Type: ptr.To(corev1.HostPathDirectory)}},
		},
	}
	return &item{in: it.in, origin: it.origin, kind: p.kinds.ByResource(kind.PersistentVolumes), obj: volume}
}
