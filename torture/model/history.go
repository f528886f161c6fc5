package model

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/anishathalye/porcupine"
)

// What a client of a history does.
const (
	CreateOp = "create"
	GetOp    = "get"
	UpdateOp = "update" // with the resourceVersion of what the client has read
	DeleteOp = "delete" // with the resourceVersion of what the client has read
	ListOp   = "list"
)

// What it is told.
const (
	Done     = "done"
	Conflict = "conflict"
	Exists   = "exists"
	NotFound = "not found"
	Lost     = "no answer"
)

// Operation is one call of a client, with what it was told.
type Operation struct {
	Client  int
	Op, Key string
	// Upon is the value that an update or a deletion was made upon, Value what a
	// create or an update writes.
	Upon, Value string
	Result      string
	// Saw is what a get or a list returned, or what a write was acknowledged as: by
	// key, what there was.
	Saw map[string]State
	// Call and Return are when it began and was answered. A call without an answer
	// returns when the engine that was asked had surely ended.
	Call, Return time.Time
}

func (o Operation) String() string {
	text := fmt.Sprintf("client %d: %s %s", o.Client, o.Op, o.Key)
	if o.Upon != "" {
		text += " upon " + o.Upon
	}
	if o.Value != "" {
		text += " = " + o.Value
	}
	text += ": " + o.Result
	for _, key := range slices.Sorted(maps.Keys(o.Saw)) {
		text += fmt.Sprintf(" %s=%s@%d", key, o.Saw[key].Value, o.Saw[key].Rev)
	}
	return text
}

// Verdict of a history.
type Verdict int

// A history is in order, is not, or was too long for the time that there was.
const (
	Linearizable Verdict = iota
	NotLinearizable
	Undecided
)

// CheckHistory looks for one order of all operations that explains every answer and
// keeps to the times: what was answered before another was asked is before it. A
// call without an answer has happened, or not. It returns how, and, if there is no
// order, writes a drawing of the longest that there is to the file.
func CheckHistory(history []Operation, within time.Duration, drawing string) (Verdict, error) {
	if len(history) == 0 {
		return Linearizable, nil
	}
	began := history[0].Call
	ops := make([]porcupine.Operation, len(history))
	for i, o := range history {
		ops[i] = porcupine.Operation{ClientId: o.Client, Input: o, Call: o.Call.Sub(began).Nanoseconds(), Return: o.Return.Sub(began).Nanoseconds()}
	}
	m := objects.ToModel()
	result, info := porcupine.CheckOperationsVerbose(m, ops, within)
	switch result {
	case porcupine.Ok:
		return Linearizable, nil
	case porcupine.Unknown:
		return Undecided, nil
	}
	if drawing == "" {
		return NotLinearizable, nil
	}
	return NotLinearizable, porcupine.VisualizePath(m, info, drawing)
}

// world is a state of the sequential model: all objects, and the newest revision that
// anybody was told of.
type world struct {
	values string // key=value, in the order of the keys
	rev    uint64
}

// objects is the sequential model. All keys are one partition, for lists see them
// all. What a call without an answer did is not known, which makes it
// nondeterministic.
var objects = porcupine.NondeterministicModel{
	Init: func() []any { return []any{world{}} },
	Step: func(state, input, _ any) []any {
		var next []any
		for _, w := range state.(world).step(input.(Operation)) {
			next = append(next, w)
		}
		return next
	},
	DescribeOperation: func(input, _ any) string { return input.(Operation).String() },
}

// step returns the states in which the world may be after o was answered as it was.
func (w world) step(o Operation) []world {
	now := w.value(o.Key)
	switch o.Result {
	case Lost:
		if !o.fits(now) {
			return []world{w}
		}
		return []world{w, w.with(o.Key, o.Value)} // an update that deletes writes ""
	case Exists:
		return w.when(now != "")
	case NotFound:
		return w.when(now == "")
	case Conflict:
		return w.when(now != o.Upon) // also when there is nothing any more
	}
	switch o.Op {
	case GetOp:
		return w.when(o.Saw[o.Key].Value == now)
	case ListOp:
		return w.when(w.values == valuesOf(o.Saw))
	}
	rev := o.Saw[o.Key].Rev
	if !o.fits(now) || rev != 0 && rev <= w.rev {
		return nil
	}
	next := w.with(o.Key, o.Value)
	next.rev = max(w.rev, rev)
	return []world{next}
}

// fits: the write can be made upon what there is.
func (o Operation) fits(now string) bool {
	switch o.Op {
	case CreateOp:
		return now == ""
	case UpdateOp, DeleteOp:
		return now == o.Upon && now != ""
	}
	return false // it writes nothing
}

func (w world) when(holds bool) []world {
	if holds {
		return []world{w}
	}
	return nil
}

func (w world) value(key string) string {
	for pair := range strings.SplitSeq(w.values, " ") {
		if k, v, _ := strings.Cut(pair, "="); k == key {
			return v
		}
	}
	return ""
}

// with is the world in which key has another value, or none.
func (w world) with(key, value string) world {
	all := map[string]State{}
	for pair := range strings.SplitSeq(w.values, " ") {
		if k, v, ok := strings.Cut(pair, "="); ok {
			all[k] = State{Value: v}
		}
	}
	if all[key] = (State{Value: value}); value == "" {
		delete(all, key)
	}
	w.values = valuesOf(all)
	return w
}

func valuesOf(all map[string]State) string {
	var pairs []string
	for _, key := range slices.Sorted(maps.Keys(all)) {
		pairs = append(pairs, key+"="+all[key].Value)
	}
	return strings.Join(pairs, " ")
}
