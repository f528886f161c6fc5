package history

import (
	"maps"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/kind"
	"github.com/sampan-batch/sampan/internal/podset"
)

// Book is the revisions of one object during a decision: as they were read, and as they
// are to be. Whatever is done to one, it is written once.
type Book struct {
	owner podset.Owner
	pages []page
}

// page is one revision. read is nil if it is new, next if it goes.
type page struct{ read, next *appsv1.ControllerRevision }

// Open returns the book of the owner's revisions, given those that it controls and those
// of its namespace that nothing controls. Whose one is, goes by the rules for pods.
func Open(owner podset.Owner, revisions []*appsv1.ControllerRevision) *Book {
	b := &Book{owner: owner}
	claim := owner.Claims()
	var foreign []*appsv1.ControllerRevision
	for _, r := range revisions {
		switch claim(r) {
		case podset.Mine:
			b.pages = append(b.pages, page{r, r})
		case podset.Adoptable:
			next := *r
			next.OwnerReferences = owner.With(r)
			b.pages = append(b.pages, page{r, &next})
		case podset.Unmatched:
			foreign = append(foreign, r)
		}
	}
	if owner.Object.GetDeletionTimestamp() == nil {
		b.release(foreign)
	}
	return b
}

// release lets go of revisions that the selector does not match any more. They are in the
// book to be written, and for nothing else.
func (b *Book) release(revisions []*appsv1.ControllerRevision) {
	for _, r := range revisions {
		next := *r
		next.OwnerReferences = b.owner.Without(r)
		b.pages = append(b.pages, page{r, &next})
	}
}

// Revisions returns the owner's revisions as they are to be, sorted.
func (b *Book) Revisions() []*appsv1.ControllerRevision {
	var all []*appsv1.ControllerRevision
	for _, p := range b.pages {
		if p.next != nil && metav1.IsControlledBy(p.next, b.owner.Object) {
			all = append(all, p.next)
		}
	}
	Sort(all)
	return all
}

// New returns a revision that keeps patch, and enters it. label is the one that names the
// revision of a pod, value what it says there.
func (b *Book) New(name string, patch []byte, number int64, label, value string) *appsv1.ControllerRevision {
	r := &appsv1.ControllerRevision{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: b.owner.Object.GetNamespace(), Name: name,
			Labels:          maps.Clone(b.owner.Template.Labels),
			Annotations:     annotations(b.owner.Object.GetAnnotations()),
			OwnerReferences: b.owner.With(&metav1.ObjectMeta{}),
		},
		Data: runtime.RawExtension{Raw: patch}, Revision: number,
	}
	metav1.SetMetaDataLabel(&r.ObjectMeta, label, value)
	b.pages = append(b.pages, page{nil, r})
	return r
}

// annotations are those of the owner that its revisions have, too: what is kept for its
// controller is not theirs.
func annotations(owners map[string]string) map[string]string {
	all := maps.Clone(owners)
	delete(all, kind.Backoff)
	return all
}

// Edit changes a revision of the book, and returns it as it is then.
func (b *Book) Edit(r *appsv1.ControllerRevision, edit func(*appsv1.ControllerRevision)) *appsv1.ControllerRevision {
	i := slices.IndexFunc(b.pages, func(p page) bool { return p.next == r })
	if i < 0 {
		return r
	}
	next := r.DeepCopy()
	edit(next)
	b.pages[i].next = next
	return next
}

// Renumber gives a revision another number.
func (b *Book) Renumber(r *appsv1.ControllerRevision, number int64) *appsv1.ControllerRevision {
	if r.Revision == number {
		return r
	}
	return b.Edit(r, func(next *appsv1.ControllerRevision) { next.Revision = number })
}

// Remove lets a revision go.
func (b *Book) Remove(r *appsv1.ControllerRevision) {
	for i := range b.pages {
		if b.pages[i].next == r {
			b.pages[i].next = nil
		}
	}
}

// Write adds to set what makes the revisions what they are to be. k is their row.
func (b *Book) Write(set *change.Set, k *kind.Kind, now time.Time) {
	for _, p := range b.pages {
		switch {
		case p.read == p.next:
		case p.read == nil:
			set.Create(k.KeyOf(p.next), p.next)
		case p.next == nil:
			if w, ok := k.Removal(p.read, change.RevOf(p.read), now, nil); ok {
				set.Writes = append(set.Writes, w)
			}
		default:
			set.Update(k.KeyOf(p.read), change.RevOf(p.read), p.next)
		}
	}
}
