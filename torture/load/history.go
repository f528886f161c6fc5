package load

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"syscall"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/sampan-batch/sampan/torture/model"
	"github.com/sampan-batch/sampan/torture/report"
	"github.com/sampan-batch/sampan/torture/victim"
)

// History lets several clients write and read the same few objects at the same
// time, and notes what each was told, and when.
type History struct {
	Victim  *victim.Victim
	Report  *report.Round
	Seed    uint64
	Clients int
	// Prefix begins the names of the objects of this history, which are its own.
	Prefix string

	mu         sync.Mutex
	operations []model.Operation
}

// historyKeys is how many objects a history is about: few, so that clients meet.
const historyKeys = 3

// Run lets the clients work until enough operations were made, or ctx ends, and
// returns what they were told.
func (h *History) Run(ctx context.Context, enough int) ([]model.Operation, error) {
	var clients sync.WaitGroup
	for i := range h.Clients {
		dynamic, err := h.Victim.Dynamic()
		if err != nil {
			return nil, err
		}
		c := &concurrent{history: h, number: i, api: apiOf(dynamic, configMaps), random: Random(h.Seed, fmt.Sprint(h.Prefix, i)), seen: map[string]model.State{}}
		clients.Go(func() { c.run(ctx, enough) })
	}
	clients.Wait()
	return h.operations, nil
}

func (h *History) note(o model.Operation) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.operations = append(h.operations, o)
}

func (h *History) count() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.operations)
}

// concurrent is one of the clients of a history.
type concurrent struct {
	history *History
	number  int
	api     api
	random  *rand.Rand
	serial  int
	seen    map[string]model.State // what it has last read of each object
}

func (c *concurrent) run(ctx context.Context, enough int) {
	for ctx.Err() == nil && c.history.count() < enough {
		o := model.Operation{Client: c.number, Key: fmt.Sprint(c.history.Prefix, c.random.IntN(historyKeys)), Call: time.Now()}
		generation := c.history.Victim.Generation()
		err := c.ask(ctx, &o)
		if errors.Is(err, syscall.ECONNREFUSED) { // nobody was asked
			pause(ctx, 5*time.Millisecond)
			continue
		}
		o.Return = time.Now()
		c.told(ctx, &o, err, generation)
		if o.Result == model.Lost && o.Value == "" && o.Op != model.DeleteOp {
			continue // a read that was not answered says nothing
		}
		c.history.note(o)
	}
}

// ask makes one call, and notes what it shows.
func (c *concurrent) ask(ctx context.Context, o *model.Operation) error {
	known := c.seen[o.Key]
	c.serial++
	value := fmt.Sprintf("%d.%d", c.number, c.serial)
	var got model.State
	var err error
	switch n := c.random.IntN(10); {
	case n < 1:
		o.Op, o.Key = model.ListOp, ""
		o.Saw, err = c.list(ctx)
		return err
	case n < 4:
		o.Op = model.GetOp
		got, err = c.api.get(ctx, o.Key)
		if apierrors.IsNotFound(err) {
			delete(c.seen, o.Key)
		}
	case known.Absent():
		o.Op, o.Value = model.CreateOp, value
		got, err = c.api.create(ctx, o.Key, value, "")
	case n < 9:
		o.Op, o.Value, o.Upon = model.UpdateOp, value, known.Value
		got, err = c.api.update(ctx, o.Key, known, value, "")
	default:
		o.Op, o.Upon = model.DeleteOp, known.Value
		delete(c.seen, o.Key)
		return c.api.delete(ctx, o.Key, known)
	}
	if err == nil {
		c.seen[o.Key], o.Saw = got, map[string]model.State{o.Key: got}
	}
	return err
}

func (c *concurrent) list(ctx context.Context) (map[string]model.State, error) {
	_, all, err := c.api.list(ctx)
	own := map[string]model.State{}
	for key, state := range all {
		if name := strings.TrimPrefix(key, c.api.resource+"/"); strings.HasPrefix(name, c.history.Prefix) {
			own[name], c.seen[name] = state, state
		}
	}
	return own, err
}

// told notes what a call was answered. One that was not is over when the engine that
// was asked has ended: the next one is started after that.
func (c *concurrent) told(ctx context.Context, o *model.Operation, err error, generation int64) {
	switch {
	case err == nil:
		o.Result = model.Done
	case apierrors.IsConflict(err):
		o.Result = model.Conflict
		delete(c.seen, o.Key)
	case apierrors.IsAlreadyExists(err):
		o.Result = model.Exists
	case apierrors.IsNotFound(err):
		o.Result = model.NotFound
		delete(c.seen, o.Key)
	case outcomeOf(err) == unanswered:
		o.Result = model.Lost
		c.history.Report.Count("unanswered", 1)
		for ctx.Err() == nil && c.history.Victim.Generation() == generation {
			pause(ctx, 2*time.Millisecond)
		}
		o.Return = time.Now()
	default:
		o.Result = model.Lost
		if ctx.Err() == nil {
			c.history.Report.Find("history: %s: %v", o.Op, err)
		}
	}
	if o.Op == model.CreateOp && o.Result == model.Exists {
		c.seen[o.Key] = model.State{Value: "?", Rev: 1} // whatever it is
	}
}
