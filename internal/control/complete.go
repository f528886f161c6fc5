package control

import (
	"fmt"
	"time"

	"github.com/google/uuid"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/kind"
)

// Complete gives the objects that a set creates what a core, being pure, leaves out:
// a core returns them as a client would send them. key is what was decided about.
// An error is what the API would answer to the first object that it refuses; the
// set is then of no use, and is to be decided again in this knowledge.
type Complete func(now time.Time, view change.View, key change.Key, set *change.Set) error

// step is one thing that new objects are given.
type step struct {
	name string
	do   func(c *completion, k *kind.Kind, w *change.Write) error
}

// Steps of our own API, in their order: what it does to the object of a client,
// whoever creates it, and what only a controller can save itself. What refuses or
// changes new objects, such as a webhook, a quota or a LimitRange, has its place
// behind admission.
func ownSteps() []step {
	return []step{
		{"identity", identify},
		{"defaults", setDefaults},
		{"admission", admit},
		{"name", giveName},
		{"preparation", prepare},
		{"validation", validate},
		{"limits", limit},
		{"node", bindTrivial},
	}
}

// completion is a set whose new objects are being completed.
type completion struct {
	now   time.Time
	view  change.View
	cause change.Object // what the set was decided about; nil if that is no object
	set   *change.Set

	ordinal uint64          // of the next generated name
	given   map[string]bool // the names that the set has generated
	vacancy *vacancy        // for the pods of the set; nil until one is looked at
}

// completer returns the Complete that takes these steps.
func completer(kinds *kind.Kinds, steps []step) Complete {
	return func(now time.Time, view change.View, key change.Key, set *change.Set) error {
		c := completion{now: now, view: view, set: set}
		c.cause, _ = view.Get(key)
		for i := range set.Writes {
			w := &set.Writes[i]
			if w.Op != change.Create {
				continue
			}
			k := kinds.ByResource(w.Key.Resource)
			if k == nil {
				return fmt.Errorf("create %s: no such resource is served", w.Key)
			}
			for _, s := range steps {
				if err := s.do(&c, k, w); err != nil {
					return err
				}
			}
		}
		for i := range set.Notes {
			if n := &set.Notes[i]; n.NameOf != nil {
				n.Message, n.NameOf = n.Message+n.NameOf.GetName(), nil
			}
		}
		return nil
	}
}

// identify gives an object its uid, unless the decision had to know it, and its
// time.
func identify(c *completion, _ *kind.Kind, w *change.Write) error {
	stamp(w.Object, c.now)
	return nil
}

// stamp gives obj a uid and a creation time, where it has none.
func stamp(obj change.Object, now time.Time) {
	if obj.GetUID() == "" {
		obj.SetUID(types.UID(uuid.NewString()))
	}
	if at := obj.GetCreationTimestamp(); at.IsZero() {
		obj.SetCreationTimestamp(metav1.NewTime(now.Truncate(time.Second)))
	}
}

func setDefaults(_ *completion, k *kind.Kind, w *change.Write) error {
	if k.Default != nil {
		k.Default(w.Object)
	}
	return nil
}

func admit(c *completion, k *kind.Kind, w *change.Write) error {
	if k.Create.Admit == nil {
		return nil
	}
	return forbidden(k, w.Object, k.Create.Admit(w.Object, c.view))
}

// forbidden is how the API puts it that admission refuses obj because of err.
func forbidden(k *kind.Kind, obj change.Object, err error) error {
	if err == nil {
		return nil
	}
	name := obj.GetName()
	if name == "" {
		name = obj.GetGenerateName()
	}
	return apierrors.NewForbidden(k.GR(), name, err)
}

func prepare(_ *completion, k *kind.Kind, w *change.Write) error {
	if k.Create.Prepare != nil {
		k.Create.Prepare(w.Object)
	}
	return nil
}

// limit refuses what is not within the limits that others set.
func limit(c *completion, k *kind.Kind, w *change.Write) error {
	if k.Create.Limit == nil {
		return nil
	}
	return forbidden(k, w.Object, k.Create.Limit(w.Object, c.view))
}

// validate refuses what the row does not allow: not all of a template is validated
// with the object that it is part of. Nor is a name that a core has given, which is a
// label and a hostname, too.
func validate(c *completion, k *kind.Kind, w *change.Write) error {
	if k.Create.FromTemplate && c.given[w.Key.Name] {
		return nil
	}
	if errs := k.Create.Check(w.Object); len(errs) > 0 {
		return apierrors.NewInvalid(k.GVK.GroupKind(), w.Object.GetName(), errs)
	}
	if k.Canonicalize != nil {
		k.Canonicalize(w.Object)
	}
	return nil
}
