package sweep

import (
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/kind"
)

// Others is what other servers say of what they keep in a namespace: those of aggregated APIs.
type Others struct {
	// Undiscovered is why it is not known of all of them what they serve; "": it is.
	Undiscovered string
	// Unasked: they have not been asked to delete anything, as there were pods.
	Unasked bool
	// Left are the finalizers of each object that is still there, by resource, Failures why what was
	// not deleted.
	Left     map[change.Resource][][]string
	Failures []string
}

// othersRetry is when they are asked again: what becomes of what they keep, nobody tells.
const othersRetry = 5 * time.Second

// Namespace decides for a namespace: one that is being deleted is emptied, of its pods first (what
// makes them is refused others), and let go when nothing is left in it, here or elsewhere. contents yields
// everything in the namespace that can be read, unread the keys of the rest, which only a newer program can
// remove: the namespace waits for it.
func Namespace(now time.Time, item Item, contents iter.Seq[Item], unread iter.Seq[change.Key], others Others) change.Set {
	ns := item.Object.(*corev1.Namespace)
	var set change.Set
	if ns.DeletionTimestamp == nil {
		return set
	}
	e := emptying{set: &set, now: now}
	if e.remove(contents, isPod); e.full {
		set.Wake(now)
		return set
	}
	waits := others.failures()
	if e.pods > 0 { // what they use stays as long as they do; of what that is, Kubernetes says nothing
		describe(&set, now, item, waits)
		return set
	}
	if e.remove(contents, func(in Item) bool { return !isPod(in) }); e.full || others.Unasked {
		set.Wake(now)
		return set
	}
	for key := range unread {
		e.count(key.Resource, nil)
	}
	for resource, objects := range others.Left {
		for _, finalizers := range objects {
			e.count(resource, finalizers)
		}
	}
	if len(waits)+len(others.Left) > 0 {
		set.Wake(now.Add(othersRetry))
	}
	if e.seen+e.remain+len(waits) == 0 {
		release(&set, item, "", func(next change.Object) {
			spec := &next.(*corev1.Namespace).Spec
			spec.Finalizers = slices.DeleteFunc(spec.Finalizers, func(f corev1.FinalizerName) bool {
				return f == corev1.FinalizerKubernetes
			})
		})
		return set
	}
	describe(&set, now, item, append(waits, e.waits()...))
	return set
}

// failures are the conditions for what others keep from being deleted.
func (o *Others) failures() []corev1.NamespaceCondition {
	var list []corev1.NamespaceCondition
	if o.Undiscovered != "" {
		list = append(list, corev1.NamespaceCondition{
			Type: corev1.NamespaceDeletionDiscoveryFailure, Status: corev1.ConditionTrue, Reason: "DiscoveryFailed", Message: o.Undiscovered,
		})
	}
	if n := len(o.Failures); n > 0 {
		list = append(list, corev1.NamespaceCondition{
			Type: corev1.NamespaceDeletionContentFailure, Status: corev1.ConditionTrue, Reason: "ContentDeletionFailed",
			Message: fmt.Sprintf("Failed to delete all resource types, %d remaining: %s", n, strings.Join(slices.Sorted(slices.Values(o.Failures)), ", ")),
		})
	}
	return list
}

// isPod reports whether an object goes first.
func isPod(in Item) bool { return in.Kind.Resource == kind.Pods }

// emptying is how far a namespace is emptied by a set.
type emptying struct {
	set  *change.Set
	now  time.Time
	full bool // there is more to remove than goes into a set

	seen       int // objects that are there
	remain     int // that still are when the set is committed
	pods       int // of these
	resources  map[string]int
	finalizers map[string]int
}

// remove removes those of contents that are chosen, and counts which of them stay for now.
func (e *emptying) remove(contents iter.Seq[Item], chosen func(Item) bool) {
	for in := range contents {
		if !chosen(in) {
			continue
		}
		e.seen++
		if len(e.set.Writes) == batch {
			e.full = true
			return
		}
		gone := false
		if in.Object.GetDeletionTimestamp() == nil {
			before := len(e.set.Writes)
			remove(e.set, in, e.now, false)
			gone = len(e.set.Writes) > before && e.set.Writes[before].Op == change.Delete
		}
		if !gone {
			e.count(in.Kind.Resource, in.Object.GetFinalizers())
		}
	}
}

func (e *emptying) count(resource change.Resource, finalizers []string) {
	if e.resources == nil {
		e.resources, e.finalizers = map[string]int{}, map[string]int{}
	}
	name := string(resource)
	if !strings.Contains(name, ".") {
		name += "." // the core group has no name
	}
	e.remain++
	if resource == kind.Pods {
		e.pods++
	}
	e.resources[name]++
	for _, f := range finalizers {
		e.finalizers[f]++
	}
}

// waits are the conditions for what is left.
func (e *emptying) waits() []corev1.NamespaceCondition {
	var list []corev1.NamespaceCondition
	say := func(of corev1.NamespaceConditionType, reason, message, each string, counted map[string]int) {
		if len(counted) == 0 {
			return
		}
		var parts []string
		for _, name := range slices.Sorted(maps.Keys(counted)) {
			parts = append(parts, fmt.Sprintf(each, name, counted[name]))
		}
		list = append(list, corev1.NamespaceCondition{Type: of, Status: corev1.ConditionTrue, Reason: reason, Message: message + strings.Join(parts, ", ")})
	}
	say(corev1.NamespaceContentRemaining, "SomeResourcesRemain", "Some resources are remaining: ", "%s has %d resource instances", e.resources)
	say(corev1.NamespaceFinalizersRemaining, "SomeFinalizersRemain", "Some content in the namespace has finalizers remaining: ", "%s in %d resource instances", e.finalizers)
	return list
}

// wellConditions are the conditions of a namespace whose deletion nothing holds up.
func wellConditions() []corev1.NamespaceCondition {
	return []corev1.NamespaceCondition{
		{Type: corev1.NamespaceDeletionDiscoveryFailure, Reason: "ResourcesDiscovered", Message: "All resources successfully discovered"},
		{Type: corev1.NamespaceDeletionGVParsingFailure, Reason: "ParsedGroupVersions", Message: "All legacy kube types successfully parsed"},
		{Type: corev1.NamespaceDeletionContentFailure, Reason: "ContentDeleted", Message: "All content successfully deleted, may be waiting on finalization"},
		{Type: corev1.NamespaceContentRemaining, Reason: "ContentRemoved", Message: "All content successfully removed"},
		{Type: corev1.NamespaceFinalizersRemaining, Reason: "ContentHasNoFinalizers", Message: "All content-preserving finalizers finished"},
	}
}

// describe says in the namespace's conditions what its deletion waits for.
func describe(set *change.Set, now time.Time, item Item, waits []corev1.NamespaceCondition) {
	next := item.Object.DeepCopyObject().(*corev1.Namespace)
	conditions, changed := &next.Status.Conditions, false
	for _, want := range wellConditions() {
		want.Status = corev1.ConditionFalse
		ofType := func(c corev1.NamespaceCondition) bool { return c.Type == want.Type }
		if i := slices.IndexFunc(waits, ofType); i >= 0 {
			want = waits[i]
		}
		want.LastTransitionTime = metav1.NewTime(now)
		i := slices.IndexFunc(*conditions, ofType)
		if i < 0 {
			*conditions, changed = append(*conditions, want), true
			continue
		}
		if old := (*conditions)[i]; old.Status == want.Status {
			want.LastTransitionTime = old.LastTransitionTime
		}
		changed = changed || want != (*conditions)[i]
		(*conditions)[i] = want
	}
	if changed {
		update(set, item, next)
	}
}
