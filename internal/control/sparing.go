package control

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// sparing tells the log what keeps going wrong. When nothing can be stored, thousands of keys fail
// for one reason and are tried again for hours: it is told at once, then after a second, and each
// time after twice as long, with how often it has happened since. The zero value is ready.
type sparing struct {
	mu    sync.Mutex
	texts map[string]*telling
}

// telling is what is known of one text.
type telling struct {
	next  time.Time // not to be told before
	pause time.Duration
	since int // how often it has happened since it was told
}

const (
	leastPause = time.Second
	mostPause  = 5 * time.Minute
	// mostTexts is how many texts are told apart. Further ones are one, whatever they say.
	mostTexts = 64
)

// tell logs message and err, with args, unless it is too early to say the same again.
func (s *sparing) tell(log *slog.Logger, level slog.Level, message string, err error, args ...any) {
	since, due := s.due(message+": "+err.Error(), time.Now())
	if !due {
		return
	}
	args = append(args, "err", err)
	if since > 1 {
		args = append(args, "times", since)
	}
	log.Log(context.Background(), level, message, args...)
}

// due counts a text, and reports whether it is to be told, with how often it has happened.
func (s *sparing) due(text string, now time.Time) (since int, due bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.findLocked(text, now)
	t.since++
	if now.Before(t.next) && !now.Before(t.next.Add(-t.pause)) { // else the clock was set
		return 0, false
	}
	if now.Sub(t.next) > t.pause {
		t.pause = 0 // it was well in between
	}
	since, t.since = t.since, 0
	t.pause = min(max(2*t.pause, leastPause), mostPause)
	t.next = now.Add(t.pause)
	return since, true
}

func (s *sparing) findLocked(text string, now time.Time) *telling {
	if t := s.texts[text]; t != nil {
		return t
	}
	if s.texts == nil {
		s.texts = map[string]*telling{}
	}
	if len(s.texts) >= mostTexts {
		for known, t := range s.texts {
			if now.Sub(t.next) > t.pause {
				delete(s.texts, known)
			}
		}
	}
	if len(s.texts) >= mostTexts {
		text = ""
	}
	t := s.texts[text]
	if t == nil {
		t = &telling{}
		s.texts[text] = t
	}
	return t
}
