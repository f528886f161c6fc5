package control

import (
	"context"
	"encoding/hex"
	"errors"
	"hash/fnv"
	"log/slog"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/kind"
	"github.com/sampan-batch/sampan/internal/store"
)

// Recorder turns notes into Events. An Event's name derives from what it says
// about whom, so that the same note again raises the count of the same Event;
// of a pod, many that differ in their message only are one (see similar).
// It is best effort: when more notes arrive than can be stored, notes are
// dropped and counted, and nobody waits.
type Recorder struct {
	store *store.Store
	node  string
	log   *slog.Logger
	wake  chan struct{} // holds something when notes wait

	sparing sparing

	mu      sync.Mutex
	waiting []noted
	dropped int
	similar similar
}

// noted is a note and when it was taken.
type noted struct {
	change.Note
	at       time.Time
	combined bool // told in the Event of all that are like it
}

const (
	recorderQueue = 32768
	recorderBatch = 512
	writeTimeout  = 5 * time.Second
	// maxMessage is Kubernetes' limit for an Event's message, in bytes.
	maxMessage = 1024
)

// NewRecorder returns a recorder that stores Events; node is the host that
// notes of the kubelet name. Run runs it.
func NewRecorder(s *store.Store, node string, log *slog.Logger) *Recorder {
	return &Recorder{store: s, node: node, log: log, wake: make(chan struct{}, 1)}
}

// Record takes notes to be stored soon. It never blocks.
func (r *Recorder) Record(notes ...change.Note) {
	if len(notes) == 0 {
		return
	}
	now := time.Now().Round(0)
	r.mu.Lock()
	defer r.mu.Unlock()
	room := min(len(notes), recorderQueue-len(r.waiting))
	for _, n := range notes[:room] {
		n.Message = bounded(n.Message) // what waits takes memory
		combined := r.similar.combine(n, now)
		if combined {
			n.Message = bounded(combinedPrefix + n.Message)
		}
		r.waiting = append(r.waiting, noted{n, now, combined})
	}
	r.dropped += len(notes) - room
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// Run stores notes until ctx ends, then what is left of them.
func (r *Recorder) Run(ctx context.Context) error {
	for {
		select {
		case <-r.wake:
			r.flush()
		case <-ctx.Done():
			r.flush()
			return context.Cause(ctx)
		}
	}
}

// flush stores the notes that wait.
func (r *Recorder) flush() {
	for {
		notes, dropped := r.take()
		if dropped > 0 {
			r.log.Warn("events were dropped: more than can be stored", "count", dropped)
		}
		if len(notes) == 0 {
			return
		}
		r.write(notes)
	}
}

// take returns a batch of the notes that wait, and how many were dropped since.
// The last batch takes the queue along, so that a burst leaves no memory behind.
func (r *Recorder) take() (notes []noted, dropped int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := min(len(r.waiting), recorderBatch)
	notes, r.waiting = r.waiting[:n:n], r.waiting[n:]
	if len(r.waiting) == 0 {
		r.waiting = nil
	}
	dropped, r.dropped = r.dropped, 0
	return notes, dropped
}

// write stores notes. It has a deadline of its own: the end of Run must not lose
// what was noted before.
func (r *Recorder) write(notes []noted) {
	ctx, cancel := context.WithTimeout(context.Background(), writeTimeout)
	defer cancel()
	closed := map[string]bool{} // namespaces that are being deleted, or are gone
	for attempt := 0; ; attempt++ {
		set := r.decide(r.store.View(), notes, closed)
		if len(set.Writes) == 0 {
			return
		}
		for _, w := range set.Writes {
			stamp(w.Object, notes[0].at)
		}
		_, err := r.store.Apply(ctx, set)
		var conflict *store.ConflictError
		var refusal *change.Refusal
		switch {
		case err == nil || ctx.Err() != nil:
			return
		case errors.As(err, &refusal) && !closed[namespaceOf(set, refusal.Taken)]:
			attempt--
			closed[namespaceOf(set, refusal.Taken)] = true
		case errors.As(err, &conflict) && attempt < 3:
		default:
			r.sparing.tell(r.log, slog.LevelWarn, "events were not stored", err, "count", len(notes))
			return
		}
	}
}

// namespaceOf returns where a set has its creation number n, counted from 0.
func namespaceOf(set change.Set, n int) string {
	for _, w := range set.Writes {
		if w.Op != change.Create {
			continue
		}
		if n == 0 {
			return w.Key.Namespace
		}
		n--
	}
	return ""
}

// decide returns the set that stores notes on top of view; in closed namespaces there are no new
// Events, as in Kubernetes.
func (r *Recorder) decide(view *store.View, notes []noted, closed map[string]bool) change.Set {
	set := change.Set{Lazy: true}
	pending := make(map[change.Key]*corev1.Event, len(notes))
	for _, n := range notes {
		key := eventKey(n)
		ev := pending[key]
		if ev == nil {
			if old, ok := view.Get(key); ok {
				ev = old.DeepCopyObject().(*corev1.Event)
				set.Update(key, change.RevOf(ev), ev)
			} else if closed[key.Namespace] {
				continue
			} else {
				ev = r.event(key, n)
				set.Create(key, ev)
			}
			pending[key] = ev
		}
		if ev.Count++; n.combined {
			ev.Message = n.Message // the last one is told
		}
		ev.LastTimestamp = metav1.NewTime(n.at.Truncate(time.Second))
		ev.InvolvedObject.ResourceVersion = n.Regarding.ResourceVersion
	}
	return set
}

// event returns a new Event, not counted yet.
func (r *Recorder) event(key change.Key, n noted) *corev1.Event {
	source := corev1.EventSource{Component: n.Component}
	if n.Component == "kubelet" {
		source.Host = r.node
	}
	return &corev1.Event{
		ObjectMeta:          metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name},
		InvolvedObject:      n.Regarding,
		Reason:              n.Reason,
		Message:             n.Message,
		Type:                n.Type,
		Source:              source,
		FirstTimestamp:      metav1.NewTime(n.at.Truncate(time.Second)),
		ReportingController: n.Component,
		ReportingInstance:   source.Host,
	}
}

// bounded is a message as an Event may have it.
func bounded(message string) string {
	if len(message) <= maxMessage {
		return message
	}
	return strings.ToValidUTF8(message[:maxMessage], "")
}

// eventKey derives the Event's key from what the note says.
func eventKey(n noted) change.Key {
	message := n.Message
	if n.combined {
		message = combinedPrefix
	}
	h := fnv.New64a()
	for _, s := range []string{
		n.Regarding.Kind, string(n.Regarding.UID), n.Regarding.FieldPath, n.Component, n.Type, n.Reason, message,
	} {
		h.Write([]byte(s))
		h.Write([]byte{0})
	}
	ns := n.Regarding.Namespace
	if ns == "" {
		ns = metav1.NamespaceDefault
	}
	name := n.Regarding.Name
	const suffix = 1 + 16
	if len(name) > 253-suffix {
		name = name[:253-suffix]
	}
	return kind.Events.Key(ns, name+"."+hex.EncodeToString(h.Sum(nil)))
}
