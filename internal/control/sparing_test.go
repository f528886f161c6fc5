package control

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/kind"
)

// TestSparing: what keeps going wrong is told at once, and then less and less often, with how often
// it was; what has been well in between, and what is new, is told at once.
func TestSparing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		log := slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey || a.Key == slog.LevelKey {
				return slog.Attr{}
			}
			return a
		}}))
		var s sparing
		full := errors.New("full")
		for range 10 * 60 * 80 { // ten minutes
			s.tell(log, slog.LevelError, "not stored", full, "key", "k")
			time.Sleep(time.Second / 80)
		}
		want := `msg="not stored" key=k err=full
msg="not stored" key=k err=full times=80
msg="not stored" key=k err=full times=160
msg="not stored" key=k err=full times=320
msg="not stored" key=k err=full times=640
msg="not stored" key=k err=full times=1280
msg="not stored" key=k err=full times=2560
msg="not stored" key=k err=full times=5120
msg="not stored" key=k err=full times=10240
msg="not stored" key=k err=full times=20480
`
		if out.String() != want {
			t.Errorf("it said\n%swant\n%s", &out, want)
		}
		out.Reset()
		time.Sleep(time.Hour)
		s.tell(log, slog.LevelError, "not stored", full)
		s.tell(log, slog.LevelError, "not stored", errors.New("broken"))
		if got := strings.Count(out.String(), "\n"); got != 2 {
			t.Errorf("after an hour, and of something else, it said\n%s", &out)
		}
		out.Reset()
		for i := range 10_000 { // names of strangers make texts without end
			s.tell(log, slog.LevelError, "not stored", fmt.Errorf("number %d", i))
		}
		if got := strings.Count(out.String(), "\n"); got > mostTexts || len(s.texts) > mostTexts+1 {
			t.Errorf("it said %d of 10000 texts, and knows %d", got, len(s.texts))
		}
		out.Reset()
		time.Sleep(time.Hour)
		s.tell(log, slog.LevelError, "not stored", errors.New("new"))
		if len(s.texts) > 2 || !strings.Contains(out.String(), "err=new") {
			t.Errorf("it knows %d texts, and said\n%s", len(s.texts), &out)
		}
	})
}

// fullSource takes no set.
type fullSource struct {
	Source
	err error
}

func (s fullSource) Apply(context.Context, change.Set) error { return s.err }

// TestNothingCanBeStored: many Jobs that nothing can be written of make no flood of lines.
func TestNothingCanBeStored(t *testing.T) {
	bubble(t, func(b *bundle) {
		b.namespace("default")
		var out bytes.Buffer
		log := slog.New(slog.NewTextHandler(&out, nil))
		// It wants to write something of each Job, always.
		touch := Controller{
			Name:    "touch",
			Dirties: func(_ change.View, ev change.Event, add func(change.Key)) { add(ev.Key) },
			Decide: func(_ time.Time, view change.View, key change.Key, _ error) (set change.Set) {
				if obj, ok := view.Get(key); ok && key.Resource == kind.Jobs {
					set.Update(key, change.RevOf(obj), obj)
				}
				return set
			},
		}
		loop := New(Options{
			Source: fullSource{FromStore(b.store), errors.New("the store is full")}, Kinds: b.kinds, Controllers: []Controller{touch},
			Recorder: NewRecorder(b.store, "node", log), Logger: log, Workers: 4,
		})
		ctx, stop := context.WithCancel(b.t.Context())
		done := make(chan error, 1)
		go func() { done <- loop.Run(ctx) }()
		for i := range 50 {
			b.create(newJob(fmt.Sprint("job-", i)))
		}
		time.Sleep(10 * time.Minute)
		stop()
		<-done
		if lines := strings.Count(out.String(), "decision was not stored"); lines == 0 || lines > 12 {
			b.t.Errorf("%d lines in ten minutes:\n%.2000s", lines, &out)
		}
	})
}
