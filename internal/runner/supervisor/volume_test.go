package supervisor

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/sampan-batch/sampan/internal/runner"
)

// However many ask for a pod's usage, and however long it takes, it is measured
// once at a time; another pod does not wait, nor does one who has given up.
func TestMeasuredOnceAtATime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newMeasurer()
		release := make(chan struct{})
		var walks, answers atomic.Int32
		slow := func() (runner.PodUsage, error) {
			walks.Add(1)
			<-release
			return runner.PodUsage{Shared: runner.DiskUsage{Bytes: 7}}, nil
		}
		for range 5 {
			go func() {
				if u, err := m.measure(context.Background(), "a", slow); err == nil && u.Shared.Bytes == 7 {
					answers.Add(1)
				}
			}()
		}
		synctest.Wait()
		if walks.Load() != 1 || answers.Load() != 0 {
			t.Errorf("%d walks, %d answers", walks.Load(), answers.Load())
		}
		quick := func() (runner.PodUsage, error) { return runner.PodUsage{}, errors.New("quick") }
		if _, err := m.measure(context.Background(), "b", quick); err == nil || err.Error() != "quick" {
			t.Errorf("another pod: %v", err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if _, err := m.measure(ctx, "a", slow); !errors.Is(err, context.Canceled) {
			t.Errorf("given up: %v", err)
		}
		close(release)
		synctest.Wait()
		if walks.Load() != 1 || answers.Load() != 5 {
			t.Errorf("%d walks, %d answers", walks.Load(), answers.Load())
		}
		if _, err := m.measure(context.Background(), "a", quick); err == nil {
			t.Error("later: the old answer")
		}
	})
}

// stuckLauncher has nothing but pods that cannot be released.
type stuckLauncher struct {
	runner.Launcher
	remains  error
	finished int
}

func (l *stuckLauncher) Recover([]*runner.Spec) error { return nil }
func (l *stuckLauncher) Pods() ([]string, error)      { return []string{"a", "b", "c", "d", "e"}, nil }
func (l *stuckLauncher) ReleasePod(string) error      { return errors.New(strings.Repeat("long", 20000)) }
func (l *stuckLauncher) RemovePod(string) error       { return nil }
func (l *stuckLauncher) Finish(context.Context) error {
	l.finished++
	return l.remains
}

// What goes wrong when a supervisor ends is said in a few lines.
func TestStopSaysItBriefly(t *testing.T) {
	t.Parallel()
	opts := Options{Dir: t.TempDir(), Class: runner.Host}
	if err := os.MkdirAll(opts.home(), 0o700); err != nil {
		t.Fatal(err)
	}
	l := &stuckLauncher{remains: runner.ErrRemains}
	stop := func(private bool) error {
		opts.Private = private
		s, err := newSupervisor(opts, l, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		if err := s.recover(); err != nil {
			t.Fatal(err)
		}
		first := s.stop()
		if again := s.stop(); private && again != first {
			t.Errorf("once more: %v", again)
		}
		return first
	}
	err := stop(false)
	if text := err.Error(); len(text) > 2000 || !strings.Contains(text, "and 2 more") || !strings.Contains(text, "pod ") || errors.Is(err, runner.ErrRemains) {
		t.Errorf("%d bytes: %.3000s", len(text), text)
	}
	if err := stop(true); !errors.Is(err, runner.ErrRemains) || l.finished != 2 {
		t.Errorf("got %v; finished %d times", err, l.finished)
	}
	l.remains = nil
	if err := stop(true); err != nil {
		t.Errorf("got %v", err)
	}
}

// A client that stops a supervisor is told what remains, and the supervisor is
// gone all the same.
func TestStopWithRemains(t *testing.T) {
	t.Parallel()
	for _, err := range []error{runner.ErrRemains, runner.ErrNoVolume} {
		wire := toWire(errors.Join(err, errors.New("more")))
		if got := wire.toError(); !errors.Is(got, err) || !strings.HasSuffix(got.Error(), "more") {
			t.Errorf("%v became %v", err, got)
		}
	}
}

// A supervisor of a former version keeps what it has, starts nothing, and is
// replaced when nothing of it runs any more.
func TestOlderSupervisorIsReplaced(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	t.Cleanup(func() { stopDir(t, dir) })
	former := filepath.Join(dir, formerFile)
	if err := os.WriteFile(former, []byte("1"), 0o600); err != nil {
		t.Fatal(err)
	}
	old := openClient(t, dir)
	l, err := old.link(runner.Host)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	l.conn.protocol = protocol // as an engine of that version has it
	spec := shellSpec(dir, "a", "read line")
	spec.Stdin = true
	mustStart(t, old, spec)
	if err := errors.Join(old.Close(), os.Remove(former)); err != nil {
		t.Fatal(err)
	}

	c := openClient(t, dir)
	next := shellSpec(dir, "b", "exit 3")
	if _, err := c.Start(t.Context(), next); !errors.Is(err, errOld) {
		t.Errorf("the older one has started a container: %v", err)
	}
	before := c.PID(runner.Host)
	if err := c.Signal(t.Context(), spec.ID, 9); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Wait(t.Context(), spec.ID); err != nil {
		t.Fatal(err)
	}
	mustStart(t, c, next)
	if st, err := c.Wait(t.Context(), next.ID); err != nil || st.ExitCode != 3 || c.PID(runner.Host) == before {
		t.Errorf("after it has been replaced: %+v %v", st, err)
	}
}

// An engine that finds a supervisor of before there were volumes, says so.
func TestOlderSupervisor(t *testing.T) {
	t.Parallel()
	c := &connection{protocol: 1}
	for _, v := range []verb{verbStart, verbSetVolume, verbUsage, verbPods, verbSetImage, verbRead} {
		if err := c.call(t.Context(), v, nil, nil); !errors.Is(err, errOld) {
			t.Errorf("%d: %v", v, err)
		}
	}
	c.protocol = 3 // before there were image volumes, and files that are read
	for _, v := range []verb{verbSetImage, verbRead, verbResize} {
		if err := c.call(t.Context(), v, nil, nil); !errors.Is(err, errOld) {
			t.Errorf("%d: %v", v, err)
		}
	}
	if err := c.call(t.Context(), verbRemovePod, nil, nil); !errors.Is(err, errLost) { // it is not connected
		t.Errorf("got %v", err)
	}
}
