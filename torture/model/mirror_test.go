package model

import (
	"slices"
	"testing"
)

// written are the writes of an object's life, shown those events of a watch that
// show it as it was.
var (
	written = []Write{
		{Key: "k", UID: "u", Rev: 5, Value: "a", Create: true},
		{Key: "k", UID: "u", Rev: 7, Value: "b", After: 5},
		{Key: "k", UID: "u", After: 7, Before: 12},
		{Key: "k", UID: "v", Rev: 12, Value: "c", Create: true, After: 7},
	}
	shown = []Event{
		{Added, "k", State{"u", 5, "a"}},
		{Modified, "k", State{"u", 7, "b"}},
		{Deleted, "k", State{"u", 9, "b"}},
		{Added, "k", State{"v", 12, "c"}},
	}
)

// watch gives events to a mirror that began with nothing.
func watch(events []Event) (errs []error) {
	m := &Mirror{Name: "watch"}
	errs = append(errs, m.Listed(2, nil))
	for _, e := range events {
		errs = append(errs, m.Saw(e))
	}
	errs = append(errs, m.Bookmark(20))
	_, wrong := m.Check(written)
	return append(errs, wrong...)
}

// TestWatch shows a watch as it has to be, and every way in which it can be wrong.
func TestWatch(t *testing.T) {
	t.Parallel()
	with := func(i int, e Event) []Event {
		changed := slices.Clone(shown)
		changed[i] = e
		return changed
	}
	for _, c := range []struct {
		name   string
		events []Event
		want   string
	}{
		{"as it was", shown, ""},
		{"an event is missing", slices.Delete(slices.Clone(shown), 1, 2), `never showed k as "b" at revision 7`},
		{"a deletion is missing", slices.Delete(slices.Clone(shown), 2, 3), "never showed that k was deleted after revision 7"},
		{"the first event is missing", shown[1:], "MODIFIED k at revision 7, which was not there"},
		{"an event comes twice", slices.Insert(slices.Clone(shown), 2, shown[1]), "at revision 7 comes after revision 7: twice"},
		{"an event comes twice, with another revision", slices.Insert(slices.Clone(shown), 2, Event{Modified, "k", State{"u", 8, "b"}}), `is "b" at revision 8, and was at 7`},
		{"two events in the wrong order", []Event{shown[1], shown[0], shown[2], shown[3]}, "at revision 5 comes after revision 7"},
		{"what was refused", slices.Insert(slices.Clone(shown), 2, Event{Modified, "k", State{"u", 8, "refused"}}), "refused or never written"},
		{"another revision", with(1, Event{Modified, "k", State{"u", 6, "b"}}), "but written as k at 7"},
		{"another kind of event", with(1, Event{Added, "k", State{"u", 7, "b"}}), "ADDED k at revision 7, which is there since revision 5"},
		{"a deletion that nobody made", append(slices.Clone(shown), Event{Deleted, "k", State{"v", 15, "c"}}), "not by who owns it"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			wants(t, c.want, watch(c.events)...)
		})
	}
}

// TestWatchAcrossLists begins a watch anew: what lies between is not its business.
func TestWatchAcrossLists(t *testing.T) {
	t.Parallel()
	m := &Mirror{Name: "watch"}
	wants(t, "", m.Listed(2, nil), m.Saw(shown[0]), m.Listed(10, nil), m.Saw(shown[3]))
	_, errs := m.Check(written)
	wants(t, "", errs...)
	wants(t, "a list is at revision 3, the watch was at 12", m.Listed(3, nil))
}

// TestCompare holds a mirror against a list that does not agree with it.
func TestCompare(t *testing.T) {
	t.Parallel()
	m := &Mirror{Name: "watch"}
	wants(t, "", m.Listed(2, nil), m.Saw(shown[0]))
	wants(t, "", m.Compare(5, map[string]State{"k": {"u", 5, "a"}})...)
	wants(t, "the watch shows k", m.Compare(5, map[string]State{"k": {"u", 4, "x"}})...)
	wants(t, "the watch still shows k", m.Compare(5, nil)...)
	wants(t, "the watch shows other as nothing", m.Compare(5, map[string]State{"k": {"u", 5, "a"}, "other": {"o", 3, "x"}})...)
	wants(t, "has seen up to revision 5, not 9", m.Compare(9, nil)...)
	wants(t, "a bookmark at revision 4 after revision 5", m.Bookmark(4))
}
