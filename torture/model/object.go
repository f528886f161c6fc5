// Package model knows what must be true of an engine, from nothing but what its
// clients were told. It is pure: it talks to nobody, waits for nothing, and its
// tests lie to it, to see that every lie is found.
//
//   - an Object is one object with one writer: what was acknowledged is there, what
//     was refused is not, what nobody knows of is one or the other, for good;
//   - a Mirror is what a watch showed, held against lists and acknowledged writes;
//   - a Run is a Job's pods, held against what the pods themselves wrote down;
//   - Slots are the Jobs of a CronJob, held against the clock;
//   - a History is what concurrent clients saw, held against one line of time.
package model

import (
	"fmt"
	"slices"
)

// State is what there is of an object. The zero State is its absence.
type State struct {
	UID   string
	Rev   uint64 // 0: not known
	Value string // every write has a value of its own
}

// Absent tells whether there is no object.
func (s State) Absent() bool { return s.Value == "" }

func (s State) String() string {
	if s.Absent() {
		return "nothing"
	}
	return fmt.Sprintf("%q at revision %d", s.Value, s.Rev)
}

// same: s and t may be the same state, where a revision is known or not.
func (s State) same(t State) bool {
	return s.Value == t.Value && (s.Rev == t.Rev || s.Rev == 0 || t.Rev == 0) && (s.UID == t.UID || s.UID == "" || t.UID == "")
}

// Write is a write that has happened. Revs of what was not answered, and of
// deletions, are known to be between two others only.
type Write struct {
	Key           string
	UID           string
	Rev           uint64 // 0: unknown
	After, Before uint64 // it is after the one and before the other; 0: no bound
	Value         string // "": a deletion
	Create        bool
}

// Object is one object that one client writes, one write after the other, each
// upon the state that it knows: a create where there is nothing, all else with a
// resourceVersion. So a write that was not answered can come true late only as long
// as no later one was acknowledged.
type Object struct {
	Key     string
	known   State
	maybe   []State // writes that were not answered: one of them may have happened, or may yet
	written []Write
	newest  uint64
}

// Known is the state upon which the next write is to be made.
func (o *Object) Known() State { return o.known }

// Written returns all writes that have happened, in their order.
func (o *Object) Written() []Write { return o.written }

// Unsure tells whether a write was not answered, and what came of it is not known yet.
func (o *Object) Unsure() bool { return len(o.maybe) > 0 }

// Acknowledged notes that the write that makes the object to be next has succeeded. For a
// deletion, next is the zero State.
func (o *Object) Acknowledged(next State) error {
	o.maybe = nil // it was made upon what is no longer there
	return o.settle(next)
}

// Refused notes that the server said that a write did not happen. It must have a reason: the
// write was wrong, which wrong says, or one that was not answered came before it.
func (o *Object) Refused(wrong bool, reason string) error {
	if !wrong && !o.Unsure() {
		return fmt.Errorf("%s: refused without a reason: %s (it is %s)", o.Key, reason, o.known)
	}
	return nil
}

// Unanswered notes that nobody knows what came of a write that was to make the
// object next.
func (o *Object) Unanswered(next State) { o.maybe = append(o.maybe, next) }

// Observed notes that the object was read.
func (o *Object) Observed(now State) error {
	if !now.same(o.known) {
		if slices.ContainsFunc(o.maybe, now.same) {
			o.maybe = nil // the others were made upon what is no longer there
			return o.settle(now)
		}
		return fmt.Errorf("%s: it must be one of %v, but is %s", o.Key, append([]State{o.known}, o.maybe...), now)
	}
	if o.known.Rev == 0 {
		o.known = now
	}
	return nil
}

// settle notes a write that has happened.
func (o *Object) settle(next State) error {
	if next.Absent() && o.known.Absent() {
		return nil // deleted, and deleted again
	}
	w := Write{Key: o.Key, UID: next.UID, Rev: next.Rev, Value: next.Value, Create: o.known.Absent(), After: o.newest}
	if next.Absent() {
		w.UID = o.known.UID
	}
	if n := len(o.written); n > 0 && o.written[n-1].Rev == 0 {
		o.written[n-1].Before = next.Rev
	}
	o.written = append(o.written, w)
	was := o.known
	o.known = next
	if next.Rev == 0 {
		return nil
	}
	if next.Rev <= o.newest {
		return fmt.Errorf("%s: revisions run backwards: %s after revision %d", o.Key, next, o.newest)
	}
	o.newest = next.Rev
	if !was.Absent() && next.UID != was.UID {
		return fmt.Errorf("%s: an update gave it another UID: %s, then %s", o.Key, was.UID, next.UID)
	}
	return nil
}
