package engine

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"
)

// TestInquiry: what may never answer is asked once at a time and once a second,
// however many ask, and nobody waits for long.
func TestInquiry(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var asked atomic.Int32
		hold := make(chan struct{})
		q := &inquiry{what: "the oracle", ask: func(context.Context) error {
			asked.Add(1)
			<-hold
			return errors.New("no")
		}}
		begin := time.Now()
		var crowd sync.WaitGroup
		for range 100 {
			crowd.Go(func() {
				if err := q.answer(); err == nil || err.Error() != "the oracle has not answered for 2s" {
					t.Errorf("got %v", err)
				}
			})
		}
		crowd.Wait()
		if took := time.Since(begin); asked.Load() != 1 || took != answerTime {
			t.Errorf("asked %d times in %s", asked.Load(), took)
		}
		time.Sleep(time.Minute)
		begin = time.Now()
		if err := q.answer(); err == nil || err.Error() != "the oracle has not answered for 1m2s" || time.Since(begin) > 0 {
			t.Errorf("later: %v, after %s", err, time.Since(begin))
		}
		close(hold)
		synctest.Wait()
		for range 100 {
			if err := q.answer(); err == nil || err.Error() != "no" {
				t.Errorf("got %v", err)
			}
		}
		if asked.Load() != 1 {
			t.Errorf("asked %d times at once", asked.Load())
		}
		time.Sleep(answerLife)
		if err := q.answer(); err == nil || asked.Load() != 2 {
			t.Errorf("asked %d times: %v", asked.Load(), err)
		}
	})
}

// TestTryDisk: a disk is well that takes a block, and nothing of it stays.
func TestTryDisk(t *testing.T) {
	t.Parallel()
	for name, options := range map[string]string{"blocks": "size=1m", "inodes": "size=1m,nr_inodes=10"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir, fill := fullDisk(t, options)
			if err := tryDisk(dir); err != nil {
				t.Errorf("with room: %v", err)
			}
			if list, err := os.ReadDir(dir); err != nil || len(list) > 0 {
				t.Errorf("left behind: %v, %v", list, err)
			}
			fill()
			if err := tryDisk(dir); !errors.Is(err, unix.ENOSPC) || !strings.Contains(err.Error(), dir) {
				t.Errorf("full: %v", err)
			}
		})
	}
	t.Run("read-only", func(t *testing.T) {
		t.Parallel()
		dir, _ := fullDisk(t, "size=1m")
		if err := unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
			t.Fatal(err)
		}
		if err := tryDisk(dir); !errors.Is(err, unix.EROFS) || !strings.Contains(err.Error(), dir) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("gone", func(t *testing.T) {
		t.Parallel()
		if err := tryDisk(filepath.Join(t.TempDir(), "absent")); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("got %v", err)
		}
	})
}

func TestClockCheck(t *testing.T) {
	t.Parallel()
	wall, steady := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), time.Hour
	pass := func(d, set time.Duration) { wall, steady = wall.Add(d+set), steady+d }
	read := func() (time.Time, time.Duration) { return wall, steady }
	want := func(c *clockCheck, say string) {
		t.Helper()
		switch err := c.check(); {
		case say == "" && err != nil:
			t.Errorf("got %v", err)
		case say != "" && (err == nil || !strings.HasPrefix(err.Error(), say)):
			t.Errorf("got %v, want %s", err, say)
		}
	}
	c := newClockCheck(read, time.Time{})
	want(c, "")
	pass(24*time.Hour, 0) // also asleep
	want(c, "")
	for range 100 { // a time server at work
		pass(time.Minute, 30*time.Millisecond)
		want(c, "")
	}
	pass(time.Second, clockTolerance+time.Second)
	want(c, "the clock was set forward by 1m1s, 0s ago")
	pass(time.Minute, 0)
	want(c, "the clock was set forward by 1m1s, 1m0s ago")
	pass(clockDoubt, 0)
	want(c, "")
	pass(0, -48*time.Hour)
	c.look() // the kernel says that it was set
	pass(time.Minute, 0)
	want(c, "the clock was set back by 48h0m0s, 1m0s ago")

	want(newClockCheck(read, wall.Add(-time.Hour)), "")
	want(newClockCheck(read, wall.Add(30*time.Second)), "")
	c = newClockCheck(read, wall.Add(time.Hour))
	want(c, "the clock was set back by 1h0m0s, 0s ago")
	pass(clockDoubt+time.Second, 0)
	want(c, "")
	if now, steady := readClocks(); time.Since(now).Abs() > time.Minute || steady <= 0 {
		t.Errorf("read %v, %v", now, steady)
	}
}

// TestNotifier: the service manager hears that the engine is ready, that it lives,
// in half of the time that it waits, as long as it is alive, one line when something
// changes, and that it stops. A disk that hangs keeps nobody from saying that the
// engine lives.
func TestNotifier(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var told []string
		var live, unready error
		hang := make(chan struct{})
		close(hang)
		take := func() []string {
			mu.Lock()
			defer mu.Unlock()
			taken := told
			told = nil
			return taken
		}
		n := &notifier{
			live: func() error { mu.Lock(); defer mu.Unlock(); return live },
			ready: func() error {
				mu.Lock()
				waits, err := hang, unready
				mu.Unlock()
				<-waits
				return err
			},
			addr:     "127.0.0.1:6443",
			log:      slog.New(slog.DiscardHandler),
			watchdog: 30 * time.Second,
			send: func(state string) error {
				mu.Lock()
				defer mu.Unlock()
				told = append(told, state)
				return nil
			},
		}
		ctx, cancel := context.WithCancel(t.Context())
		ready, done := make(chan struct{}), make(chan struct{})
		go func() { n.run(ctx, ready); close(done) }()
		time.Sleep(time.Minute)
		if got := take(); len(got) > 0 {
			t.Errorf("before it is ready: %q", got)
		}
		close(ready)
		synctest.Wait()
		if got := take(); len(got) != 3 || got[0] != "READY=1" || !slices.Contains(got, "WATCHDOG=1") || !slices.Contains(got, "STATUS=ready: https://127.0.0.1:6443") {
			t.Errorf("when it is ready: %q", got)
		}
		time.Sleep(time.Minute + time.Second)
		if got := take(); !slices.Equal(got, slices.Repeat([]string{"WATCHDOG=1"}, 4)) {
			t.Errorf("in a minute: %q", got)
		}
		set := func(f func()) { mu.Lock(); defer mu.Unlock(); f() }
		set(func() { unready = errors.New("disk: no\nroom") })
		time.Sleep(10 * time.Second)
		if got := take(); !slices.Contains(got, "STATUS=not ready: disk: no; room") {
			t.Errorf("not ready: %q", got)
		}
		set(func() { hang = make(chan struct{}) })
		time.Sleep(time.Minute)
		if got := take(); !slices.Equal(got, slices.Repeat([]string{"WATCHDOG=1"}, 4)) {
			t.Errorf("while a check hangs: %q", got)
		}
		close(hang)
		set(func() { live = errors.New("store: it has stopped") })
		time.Sleep(time.Minute)
		if got := take(); !slices.Equal(got, []string{"STATUS=not ready: store: it has stopped"}) {
			t.Errorf("not alive: %q", got)
		}
		cancel()
		<-done
		if got := take(); !slices.Equal(got, []string{"STOPPING=1"}) {
			t.Errorf("at the end: %q", got)
		}
	})
}
