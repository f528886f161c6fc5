package quota

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/admission/plugin/resourcequota"
	quota "k8s.io/apiserver/pkg/quota/v1"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/kind"
)

// book holds the quotas of one namespace while a set is accounted for: all but those
// that the set itself writes.
type book struct {
	namespace string
	before    []*corev1.ResourceQuota // as they are stored
	quotas    []corev1.ResourceQuota  // with what the set has added so far
}

func newBook(view change.View, namespace string, writes []change.Write) *book {
	b := &book{namespace: namespace}
	written := map[string]bool{}
	for i := range writes {
		if isQuota(writes[i]) && writes[i].Key.Namespace == namespace {
			written[writes[i].Key.Name] = true
		}
	}
	for obj := range view.List(kind.ResourceQuotas, namespace) {
		if q := obj.(*corev1.ResourceQuota); !written[q.Name] {
			b.before, b.quotas = append(b.before, q), append(b.quotas, *q)
		}
	}
	return b
}

// create charges a new object, or says which quota has no room for it.
func (b *book) create(w *change.Write) error {
	if len(b.quotas) == 0 {
		return nil
	}
	after, err := b.check(w, evaluatorOf(w.Key.Resource), nil, admission.Create, "")
	if err != nil {
		return err
	}
	b.quotas = after
	return nil
}

// check asks Kubernetes' admission about one write, and returns the quotas with what is
// charged for it.
func (b *book) check(w *change.Write, e quota.Evaluator, old change.Object, op admission.Operation, subresource string) ([]corev1.ResourceQuota, error) {
	var previous runtime.Object
	if old != nil {
		previous = old
	}
	attributes := admission.NewAttributesRecord(w.Object, previous, schema.GroupVersionKind{}, w.Key.Namespace, w.Key.Name,
		e.GroupResource().WithVersion(""), subresource, op, nil, false, nil)
	after, err := resourcequota.CheckRequest(b.quotas, attributes, e, nil)
	if err != nil && apierrors.ReasonForError(err) == metav1.StatusReasonUnknown {
		err = apierrors.NewInternalError(fmt.Errorf("account for %s: %w", w.Key, err))
	}
	return after, err
}

// change charges what an update or a deletion makes of old.
func (b *book) change(w *change.Write, old change.Object) error {
	if len(b.quotas) == 0 || old == nil {
		return nil
	}
	e := evaluatorOf(w.Key.Resource)
	if w.Op == change.Update {
		if _, err := b.check(w, e, old, admission.Update, asked(old, w.Object)); err != nil {
			return err
		}
	}
	for i := range b.quotas {
		q := &b.quotas[i]
		used, err := uses(e, q, old)
		if err != nil {
			return err
		}
		will := corev1.ResourceList{}
		if w.Op == change.Update {
			if will, err = uses(e, q, w.Object); err != nil {
				return err
			}
		}
		if !quota.Equals(used, will) {
			q.Status.Used = quota.SubtractWithNonNegativeResult(quota.Add(q.Status.Used, will), used)
		}
	}
	return nil
}

// asked is the subresource by which a client makes a change that a quota may refuse: a
// pod's resources are changed through resize.
func asked(old, obj change.Object) string {
	before, is := old.(*corev1.Pod)
	if !is || equality.Semantic.DeepEqual(before.Spec.Containers, obj.(*corev1.Pod).Spec.Containers) {
		return ""
	}
	return "resize"
}

// uses returns what obj uses of what q limits; nothing if q does not count it.
func uses(e quota.Evaluator, q *corev1.ResourceQuota, obj change.Object) (corev1.ResourceList, error) {
	if matches, err := e.Matches(q, obj); err != nil || !matches {
		return corev1.ResourceList{}, err
	}
	used, err := e.Usage(obj)
	if err != nil {
		return nil, err
	}
	return quota.Mask(used, quota.ResourceNames(q.Status.Hard)), nil
}

// changes returns the writes of the quotas of which more, or less, is used than before.
func (b *book) changes() []change.Write {
	var writes []change.Write
	for i, q := range b.before {
		if quota.Equals(q.Status.Used, b.quotas[i].Status.Used) {
			continue
		}
		next := q.DeepCopy()
		next.Status.Used = b.quotas[i].Status.Used
		writes = append(writes, change.Write{Op: change.Update, Key: kind.ResourceQuotas.Key(q.Namespace, q.Name), Rev: change.RevOf(q), Object: next})
	}
	return writes
}

// recounted returns a quota that is written, with the status that its limits and all
// objects of its namespace make, writes included.
func recounted(view change.View, q *corev1.ResourceQuota, writes []change.Write) *corev1.ResourceQuota {
	next := q.DeepCopy()
	next.Status.Hard = next.Spec.Hard.DeepCopy()
	hard := quota.ResourceNames(next.Status.Hard)
	next.Status.Used = corev1.ResourceList{}
	for _, r := range countable(next.Status.Hard) {
		e := evaluatorOf(r)
		for _, name := range e.MatchingResources(hard) {
			if _, known := next.Status.Used[name]; !known {
				next.Status.Used[name] = resource.Quantity{Format: resource.DecimalSI}
			}
		}
		if len(e.MatchingResources(hard)) == 0 {
			continue
		}
		for _, obj := range present(view, r, q.Namespace, writes) {
			if used, err := uses(e, next, obj); err == nil { // an object that cannot be measured counts nothing, as in Kubernetes
				next.Status.Used = quota.Add(next.Status.Used, used)
			}
		}
	}
	return next
}

// present are the objects that there are once writes are made.
func present(view change.View, r change.Resource, namespace string, writes []change.Write) []change.Object {
	written := map[string]bool{}
	var all []change.Object
	for i := range writes {
		w := &writes[i]
		if w.Key.Resource != r || w.Key.Namespace != namespace {
			continue
		}
		written[w.Key.Name] = true
		if w.Op != change.Delete {
			all = append(all, w.Object)
		}
	}
	for obj := range view.List(r, namespace) {
		if !written[obj.GetName()] {
			all = append(all, obj)
		}
	}
	return all
}
