package control

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/kind"
)

// Complete gives the objects that a set creates what a core, being pure, leaves out:
// a core returns them as a client would send them. key is what was decided about, by the
// name of the controller that has decided.
// An error is what the API would answer to the first object that it refuses; the
// set is then of no use, and is to be decided again in this knowledge.
type Complete func(ctx context.Context, by string, now time.Time, view change.View, key change.Key, set *change.Set) error

// step is one thing that new objects are given: one after the other, or all at once.
type step struct {
	name string
	do   func(c *completion, k *kind.Kind, w *change.Write) error
	all  func(ctx context.Context, c *completion, created []creation) error
}

// creation is a new object of a set.
type creation struct {
	kind  *kind.Kind
	write *change.Write
}

// Steps of our own API, in their order: what it does to the object of a client,
// whoever creates it, and what only a controller can save itself. What others say of
// new objects has its place where the API has it: what changes them behind admission,
// what refuses them behind the limits (judgedSteps).
func ownSteps() []step {
	return []step{
		{name: "namespace", do: enter},
		{name: "defaults", do: setDefaults},
		{name: "admission", do: admit},
		{name: "identity", do: identify},
		{name: "name", do: giveName},
		{name: "preparation", do: prepare},
		{name: "validation", do: validate},
		{name: "limits", do: limit},
		{name: "node", do: bindTrivial},
	}
}

// judgedSteps are ownSteps with what judges in between.
func (l *Loop) judgedSteps() []step {
	var steps []step
	for _, s := range ownSteps() {
		switch s.name {
		case "identity":
			steps = append(steps, l.judge("mutation", func(a Admission) judgement { return a.Mutate }), step{name: "admission of what others made", do: admitJudged})
		case "node":
			steps = append(steps, l.judge("judgement", func(a Admission) judgement { return a.Refuse }))
		}
		steps = append(steps, s)
	}
	return steps
}

// completion is a set whose new objects are being completed.
type completion struct {
	by    string // the controller
	now   time.Time
	view  change.View
	cause change.Object // what the set was decided about; nil if that is no object
	set   *change.Set

	judged  bool            // others may have changed what is created
	ordinal uint64          // of the next generated name
	given   map[string]bool // the names that the set has generated
	vacancy *vacancy        // for the pods of the set; nil until one is looked at
}

// completer returns the Complete that takes these steps.
func completer(kinds *kind.Kinds, steps []step) Complete {
	return func(ctx context.Context, by string, now time.Time, view change.View, key change.Key, set *change.Set) error {
		c := completion{by: by, now: now, view: view, set: set}
		c.cause, _ = view.Get(key)
		created, err := creations(kinds, set)
		if err != nil {
			return err
		}
		for rest := steps; len(rest) > 0; {
			n := slices.IndexFunc(rest, func(s step) bool { return s.all != nil })
			if n == 0 {
				if err := rest[0].all(ctx, &c, created); err != nil {
					return err
				}
				rest = rest[1:]
				continue
			}
			if n < 0 {
				n = len(rest)
			}
			if err := c.take(rest[:n], created); err != nil {
				return err
			}
			rest = rest[n:]
		}
		for i := range set.Notes {
			if n := &set.Notes[i]; n.NameOf != nil {
				n.Message, n.NameOf = n.Message+n.NameOf.GetName(), nil
			}
		}
		return nil
	}
}

// creations are the writes of a set that create something.
func creations(kinds *kind.Kinds, set *change.Set) ([]creation, error) {
	var created []creation
	for i := range set.Writes {
		w := &set.Writes[i]
		if w.Op != change.Create {
			continue
		}
		k := kinds.ByResource(w.Key.Resource)
		if k == nil {
			return nil, fmt.Errorf("create %s: no such resource is served", w.Key)
		}
		created = append(created, creation{k, w})
	}
	return created, nil
}

// take takes steps with one object after the other.
func (c *completion) take(steps []step, created []creation) error {
	for _, n := range created {
		for _, s := range steps {
			if err := s.do(c, n.kind, n.write); err != nil {
				return err
			}
		}
	}
	return nil
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

// enter refuses what would be in a namespace that is being deleted, before anybody is asked about it.
// (The store has the last word.)
func enter(c *completion, k *kind.Kind, w *change.Write) error {
	if !k.Namespaced {
		return nil
	}
	if err := kind.MayEnter(c.view, w.Key.Namespace, k.GR(), w.Object.GetName()); kind.NamespaceTerminates(err) {
		return err
	}
	return nil
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

// admitJudged does once more to what others may have changed what admission does.
func admitJudged(c *completion, k *kind.Kind, w *change.Write) error {
	if !c.judged {
		return nil
	}
	return admit(c, k, w)
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
// label and a hostname, too. What webhooks and policies have made of it is.
func validate(c *completion, k *kind.Kind, w *change.Write) error {
	if k.Create.FromTemplate && c.given[w.Key.Name] && !c.judged {
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
