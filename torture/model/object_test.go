package model

import (
	"strings"
	"testing"
)

// wants fails unless one of errs has the text; "" wants no error at all.
func wants(t *testing.T, text string, errs ...error) {
	t.Helper()
	var all []string
	for _, err := range errs {
		if err != nil {
			all = append(all, err.Error())
		}
	}
	said := strings.Join(all, "\n")
	if text == "" && said != "" || !strings.Contains(said, text) {
		t.Errorf("want %q, found %q", text, said)
	}
}

func state(rev uint64, value string) State { return State{UID: "u", Rev: rev, Value: value} }

// TestObject tells an object's model the truth, and each lie that there is.
func TestObject(t *testing.T) {
	t.Parallel()
	lost := State{Value: "lost"} // of a write that was not answered nobody knows the revision
	for _, c := range []struct {
		name string
		tell func(o *Object) error
		want string
	}{
		{"what was acknowledged is there", func(o *Object) error { return o.Observed(state(5, "a")) }, ""},
		{"an acknowledged write is lost", func(o *Object) error { return o.Observed(State{}) }, `it must be one of ["a" at revision 5], but is nothing`},
		{"an older value is back", func(o *Object) error { return o.Observed(state(4, "before")) }, `but is "before"`},
		{"a refused write is there", func(o *Object) error {
			_ = o.Refused(true, "wrong")
			return o.Observed(state(6, "refused"))
		}, `but is "refused"`},
		{"a write is refused without a reason", func(o *Object) error { return o.Refused(false, "conflict") }, "refused without a reason: conflict"},
		{"a write is refused, for one that was not answered came before it", func(o *Object) error {
			o.Unanswered(lost)
			return o.Refused(false, "conflict")
		}, ""},
		{"what was not answered has happened", func(o *Object) error {
			o.Unanswered(lost)
			return o.Observed(state(6, "lost"))
		}, ""},
		{"what was not answered has not happened", func(o *Object) error {
			o.Unanswered(lost)
			return o.Observed(state(5, "a"))
		}, ""},
		{"what was not answered is something else", func(o *Object) error {
			o.Unanswered(lost)
			return o.Observed(state(6, "else"))
		}, `but is "else"`},
		{"what was not answered has happened, and is taken back", func(o *Object) error {
			o.Unanswered(lost)
			_ = o.Observed(state(6, "lost"))
			return o.Observed(state(5, "a"))
		}, `it must be one of ["lost" at revision 6], but is "a"`},
		{"what was not answered comes true after a later write", func(o *Object) error {
			o.Unanswered(lost)
			_ = o.Acknowledged(state(7, "b"))
			return o.Observed(state(8, "lost"))
		}, `but is "lost"`},
		{"the first of two that were not answered has happened", func(o *Object) error {
			o.Unanswered(lost)
			o.Unanswered(State{Value: "lost, too"})
			return o.Observed(state(6, "lost"))
		}, ""},
		{"a deletion that was not answered has happened", func(o *Object) error {
			o.Unanswered(State{})
			return o.Observed(State{})
		}, ""},
		{"what was deleted is back", func(o *Object) error {
			_ = o.Acknowledged(State{})
			return o.Observed(state(5, "a"))
		}, `it must be one of [nothing], but is "a"`},
		{"revisions run backwards", func(o *Object) error { return o.Acknowledged(state(5, "b")) }, "revisions run backwards"},
		{"an update makes another object", func(o *Object) error { return o.Acknowledged(State{UID: "v", Rev: 6, Value: "b"}) }, "another UID"},
	} {
		o := &Object{Key: "k"}
		wants(t, "", o.Acknowledged(state(5, "a")))
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			wants(t, c.want, c.tell(o))
		})
	}
}

// TestWritten holds what an object remembers of its writes.
func TestWritten(t *testing.T) {
	t.Parallel()
	o := &Object{Key: "k"}
	wants(t, "", o.Acknowledged(state(5, "a")), o.Acknowledged(state(7, "b")), o.Acknowledged(State{}),
		o.Acknowledged(State{UID: "v", Rev: 12, Value: "c"}))
	want := []Write{
		{Key: "k", UID: "u", Rev: 5, Value: "a", Create: true},
		{Key: "k", UID: "u", Rev: 7, Value: "b", After: 5},
		{Key: "k", UID: "u", After: 7, Before: 12},
		{Key: "k", UID: "v", Rev: 12, Value: "c", Create: true, After: 7},
	}
	for i, w := range o.Written() {
		if w != want[i] {
			t.Errorf("write %d: %+v, want %+v", i, w, want[i])
		}
	}
}
