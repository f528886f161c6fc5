package server

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"time"
)

const (
	// spareEvery is the time in which spareMost lines that are alike are logged, at
	// most.
	spareEvery = time.Minute
	spareMost  = 10
	// spareKinds is how many kinds of lines are told apart.
	spareKinds = 256
)

// sparing keeps lines that are alike from filling the disk: what the libraries log
// about requests, clients can make them log as often as they like. The first of a
// minute are passed on, and the next one after it says how many were not.
type sparing struct {
	slog.Handler
	tally *tally
}

// tally counts lines by their kind.
type tally struct {
	mu    sync.Mutex
	kinds map[string]*kindTally
}

type kindTally struct {
	since   time.Time
	n       int
	dropped int
}

func newSparing(h slog.Handler) sparing {
	return sparing{h, &tally{kinds: map[string]*kindTally{}}}
}

// kindOf is what lines that are alike have in common: the message, and how the
// error begins.
func kindOf(r slog.Record) string {
	begin, _, _ := strings.Cut(errorOf(r), ":")
	return r.Message + "\x00" + begin[:min(len(begin), 60)]
}

// admit tells whether a line is passed on, and how many were not before it.
func (t *tally) admit(kind string, now time.Time) (pass bool, dropped int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	k := t.kinds[kind]
	if k == nil {
		if len(t.kinds) >= spareKinds {
			clear(t.kinds)
		}
		k = &kindTally{since: now}
		t.kinds[kind] = k
	}
	if now.Sub(k.since) >= spareEvery {
		k.since, k.n = now, 0
	}
	if k.n >= spareMost {
		k.dropped++
		return false, 0
	}
	k.n++
	dropped, k.dropped = k.dropped, 0
	return true, dropped
}

func (h sparing) Handle(ctx context.Context, r slog.Record) error {
	pass, dropped := h.tally.admit(kindOf(r), r.Time)
	if !pass {
		return nil
	}
	if dropped > 0 {
		r = r.Clone()
		r.AddAttrs(slog.Int("alikeNotLogged", dropped))
	}
	return h.Handler.Handle(ctx, r)
}

func (h sparing) WithAttrs(attrs []slog.Attr) slog.Handler {
	return sparing{h.Handler.WithAttrs(attrs), h.tally}
}

func (h sparing) WithGroup(name string) slog.Handler {
	return sparing{h.Handler.WithGroup(name), h.tally}
}
