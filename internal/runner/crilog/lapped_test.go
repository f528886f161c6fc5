package crilog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"k8s.io/utils/ptr"
)

// gate is a writer that takes nothing until it is opened.
type gate struct {
	bytes.Buffer
	reached chan struct{} // closed by the first Write
	open    chan struct{}
}

func newGate() *gate { return &gate{reached: make(chan struct{}), open: make(chan struct{})} }

func (g *gate) Write(p []byte) (int, error) {
	if !isClosed(g.reached) {
		close(g.reached)
	}
	<-g.open
	return g.Buffer.Write(p)
}

var removed = regexp.MustCompile(`(?m)^(?:[-0-9T:.]+Z )?sampan: (\d+) bytes of this log were removed before they could be read\n`)

// number is the one that a line of eight digits has.
func number(line string) int {
	n, _ := strconv.Atoi(line[:8])
	return n
}

// TestLapped: what was removed before a reader came to it is said, in its place and
// to the byte, whether it follows or not.
func TestLapped(t *testing.T) {
	t.Parallel()
	for _, follow := range []bool{true, false} {
		t.Run(fmt.Sprint("follow ", follow), func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "0.log")
			w := mustOpen(t, path, Limits{Size: 50_000, Files: 2})
			text := func(from, to int) string {
				var b strings.Builder
				for i := from; i <= to; i++ {
					fmt.Fprintf(&b, "%08d\n", i)
				}
				return b.String()
			}
			const first, all = 2000, 30_000        // lines of 49 bytes in the file
			mustWrite(t, w, Stdout, text(1, 1500)) // a file of its own
			mustWrite(t, w, Stdout, text(1501, first))
			out, done, ended := newGate(), make(chan error), make(chan struct{})
			go func() { done <- Read(t.Context(), path, Options{Follow: follow, Ended: ended}, out) }()
			<-out.reached
			for i := first; i < all; i += 500 {
				mustWrite(t, w, Stdout, text(i+1, i+500))
			}
			close(ended)
			close(out.open)
			if err := <-done; err != nil {
				t.Fatal(err)
			}
			got := out.String()
			said := removed.FindStringSubmatch(got)
			if said == nil {
				t.Fatalf("nothing is said of what was removed: %d lines", strings.Count(got, "\n"))
			}
			before, after, _ := strings.Cut(got, said[0])
			last, want := number(before[len(before)-9:]), ""
			next := first + 1 // where the one that does not follow was to end
			if after != "" {
				next = number(after)
				want = text(next, all)
			}
			if before != text(1, last) || after != want || follow != (after != "") {
				t.Errorf("it goes from %d on with %d, and is not whole", last, next)
			}
			if n, _ := strconv.Atoi(said[1]); n != 49*(next-1-last) {
				t.Errorf("%d bytes are said to be missing, it is %d lines of 49", n, next-1-last)
			}
		})
	}
}

// follower collects what a follower reads.
type follower struct {
	t     *testing.T
	seen  chan string
	done  chan error
	ended chan struct{}
	text  string
}

func follow(t *testing.T, path string) *follower {
	f := &follower{t: t, seen: make(chan string, 100), done: make(chan error, 1), ended: make(chan struct{})}
	go func() {
		f.done <- Read(t.Context(), path, Options{Follow: true, Ended: f.ended}, writerFunc(func(p []byte) { f.seen <- string(p) }))
	}()
	return f
}

// await waits until the text ends so.
func (f *follower) await(end string) {
	f.t.Helper()
	limit := time.After(20 * time.Second)
	for !strings.HasSuffix(f.text, end) {
		select {
		case text := <-f.seen:
			f.text += text
		case <-limit:
			f.t.Fatalf("%.100q is not seen", end)
		}
	}
}

// TestNotLapped: a file that was read before it was removed is not missed.
func TestNotLapped(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "0.log")
	w := mustOpen(t, path, Limits{Size: 1000, Files: 2})
	f, want := follow(t, path), ""
	for i := range 20 {
		line := strings.Repeat(strconv.Itoa(i%10), 1000) + "\n"
		mustWrite(t, w, Stdout, line)
		want += line
		f.await(line)
	}
	if f.text != want {
		t.Errorf("got %d bytes, want %d: %q", len(f.text), len(want), removed.FindString(f.text))
	}
}

// TestBusyLogEnds: who does not follow reads what there is, however fast more comes.
func TestBusyLogEnds(t *testing.T) {
	t.Parallel()
	for _, opts := range []Options{{}, {Tail: ptr.To[int64](150)}} {
		path := filepath.Join(t.TempDir(), "0.log")
		w := mustOpen(t, path, Limits{Size: 4000, Files: 3})
		mustWrite(t, w, Stdout, lines(1, 200))
		more := writerFunc(func([]byte) { mustWrite(t, w, Stdout, "more\n") })
		r, err := NewReader(path, opts)
		if err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		if err := r.Copy(t.Context(), io.MultiWriter(more, &out)); err != nil {
			t.Fatal(err)
		}
		r.Close()
		if got := out.String(); !strings.HasSuffix(lines(1, 200), got) || !strings.HasSuffix(got, "line 200\n") {
			t.Errorf("got %q", got)
		}
	}
}

func TestFollowWhatIsTruncated(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "0.log")
	w := mustOpen(t, path, Limits{})
	f := follow(t, path)
	mustWrite(t, w, Stdout, lines(1, 10))
	f.await("line 10\n")
	if err := os.Truncate(path, 0); err != nil {
		t.Fatal(err)
	}
	f.await("sampan: this log was truncated, and begins anew here\n")
	mustWrite(t, w, Stdout, "new\n")
	f.await("\nnew\n")
}

func TestFollowWhatIsRemoved(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "0.log")
	mustWrite(t, mustOpen(t, path, Limits{}), Stdout, "line 1\n")
	f := follow(t, path)
	f.await("line 1\n")
	if err := Remove(path); err != nil {
		t.Fatal(err)
	}
	close(f.ended)
	if err := <-f.done; !errors.Is(err, ErrRemoved) {
		t.Errorf("got %v", err)
	}
}

// TestFollowWithoutTheKernel: when the kernel says nothing, the file is looked at
// all the same.
func TestFollowWithoutTheKernel(t *testing.T) {
	t.Parallel()
	f, err := os.Create(filepath.Join(t.TempDir(), "0.log"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	w := newWatcher()
	defer w.close()
	for w.young > 0 {
		w.file(f)
	}
	if w.wd < 0 {
		t.Fatal("the kernel gives no watch")
	}
	if _, err := unix.InotifyRmWatch(int(w.events.Fd()), uint32(w.wd)); err != nil {
		t.Fatal(err)
	}
	select {
	case <-w.tick.C:
	case <-time.After(20 * netInterval):
		t.Error("it is silent for good")
	}
}

// TestReadFormerNames: a supervisor of a former version goes on naming its rotated
// files without a position.
func TestReadFormerNames(t *testing.T) {
	t.Parallel()
	path := written(t, 10, 3)
	w := mustOpen(t, path, Limits{Size: 1, Files: 10})
	mustWrite(t, w, Stdout, "line 11\n")
	mustWrite(t, w, Stdout, "line 12\n")
	if got := mustRead(t, path, Options{}); got != lines(1, 12) {
		t.Errorf("got %q", got)
	}
	if got := mustRead(t, path, Options{Tail: ptr.To[int64](4)}); got != lines(9, 12) {
		t.Errorf("the tail: %q", got)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Read(ctx, path, Options{Follow: true}, io.Discard); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}
