package control

import (
	"hash/maphash"
	"slices"
	"time"

	"github.com/sampan-batch/sampan/internal/change"
)

// similar combines Events of a pod that differ in their message only, as Kubernetes does: what a
// probe prints, a hook, a registry, is a stranger's text, and another one each second would be as
// many Events, of which thousands of pods' worth fill the store for everybody. Of what our own
// controllers say of other objects all is kept.
type similar struct {
	seed  maphash.Seed
	known map[uint64]*alike
}

// alike are Events that differ in their message only.
type alike struct {
	since    time.Time
	messages []uint64 // fingerprints
}

const (
	// mostAlike is how many messages are kept apart within a time.
	mostAlike = 10
	alikeFor  = 10 * time.Minute
	// mostKinds is how many kinds of Events are remembered.
	mostKinds = 16384

	combinedPrefix = "(combined from similar events): "
)

// combine reports whether a note is to be told in the Event of all that are like it.
func (s *similar) combine(n change.Note, now time.Time) bool {
	if n.Regarding.Kind != "Pod" {
		return false
	}
	if s.known == nil {
		s.seed, s.known = maphash.MakeSeed(), map[uint64]*alike{}
	}
	kind := maphash.Comparable(s.seed, [...]string{string(n.Regarding.UID), n.Regarding.FieldPath, n.Component, n.Type, n.Reason})
	a := s.known[kind]
	if a == nil || now.Sub(a.since) > alikeFor || now.Before(a.since) {
		if a == nil && len(s.known) >= mostKinds {
			s.forget(now)
		}
		a = &alike{since: now}
		s.known[kind] = a
	}
	message := maphash.String(s.seed, n.Message)
	switch {
	case slices.Contains(a.messages, message):
		return false
	case len(a.messages) >= mostAlike:
		return true
	}
	a.messages = append(a.messages, message)
	return false
}

// forget makes room: of what is long ago, or else of all.
func (s *similar) forget(now time.Time) {
	for kind, a := range s.known {
		if now.Sub(a.since) > alikeFor {
			delete(s.known, kind)
		}
	}
	if len(s.known) >= mostKinds {
		clear(s.known)
	}
}
