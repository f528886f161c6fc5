package load

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"

	"github.com/sampan-batch/sampan/torture/model"
	"github.com/sampan-batch/sampan/torture/report"
)

// valueKey is the annotation that has an object's value: a word that no other write
// has.
const valueKey = "torture/value"

// keysOfWriter is how many objects a writer has.
const keysOfWriter = 6

// writer writes its own ConfigMaps and Secrets, one write after the other, and says
// wrong things between them that must be refused.
type writer struct {
	load    *Load
	name    string
	random  *rand.Rand
	serial  int
	objects []*owned
}

// owned is an object that a writer owns.
type owned struct {
	model.Object
	name string
	api  api
}

func newWriter(l *Load, client dynamic.Interface, i int) *writer {
	w := &writer{load: l, name: fmt.Sprint("writer-", i), random: Random(l.Seed, fmt.Sprint("writer", i))}
	for n := range keysOfWriter {
		o := &owned{name: fmt.Sprintf("%s-%d", w.name, n)}
		if o.api = apiOf(client, configMaps); n%3 == 2 {
			o.api = apiOf(client, secrets)
		}
		o.Key = o.api.resource + "/" + o.name
		w.objects = append(w.objects, o)
	}
	return w
}

func (w *writer) run(ctx context.Context) {
	for ctx.Err() == nil && !w.load.ended() {
		o := w.objects[w.random.IntN(len(w.objects))]
		if o.Unsure() {
			w.read(ctx, o)
		}
		if !o.Unsure() && w.random.IntN(8) == 0 {
			w.wrong(ctx, o)
		} else {
			w.write(ctx, o)
		}
		pause(ctx, w.load.Size.Pause)
	}
}

// next is a value that nobody has written yet.
func (w *writer) next() string {
	w.serial++
	return fmt.Sprintf("%s.%d", w.name, w.serial)
}

// write makes one write that must succeed.
func (w *writer) write(ctx context.Context, o *owned) {
	known, value := o.Known(), w.next()
	if !known.Absent() && w.random.IntN(5) == 0 {
		err := o.api.delete(ctx, o.name, known)
		w.told(o, model.State{}, err)
		return
	}
	var got model.State
	var err error
	body := w.body()
	switch {
	case known.Absent():
		got, err = o.api.create(ctx, o.name, value, body)
	case w.random.IntN(2) == 0:
		got, err = o.api.update(ctx, o.name, known, value, body)
	default:
		kinds := []types.PatchType{types.MergePatchType, types.StrategicMergePatchType}
		got, err = o.api.patch(ctx, o.name, known, value, kinds[w.random.IntN(len(kinds))])
	}
	if err == nil && got.Value != value {
		w.load.find(fmt.Errorf("%s: written as %q, acknowledged as %q", o.Key, value, got.Value))
	}
	if err != nil {
		got = model.State{Value: value}
	}
	w.told(o, got, err)
}

// body fills an object: mostly small, sometimes of several pages.
func (w *writer) body() string {
	size := w.random.IntN(500)
	if w.random.IntN(10) == 0 {
		size = w.random.IntN(20000)
	}
	return strings.Repeat("x", size)
}

// wrong makes a write that must be refused.
func (w *writer) wrong(ctx context.Context, o *owned) {
	known, value := o.Known(), w.next()
	stale := model.State{UID: known.UID, Rev: max(known.Rev, 2) - 1, Value: known.Value}
	var got model.State
	var err error
	switch kind := w.random.IntN(3); {
	case !known.Absent() && kind == 0:
		got, err = o.api.create(ctx, o.name, value, "")
	case !known.Absent() && kind == 1:
		err = o.api.delete(ctx, o.name, stale)
	case kind == 2:
		got, err = o.api.create(ctx, "Not_A_Name", value, "")
	default:
		got, err = o.api.update(ctx, o.name, stale, value, "")
	}
	switch outcomeOf(err) {
	case acknowledged:
		w.load.find(fmt.Errorf("%s: a wrong write was accepted as %s (it was %s)", o.Key, got, known))
	case refused:
		w.load.Report.Count("refusals", 1)
	case unanswered: // it must not happen, answered or not
		w.load.Report.Count("unanswered", 1)
	}
}

// told notes what came of a write.
func (w *writer) told(o *owned, next model.State, err error) {
	switch outcomeOf(err) {
	case acknowledged:
		w.load.Report.Count(report.Writes, 1)
		w.load.find(o.Acknowledged(next))
	case refused:
		w.load.find(o.Refused(w.load.Lenient && forWant(err), err.Error()))
		w.load.Report.Count("refusals", 1)
	case unanswered:
		w.load.Report.Count("unanswered", 1)
		o.Unanswered(next)
	}
}

// read holds an object against what is known of it.
func (w *writer) read(ctx context.Context, o *owned) {
	now, err := again(ctx, w.load, func(ctx context.Context) (model.State, error) { return o.api.get(ctx, o.name) })
	if apierrors.IsNotFound(err) {
		now, err = model.State{}, nil
	}
	if ctx.Err() != nil {
		return
	}
	if err != nil {
		w.load.find(fmt.Errorf("%s: cannot be read: %w", o.Key, err))
		return
	}
	w.load.Report.Count("reads", 1)
	w.load.find(o.Observed(now))
}

// verify reads everything once more.
func (w *writer) verify(ctx context.Context) {
	for _, o := range w.objects {
		w.read(ctx, o)
	}
}
