package node

import (
	"context"
	"log/slog"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/sampan-batch/sampan/internal/change"
)

func TestNameOf(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"box": "box", "My-Box.Local": "my-box.local", "a_b": "a-b", "-x.": "x", "": "localhost", "北": "localhost",
	} {
		if got := NameOf(in); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}

func TestCapacity(t *testing.T) {
	t.Parallel()
	list, err := Capacity(t.TempDir(), 123)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourceEphemeralStorage} {
		if q := list[name]; q.Value() <= 0 {
			t.Errorf("%s: %v", name, q.String())
		}
	}
	if q := list[corev1.ResourcePods]; q.Value() != 123 {
		t.Errorf("pods: %v", q.String())
	}
}

func TestConditionsOfOthersStay(t *testing.T) {
	t.Parallel()
	got := conditions([]corev1.NodeCondition{{Type: "Example", Status: corev1.ConditionTrue}}, state{}, time.Now())
	if len(got) != 5 || got[0].Type != "Example" {
		t.Errorf("got %+v", got)
	}
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	if _, err := New(Config{}); err == nil {
		t.Error("a node of nothing")
	}
}

// recorder is an API that takes a node and keeps its Events.
type recorder struct {
	API
	notes []change.Note
}

func (r *recorder) Record(notes ...change.Note) { r.notes = append(r.notes, notes...) }

func (r *recorder) RegisterNode(_ context.Context, n *corev1.Node) (*corev1.Node, error) {
	stored := n.DeepCopy()
	stored.UID = "uid-1"
	return stored, nil
}

// TestEventsNameTheNode: the Events of a node carry its uid, by which kubectl
// describe finds them, whoever has something to tell of it.
func TestEventsNameTheNode(t *testing.T) {
	t.Parallel()
	api := &recorder{}
	n, err := New(Config{Name: "n1", API: api, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	if !n.register(t.Context()) {
		t.Fatal("not registered")
	}
	n.Note(corev1.EventTypeWarning, "EvictionThresholdMet", "Attempting to reclaim memory")
	for _, note := range api.notes {
		if ref := note.Regarding; ref.Kind != "Node" || ref.Name != "n1" || ref.UID != "uid-1" {
			t.Errorf("%s is about %+v", note.Reason, ref)
		}
	}
	if len(api.notes) != 2 {
		t.Errorf("got %+v", api.notes)
	}
}

// TestPressures: what cannot be written to is under pressure, whatever it says of its
// room, and once.
func TestPressures(t *testing.T) {
	t.Parallel()
	disk := []corev1.NodeConditionType{corev1.NodeDiskPressure}
	for _, s := range []state{
		{pressures: disk}, {health: health{unwritable: true}}, {pressures: disk, health: health{unwritable: true}},
	} {
		if got := s.conditions(); !slices.Equal(got, disk) {
			t.Errorf("%+v: got %v", s, got)
		}
	}
	if got := (state{health: health{runtimes: "down"}}).conditions(); len(got) > 0 {
		t.Errorf("got %v", got)
	}
}
