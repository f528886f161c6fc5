package statefulset

import (
	"cmp"
	"iter"
	"math"
	"slices"
	"strconv"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sampan-batch/sampan/internal/kind"
	"github.com/sampan-batch/sampan/internal/podset"
)

// ordinalOf is the ordinal in a pod's name; -1 if it is no name of the set's pods.
func ordinalOf(set *appsv1.StatefulSet, name string) int {
	digits, found := strings.CutPrefix(name, set.Name+"-")
	n, err := strconv.ParseInt(digits, 10, 32)
	if !found || err != nil || strconv.FormatInt(n, 10) != digits {
		return -1
	}
	return int(n)
}

func nameOf(set *appsv1.StatefulSet, ordinal int) string {
	return set.Name + "-" + strconv.Itoa(ordinal)
}

// first is the lowest ordinal of the set.
func first(set *appsv1.StatefulSet) int {
	if set.Spec.Ordinals != nil {
		return int(set.Spec.Ordinals.Start)
	}
	return 0
}

// count is how many pods the set wants.
func count(set *appsv1.StatefulSet) int {
	if set.Spec.Replicas == nil {
		return 1
	}
	return int(*set.Spec.Replicas)
}

// sort sorts the pods by what the set wants of their ordinals.
func (d *decision) sort() {
	start := first(d.Set)
	for _, pod := range d.pods {
		m := &member{pod: pod, ordinal: ordinalOf(d.Set, pod.Name), exists: true}
		if i := m.ordinal - start; i >= 0 && i < count(d.Set) {
			d.replicas = append(d.replicas, m)
		} else {
			d.condemned = append(d.condemned, m)
		}
	}
	slices.SortFunc(d.replicas, byOrdinal)
	slices.SortFunc(d.condemned, func(a, b *member) int { return byOrdinal(b, a) })
}

func byOrdinal(a, b *member) int { return cmp.Compare(a.ordinal, b.ordinal) }

// wanted yields the members of the ordinals that are wanted, upwards. One that is missing is made
// up when its turn comes, and no more are than can be begun now: a set may want two billion.
func (d *decision) wanted() iter.Seq[*member] {
	return func(yield func(*member) bool) {
		next, end := first(d.Set), min(first(d.Set)+count(d.Set), math.MaxInt32+1) // no name has a higher one, see ordinalOf
		missing := func(until int) bool {
			for ; next < until && d.canStart(); next++ {
				if !yield(&member{pod: d.makePod(next), ordinal: next}) {
					return false
				}
			}
			return true
		}
		for _, m := range d.replicas {
			if !missing(m.ordinal) || !yield(m) {
				return
			}
			next = m.ordinal + 1
		}
		missing(end)
	}
}

// canStart reports whether one more pod can be created in this decision. If it is only that there
// would be too many at once, the others follow in the next.
func (d *decision) canStart() bool {
	if len(d.started) == batch {
		d.wake(d.now)
		return false
	}
	return d.Refused == nil || !d.stuck
}

// members are all pods that there are, and those that are created.
func (d *decision) members() []*member {
	wanted := slices.Concat(d.replicas, d.started)
	slices.SortFunc(wanted, byOrdinal)
	return append(wanted, d.condemned...)
}

// makePod makes the pod of an ordinal, of the revision that it is to be of.
func (d *decision) makePod(ordinal int) *corev1.Pod {
	revision := d.update
	if d.keepsOld(ordinal) {
		revision = d.current
	}
	owner := d.owner
	owner.Template = d.templateOf(revision)
	pod := owner.Make()
	pod.Name = nameOf(d.Set, ordinal)
	pod.Spec.Hostname, pod.Spec.Subdomain = pod.Name, d.Set.Spec.ServiceName
	for key, value := range map[string]string{
		appsv1.StatefulSetPodNameLabel: pod.Name, appsv1.PodIndexLabel: strconv.Itoa(ordinal), appsv1.StatefulSetRevisionLabel: revision.Name,
	} {
		metav1.SetMetaDataLabel(&pod.ObjectMeta, key, value)
	}
	pod.Spec.Volumes = volumesOf(d.Set, pod.Spec.Volumes, ordinal)
	return pod
}

// keepsOld reports whether a pod of the ordinal that is missing is to be of the revision
// before the update, which has not got there.
func (d *decision) keepsOld(ordinal int) bool {
	strategy := d.Set.Spec.UpdateStrategy
	switch {
	case strategy.RollingUpdate != nil:
		return strategy.RollingUpdate.Partition != nil && ordinal < first(d.Set)+int(*strategy.RollingUpdate.Partition)
	case strategy.Type == appsv1.RollingUpdateStatefulSetStrategyType:
		return ordinal < first(d.Set)+int(d.Set.Status.CurrentReplicas)
	}
	return false
}

func (m *member) terminating() bool { return m.pod.DeletionTimestamp != nil }

// serves reports whether the pod has been ready for long enough.
func (d *decision) serves(m *member) bool {
	available, at := podset.Available(m.pod, d.Set.Spec.MinReadySeconds, d.now)
	d.wake(at)
	return available
}

// missing reports whether the pod does not serve, or not for long any more.
func (d *decision) missing(m *member) bool { return !d.serves(m) || m.terminating() }

func runsReady(pod *corev1.Pod) bool {
	return pod.Status.Phase == corev1.PodRunning && podset.Ready(pod)
}

func ended(m *member) bool { return m.exists && kind.PodEnded(m.pod) }
