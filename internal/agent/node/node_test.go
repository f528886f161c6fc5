package node

import (
	"context"
	"log/slog"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/resource"

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

// TestExtendedResources: what somebody has added to the node's capacity stays, and pods may use it; what the
// machine has is what it says itself, and what is gone from the capacity is gone.
func TestExtendedResources(t *testing.T) {
	t.Parallel()
	const dongles = corev1.ResourceName("example.com/dongle")
	list := func(cpu string, more ...string) corev1.ResourceList {
		l := corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpu)}
		for _, q := range more {
			l[dongles] = resource.MustParse(q)
		}
		return l
	}
	for name, c := range map[string]struct {
		present                   corev1.NodeStatus
		wantCapacity, wantForPods corev1.ResourceList
	}{
		"a new node":                {corev1.NodeStatus{}, list("2"), list("1")},
		"added to the capacity":     {corev1.NodeStatus{Capacity: list("2", "4"), Allocatable: list("1")}, list("2", "4"), list("1", "4")},
		"fewer of them":             {corev1.NodeStatus{Capacity: list("2", "3"), Allocatable: list("1", "4")}, list("2", "3"), list("1", "3")},
		"removed from the capacity": {corev1.NodeStatus{Capacity: list("2"), Allocatable: list("1", "4")}, list("2"), list("1")},
		"a larger machine":          {corev1.NodeStatus{Capacity: list("64"), Allocatable: list("64")}, list("2"), list("1")},
		"no extended resource":      {corev1.NodeStatus{Capacity: corev1.ResourceList{"widgets": resource.MustParse("1")}}, list("2"), list("1")},
	} {
		api := &recorder{node: &corev1.Node{Status: c.present}}
		n, err := New(Config{Name: "n1", Capacity: list("2"), Allocatable: list("1"), API: api, Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		// Somebody has written the status just after the node had.
		beats := &heartbeat{node: n, told: n.now(), at: time.Now()}
		for range 2 {
			if beats.look(t.Context()) {
				t.Fatalf("%s: the node is gone", name)
			}
			if err := beats.status(t.Context(), time.Now()); err != nil {
				t.Fatal(err)
			}
		}
		if s := api.node.Status; !equality.Semantic.DeepEqual(s.Capacity, c.wantCapacity) || !equality.Semantic.DeepEqual(s.Allocatable, c.wantForPods) {
			t.Errorf("%s: capacity %v, allocatable %v", name, s.Capacity, s.Allocatable)
		}
		if api.writes != 1 {
			t.Errorf("%s: %d writes", name, api.writes)
		}
	}
}

// recorder is an API that takes a node and keeps its Events.
type recorder struct {
	API
	notes  []change.Note
	node   *corev1.Node
	writes int // of its status
}

func (r *recorder) Node(context.Context, string) (*corev1.Node, error) { return r.node, nil }

func (r *recorder) UpdateNodeStatus(_ context.Context, _ string, status func(*corev1.Node) corev1.NodeStatus) error {
	r.writes++
	r.node = &corev1.Node{Status: status(r.node)}
	return nil
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
