package deployment

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sampan-batch/sampan/internal/podset"
)

// hashLabel tells the pods of one template from those of another, and the ReplicaSets.
const hashLabel = appsv1.DefaultDeploymentUniqueLabelKey

// claim finds the Deployment's ReplicaSets, and the one of the present template among them:
// the oldest, should there be several.
func (d *decision) claim() {
	owner := ownerOf(d.Deployment)
	claim := owner.Claims()
	var mine []*replicaSet
	for _, set := range d.Sets {
		switch claim(set) {
		case podset.Mine:
			mine = append(mine, &replicaSet{set, set})
		case podset.Adoptable:
			next := *set
			next.OwnerReferences = owner.With(set)
			mine = append(mine, &replicaSet{set, &next})
		case podset.Unmatched:
			if d.Deployment.DeletionTimestamp == nil {
				next := *set
				next.OwnerReferences = owner.Without(set)
				d.foreign = append(d.foreign, &replicaSet{set, &next})
			}
		}
	}
	slices.SortFunc(mine, olderFirst)
	for _, set := range mine {
		if d.fresh == nil && sameTemplate(&set.read.Spec.Template, &d.Deployment.Spec.Template) {
			d.fresh = set
		} else {
			d.old = append(d.old, set)
		}
	}
}

// all are the Deployment's ReplicaSets: the old ones, and the new one if there is one.
func (d *decision) all() []*replicaSet {
	if d.fresh == nil {
		return d.old
	}
	return append(slices.Clone(d.old), d.fresh)
}

// active are those that are to have pods.
func active(sets []*replicaSet) []*replicaSet {
	return slices.DeleteFunc(slices.Clone(sets), func(s *replicaSet) bool { return s.size() == 0 })
}

// size is how many pods the set is to have.
func (s *replicaSet) size() int32 {
	if s.next == nil || s.next.Spec.Replicas == nil {
		return 0
	}
	return *s.next.Spec.Replicas
}

func (s *replicaSet) available() int32 { return s.next.Status.AvailableReplicas }

// edit returns the set as it is to be for a change of its own fields and annotations.
func (s *replicaSet) edit() *appsv1.ReplicaSet {
	if s.next == s.read {
		next := *s.read
		s.next = &next
	}
	return s.next
}

// annotate sets an annotation, and reports whether it was another.
func (s *replicaSet) annotate(key, value string) bool {
	if had, ok := s.next.Annotations[key]; ok && had == value {
		return false
	}
	next := s.edit()
	next.Annotations = maps.Clone(next.Annotations)
	metav1.SetMetaDataAnnotation(&next.ObjectMeta, key, value)
	return true
}

// olderFirst orders sets by age, and those that are as old by name.
func olderFirst(a, b *replicaSet) int {
	return cmp.Or(a.next.CreationTimestamp.Compare(b.next.CreationTimestamp.Time), strings.Compare(a.next.Name, b.next.Name))
}

// sameTemplate compares templates, but for the label in which ReplicaSets keep their hash.
func sameTemplate(a, b *corev1.PodTemplateSpec) bool {
	return equality.Semantic.DeepEqual(withoutHash(a), withoutHash(b))
}

func withoutHash(t *corev1.PodTemplateSpec) *corev1.PodTemplateSpec {
	next := *t
	next.Labels = maps.Clone(t.Labels)
	delete(next.Labels, hashLabel)
	return &next
}
