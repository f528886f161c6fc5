package control

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/kind"
	"github.com/sampan-batch/sampan/internal/store"
)

// books are what was written about pods that have a place, and their claims. They are kept
// across the deaths of engines, and looked at after each commit.
type books struct {
	w       *memberWorld
	objects map[change.Key]change.Object
	changed map[string]time.Time // when a node, or a DaemonSet, was last written
	volumes map[string]bool      // that there have been
	commit  []store.Event        // what has been told of the present one
	kept    map[types.UID]string // pods that an update must leave as they are

	// mu guards what whoever acts tells the audit, which looks at it meanwhile.
	mu     sync.Mutex
	given  map[types.UID]bool // claims that a user gave up
	limits map[types.UID]limits
}

func newBooks(w *memberWorld) *books {
	b := &books{w: w, objects: make(map[change.Key]change.Object), given: make(map[types.UID]bool), limits: make(map[types.UID]limits),
		changed: make(map[string]time.Time), volumes: make(map[string]bool)}
	for _, k := range w.kinds.All() {
		for obj := range w.store.View().List(k.Resource, "") {
			b.objects[k.KeyOf(obj)] = obj
		}
	}
	w.audit.also = b.see
	return b
}

// give: a user does not want the claim any more.
func (b *books) give(c *corev1.PersistentVolumeClaim) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.given[c.UID] = true
}

func (b *books) isGiven(c *corev1.PersistentVolumeClaim) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.given[c.UID]
}

// limit is what a set must keep to from now on.
func (b *books) limit(set change.Object, l limits) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.limits[set.GetUID()] = l
}

func (b *books) setFree() {
	b.mu.Lock()
	defer b.mu.Unlock()
	clear(b.limits)
}

func (b *books) giveAll() {
	for _, c := range list[*corev1.PersistentVolumeClaim](b.w.world, kind.PersistentVolumeClaims) {
		b.give(c)
	}
}

func (b *books) fail(format string, args ...any) { b.w.audit.fail(format, args...) }

// see takes a write to the books. All of one commit have its revision.
func (b *books) see(ev store.Event) {
	if len(b.commit) > 0 && b.commit[0].Rev != ev.Rev {
		b.close()
	}
	b.commit = append(b.commit, ev)
	switch ev.Object.(type) {
	case *corev1.Node, *appsv1.DaemonSet:
		b.changed[ev.Object.GetName()] = b.w.now()
	case *corev1.PersistentVolume:
		b.volumes[ev.Object.GetName()] = true
	}
	if ev.Op == change.Delete {
		delete(b.objects, ev.Key)
	} else {
		b.objects[ev.Key] = ev.Object
	}
}

// close looks at what a commit has made of the world. It is called before the first write of
// the next one is taken to the books.
func (b *books) close() {
	for _, ev := range b.commit {
		switch obj := ev.Object.(type) {
		case *corev1.Pod:
			b.checkPod(ev, obj)
		case *corev1.PersistentVolumeClaim:
			b.checkClaim(ev, obj)
		}
	}
	b.checkVolumes()
	b.checkLimits()
	b.commit = b.commit[:0]
}

func get[T change.Object](b *books, resource change.Resource, namespace, name string) (found T) {
	found, _ = b.objects[resource.Key(namespace, name)].(T)
	return found
}

// checkPod: what holds whenever a pod is created.
func (b *books) checkPod(ev store.Event, pod *corev1.Pod) {
	ref := metav1.GetControllerOfNoCopy(pod)
	if ev.Op != change.Create || ref == nil {
		return
	}
	switch ref.Kind {
	case "StatefulSet":
		b.w.tally.add("pod of a set created")
		if set := get[*appsv1.StatefulSet](b, kind.StatefulSets, pod.Namespace, ref.Name); set != nil && set.UID == ref.UID {
			b.checkOrdinal(set, pod)
		}
	case "DaemonSet":
		b.w.tally.add("pod of a daemon created")
		if d := get[*appsv1.DaemonSet](b, kind.DaemonSets, pod.Namespace, ref.Name); d != nil && d.UID == ref.UID {
			b.checkPlace(d, pod)
		}
	}
}

func ordinal(name string) int {
	n, _ := strconv.Atoi(name[strings.LastIndex(name, "-")+1:])
	return n
}

// checkOrdinal: a pod is one of those that are wanted, and follows those before it.
func (b *books) checkOrdinal(set *appsv1.StatefulSet, pod *corev1.Pod) {
	n, start := ordinal(pod.Name), 0
	if set.Spec.Ordinals != nil {
		start = int(set.Spec.Ordinals.Start)
	}
	if n < start || n >= start+int(*set.Spec.Replicas) {
		b.fail("%s is created, and %s wants %d from %d on", pod.Name, set.Name, *set.Spec.Replicas, start)
	}
	if set.Spec.PodManagementPolicy == appsv1.ParallelPodManagement {
		return
	}
	for i := start; i < n; i++ {
		before := get[*corev1.Pod](b, kind.Pods, pod.Namespace, fmt.Sprintf("%s-%d", set.Name, i))
		if before == nil || before.DeletionTimestamp != nil || !isReadyPod(before) {
			b.fail("%s is created while %s-%d is not ready", pod.Name, set.Name, i)
		}
	}
}

// targetOf is the node that a DaemonSet's pod is for.
func targetOf(pod *corev1.Pod) string {
	if a := pod.Spec.Affinity; a != nil && a.NodeAffinity != nil && a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution != nil {
		for _, term := range a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms {
			for _, r := range term.MatchFields {
				return r.Values[0]
			}
		}
	}
	return pod.Spec.NodeName
}

// daemonsOn are the pods that a DaemonSet has for a node, but for those that go, or have ended.
func (b *books) daemonsOn(d *appsv1.DaemonSet, node string) (all []*corev1.Pod) {
	for _, obj := range b.objects {
		if pod, ok := obj.(*corev1.Pod); ok && metav1.IsControlledBy(pod, d) && pod.DeletionTimestamp == nil && !kind.PodEnded(pod) && targetOf(pod) == node {
			all = append(all, pod)
		}
	}
	return all
}

// checkPlace: a pod is for a node that it may be on, and the only one there, unless one of an
// older template has still to go.
func (b *books) checkPlace(d *appsv1.DaemonSet, pod *corev1.Pod) {
	node := get[*corev1.Node](b, kind.Nodes, "", targetOf(pod))
	matches := node != nil && labels.SelectorFromSet(d.Spec.Template.Spec.NodeSelector).Matches(labels.Set(node.Labels))
	if !matches && b.changed[targetOf(pod)].Before(b.w.now()) && b.changed[d.Name].Before(b.w.now()) { // else it was decided before
		b.fail("%s is created for the node %s, which %s is not for", pod.Name, targetOf(pod), d.Name)
		return
	}
	revisions := make(map[string]bool)
	all := b.daemonsOn(d, node.Name)
	for _, p := range all {
		revisions[p.Labels[appsv1.ControllerRevisionHashLabelKey]] = true
	}
	rolling := d.Spec.UpdateStrategy.RollingUpdate
	surges := rolling != nil && rolling.MaxSurge != nil && *rolling.MaxSurge != intstr.FromInt32(0)
	if len(all) != len(revisions) || len(all) > 2 || len(all) == 2 && !surges {
		b.fail("%s has %d pods for the node %s, of %v", d.Name, len(all), node.Name, slices.Sorted(maps.Keys(revisions)))
	}
}

// checkClaim: a claim keeps its volume, goes only if somebody wants it to, and not before the
// pods that use it.
func (b *books) checkClaim(ev store.Event, c *corev1.PersistentVolumeClaim) {
	old, _ := ev.Prev.(*corev1.PersistentVolumeClaim)
	if old != nil && old.Spec.VolumeName == "" && c.Spec.VolumeName != "" {
		b.w.tally.add("claim bound")
	}
	if old != nil && old.Spec.VolumeName != "" && ev.Op == change.Update && c.Spec.VolumeName != old.Spec.VolumeName {
		b.fail("the claim %s had the volume %s, and now has %q", c.Name, old.Spec.VolumeName, c.Spec.VolumeName)
	}
	goes := ev.Op == change.Delete || c.DeletionTimestamp != nil
	if goes && !b.isGiven(c) && (old == nil || old.DeletionTimestamp == nil && len(old.OwnerReferences) == 0) {
		b.fail("the claim %s goes, which nobody owned and nobody has deleted", c.Name)
	}
	if ev.Op != change.Delete {
		return
	}
	b.w.tally.add("claim gone")
	for _, obj := range b.objects {
		pod, ok := obj.(*corev1.Pod)
		if !ok || pod.Spec.NodeName == "" || kind.PodEnded(pod) {
			continue
		}
		for i := range pod.Spec.Volumes {
			if kind.ClaimName(pod, &pod.Spec.Volumes[i]) == c.Name {
				b.fail("the claim %s is gone, and %s on %s uses it", c.Name, pod.Name, pod.Spec.NodeName)
			}
		}
	}
}

// checkVolumes: no two claims have the same volume, and each that is bound has one.
func (b *books) checkVolumes() {
	taken := make(map[string]string)
	for _, obj := range b.objects {
		c, ok := obj.(*corev1.PersistentVolumeClaim)
		if !ok || c.Spec.VolumeName == "" {
			continue
		}
		if other := taken[c.Spec.VolumeName]; other != "" {
			b.fail("the claims %s and %s have the volume %s", c.Name, other, c.Spec.VolumeName)
		}
		taken[c.Spec.VolumeName] = c.Name
		v := get[*corev1.PersistentVolume](b, kind.PersistentVolumes, "", c.Spec.VolumeName)
		if c.Status.Phase == corev1.ClaimBound && (v == nil || v.Spec.ClaimRef == nil || v.Spec.ClaimRef.UID != c.UID) {
			b.fail("the claim %s is bound to %s, which is not its volume", c.Name, c.Spec.VolumeName)
		}
	}
}

// checkMembers: at rest, in a world whose pods all work, everything is as it is wanted.
func (w *memberWorld) checkMembers() {
	for _, set := range list[*appsv1.StatefulSet](w.world, kind.StatefulSets) {
		w.checkSet(set)
	}
	nodes := 0
	for range w.store.View().List(kind.Nodes, "") {
		nodes++
	}
	for _, d := range list[*appsv1.DaemonSet](w.world, kind.DaemonSets) {
		on := make(map[string]int)
		for _, pod := range list[*corev1.Pod](w.world, kind.Pods) {
			if metav1.IsControlledBy(pod, d) {
				on[pod.Spec.NodeName]++
			}
		}
		n, st := int32(nodes), d.Status
		if len(on) != nodes || slices.Max(append(slices.Collect(maps.Values(on)), 0)) != 1 || st.DesiredNumberScheduled != n || st.NumberReady != n || st.NumberAvailable != n ||
			st.UpdatedNumberScheduled != n || st.NumberMisscheduled != 0 || st.NumberUnavailable != 0 || st.ObservedGeneration != d.Generation {
			w.audit.fail("%s is on %v of %d nodes, and says %+v", d.Name, on, nodes, st)
		}
	}
	w.checkDirectories()
}

// checkDirectories: each volume has one, and of none that is gone one is left. One that was
// made for a volume that then could not be stored is removed when an engine starts.
func (w *memberWorld) checkDirectories() {
	have := w.volumes.list()
	for name := range w.books.volumes {
		_, there := w.store.View().Get(kind.PersistentVolumes.Key("", name))
		if there != slices.Contains(have, name) {
			w.audit.fail("the volume %s is there: %v, and its directory: %v", name, there, !there)
		}
	}
}

// checkSet: all ordinals are there, with their claims, and none but they.
func (w *memberWorld) checkSet(set *appsv1.StatefulSet) {
	want, start := *set.Spec.Replicas, int32(0)
	if set.Spec.Ordinals != nil {
		start = set.Spec.Ordinals.Start
	}
	have := make(map[string]*corev1.Pod)
	for _, pod := range list[*corev1.Pod](w.world, kind.Pods) {
		if metav1.IsControlledBy(pod, set) {
			have[pod.Name] = pod
		}
	}
	partition := int32(0)
	if r := set.Spec.UpdateStrategy.RollingUpdate; r != nil {
		partition = ptr.Deref(r.Partition, 0)
	}
	for i := start; i < start+want; i++ {
		pod := have[fmt.Sprintf("%s-%d", set.Name, i)]
		switch {
		case pod == nil:
			w.audit.fail("%s has no pod %d: %v", set.Name, i, slices.Sorted(maps.Keys(have)))
			continue
		case i-start >= partition && pod.Labels[appsv1.ControllerRevisionHashLabelKey] != set.Status.UpdateRevision:
			w.audit.fail("%s is of %s, not of %s", pod.Name, pod.Labels[appsv1.ControllerRevisionHashLabelKey], set.Status.UpdateRevision)
		}
		for _, c := range set.Spec.VolumeClaimTemplates {
			obj, ok := w.store.View().Get(kind.PersistentVolumeClaims.Key(theNamespace, c.Name+"-"+pod.Name))
			if !ok || obj.(*corev1.PersistentVolumeClaim).Status.Phase != corev1.ClaimBound {
				w.audit.fail("%s runs, and its claim is not bound: %v", pod.Name, obj)
			}
		}
	}
	if st := set.Status; len(have) != int(want) || st.Replicas != want || st.ReadyReplicas != want || st.AvailableReplicas != want || st.ObservedGeneration != set.Generation {
		w.audit.fail("%s wants %d pods, has %v, and says %+v", set.Name, want, slices.Sorted(maps.Keys(have)), st)
	}
}

// updateQuietly updates all sets once more, while nobody disturbs them, and holds every
// commit to what they allow.
func (w *memberWorld) updateQuietly() {
	if w.failed() {
		return
	}
	w.act(func() {
		w.books.kept = make(map[types.UID]string)
		for _, set := range list[*appsv1.StatefulSet](w.world, kind.StatefulSets) {
			w.tally.add("quiet update of a set")
			w.books.limit(set, limits{least: max(int(*set.Spec.Replicas)-1, 0), most: int(*set.Spec.Replicas)})
			w.books.keep(set)
			w.edit(set, "template changed", func(obj change.Object) { obj.(*appsv1.StatefulSet).Spec.Template.Spec.Containers[0].Image = "z" })
		}
		for _, d := range list[*appsv1.DaemonSet](w.world, kind.DaemonSets) {
			w.tally.add("quiet update of a daemon")
			n := int(d.Status.DesiredNumberScheduled)
			missing, _ := intstr.GetScaledValueFromIntOrPercent(d.Spec.UpdateStrategy.RollingUpdate.MaxUnavailable, n, true)
			surge, _ := intstr.GetScaledValueFromIntOrPercent(d.Spec.UpdateStrategy.RollingUpdate.MaxSurge, n, true)
			w.books.limit(d, limits{least: n - missing, most: n + surge})
			w.edit(d, "template changed", func(obj change.Object) { obj.(*appsv1.DaemonSet).Spec.Template.Spec.Containers[0].Image = "z" })
		}
	})
	if w.settle() {
		w.checkMembers()
	}
	w.act(func() {
		for uid, name := range w.books.kept {
			if !slices.ContainsFunc(list[*corev1.Pod](w.world, kind.Pods), func(p *corev1.Pod) bool { return p.UID == uid }) {
				w.audit.fail("%s is below the partition, and was not left alone", name)
			}
		}
		w.books.setFree()
	})
}

// keep notes the pods of a set that are below its partition.
func (b *books) keep(set *appsv1.StatefulSet) {
	r := set.Spec.UpdateStrategy.RollingUpdate
	if r == nil || r.Partition == nil {
		return
	}
	start := 0
	if set.Spec.Ordinals != nil {
		start = int(set.Spec.Ordinals.Start)
	}
	for _, pod := range list[*corev1.Pod](b.w.world, kind.Pods) {
		if metav1.IsControlledBy(pod, set) && ordinal(pod.Name)-start < int(*r.Partition) {
			b.kept[pod.UID] = pod.Name
		}
	}
}

// checkLimits: while a set is updated, so many of its pods are ready, and no more are there.
func (b *books) checkLimits() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.limits) == 0 {
		return
	}
	there, ready := make(map[types.UID]int), make(map[types.UID]int)
	for _, obj := range b.objects {
		pod, ok := obj.(*corev1.Pod)
		if !ok || pod.DeletionTimestamp != nil || kind.PodEnded(pod) {
			continue
		}
		if ref := metav1.GetControllerOfNoCopy(pod); ref != nil {
			if there[ref.UID]++; isReadyPod(pod) {
				ready[ref.UID]++
			}
		}
	}
	for uid, l := range b.limits {
		if there[uid] > l.most || ready[uid] < l.least {
			b.fail("in an update %s has %d pods, %d of them ready; allowed is %+v", uid, there[uid], ready[uid], l)
		}
	}
}
