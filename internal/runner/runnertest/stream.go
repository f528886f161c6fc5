package runnertest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sampan-batch/sampan/internal/runner"
	"github.com/sampan-batch/sampan/internal/stdio"
)

// exec executes a command in a container.
func (b *bench) exec(spec *runner.Spec, streams stdio.Streams, args ...string) (runner.ExitInfo, error) {
	return b.r.Exec(b.ctx, spec.ID, runner.ExecSpec{Args: args}, streams)
}

// text collects what is written to it.
type text struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (w *text) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.buf.Write(p)
}

func (w *text) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.buf.String()
}

// testStreams: what goes in and comes out, of which nothing is lost or mixed up.
func (s suite) testStreams(t *testing.T) {
	b := s.setup(t)
	spec := b.spec("sleep 1000")
	b.start(spec)
	var out, errs text
	exit, err := b.exec(spec, stdio.Streams{Stdout: &out, Stderr: &errs}, "sh", "-c", "echo out; echo err >&2; exit 4")
	if err != nil || exit != (runner.ExitInfo{Code: 4}) || out.String() != "out\n" || errs.String() != "err\n" {
		t.Errorf("%+v, %v, %q, %q", exit, err, out.String(), errs.String())
	}
	// The end of the input is the end of cat; without any it has ended at once.
	for _, in := range []string{"", "a\x00b\xffc", strings.Repeat("0123456789\n", 20_000)} {
		var out text
		exit, err = b.exec(spec, stdio.Streams{Stdin: strings.NewReader(in), Stdout: &out}, "cat")
		if err != nil || exit.Code != 0 || out.String() != in {
			t.Errorf("of %d bytes %d came, %+v, %v", len(in), len(out.String()), exit, err)
		}
	}
	if exit, err = b.exec(spec, stdio.Streams{Stdout: &out}, "cat"); err != nil || exit.Code != 0 {
		t.Errorf("without input: %+v, %v", exit, err)
	}
	if exit, err = b.exec(spec, stdio.Streams{}, "sh", "-c", "echo nobody reads this"); err != nil || exit.Code != 0 {
		t.Errorf("without streams: %+v, %v", exit, err)
	}
	// Who does not read its input does not hang, nor does who gives it.
	endless, _ := io.Pipe()
	if exit, err = b.exec(spec, stdio.Streams{Stdin: endless}, "true"); err != nil || exit.Code != 0 {
		t.Errorf("with an input that does not end: %+v, %v", exit, err)
	}
}

// testManyStreams: hundreds of commands at once, each with streams of its own.
func (s suite) testManyStreams(t *testing.T) {
	b := s.setup(t)
	spec := b.spec("sleep 1000")
	b.start(spec)
	const n = 300
	var began, group sync.WaitGroup
	began.Add(n)
	for i := range n {
		group.Go(func() {
			in, feed := io.Pipe()
			go func() { // all are there before one of them ends
				fmt.Fprintf(feed, "%d\n", i)
				began.Done()
				began.Wait()
				feed.Close()
			}()
			var out text
			exit, err := b.exec(spec, stdio.Streams{Stdin: in, Stdout: &out}, "cat")
			if err != nil || exit.Code != 0 || out.String() != fmt.Sprintf("%d\n", i) {
				t.Errorf("%d: %+v, %v, %q", i, exit, err, out.String())
				in.Close()
			}
		})
	}
	group.Wait()
}

// noise is a stream of bytes that are the same for the same seed.
type noise struct {
	rand *rand.ChaCha8
	left int64
	sum  hash.Hash
}

func newNoise(n int64) *noise {
	return &noise{rand: rand.NewChaCha8([32]byte{}), left: n, sum: sha256.New()}
}

func (r *noise) Read(p []byte) (int, error) {
	if r.left == 0 {
		return 0, io.EOF
	}
	n, _ := r.rand.Read(p[:min(int64(len(p)), r.left)])
	r.left -= int64(n)
	r.sum.Write(p[:n])
	return n, nil
}

// testBigStreams: 100 MB of any bytes, there and back.
func (s suite) testBigStreams(t *testing.T) {
	b := s.setup(t)
	spec := b.spec("sleep 1000")
	b.start(spec)
	in, out := newNoise(100<<20), sha256.New()
	exit, err := b.exec(spec, stdio.Streams{Stdin: in, Stdout: out}, "cat")
	if err != nil || exit.Code != 0 || !bytes.Equal(in.sum.Sum(nil), out.Sum(nil)) {
		t.Errorf("%+v, %v, not the same: %t", exit, err, !bytes.Equal(in.sum.Sum(nil), out.Sum(nil)))
	}
}

// testStreamSignals: how a command ends by a signal, and what it may leave.
func (s suite) testStreamSignals(t *testing.T) {
	b := s.setup(t)
	spec := b.spec("sleep 1000")
	b.start(spec)
	exit, err := b.exec(spec, stdio.Streams{}, "sh", "-c", "kill -9 $$")
	if err != nil || exit != (runner.ExitInfo{Code: 137, Signal: 9}) {
		t.Errorf("killed: %+v, %v", exit, err)
	}
	// A writer that nobody reads from any more is told.
	exit, err = b.exec(spec, stdio.Streams{Stdout: refusing{}}, "sh", "-c", "yes")
	if err != nil || exit.Code != 141 && exit.Code != 1 {
		t.Errorf("nobody reads: %+v, %v", exit, err)
	}
	// What a command leaves in the background goes on until the container ends.
	var out text
	exit, err = b.exec(spec, stdio.Streams{Stdout: &out}, "sh", "-c", "sleep 1000 >/dev/null 2>&1 & echo $!")
	pid := strings.TrimSpace(out.String())
	if err != nil || exit.Code != 0 || pid == "" {
		t.Fatalf("with a background: %+v, %v, %q", exit, err, out.String())
	}
	time.Sleep(50 * time.Millisecond)
	if s.opts.Alive != nil && !s.opts.Alive(t, spec, pid) {
		t.Error("the background has ended with its command")
	}
	if err := b.r.Signal(b.ctx, spec.ID, 9); err != nil {
		t.Error(err)
	}
	b.wait(spec)
	if s.opts.Alive != nil {
		b.eventually("the background is gone", func() bool { return !s.opts.Alive(t, spec, pid) })
	}
}

type refusing struct{}

func (refusing) Write([]byte) (int, error) { return 0, errors.New("refused") }

// testStreamCancel: nothing of a command is left when its client has gone.
func (s suite) testStreamCancel(t *testing.T) {
	b := s.setup(t)
	spec := b.spec("sleep 1000")
	b.start(spec)
	gone := errors.New("gone")
	for name, script := range map[string]string{
		"plain":           "echo $$; sleep 1000",
		"deaf":            "trap '' HUP TERM INT; echo $$; sleep 1000; sleep 1000",
		"of another job":  "set -m; sleep 1000 & echo $!; wait",
		"reading":         "echo $$; cat",
		"with much to do": "echo $$; exec yes >&2",
	} {
		for _, tty := range []bool{false, true} {
			ctx, cancel := context.WithCancelCause(b.ctx)
			out := &lines{c: make(chan string, 1)}
			in, _ := io.Pipe()
			ended := make(chan error, 1)
			go func() {
				_, err := b.r.Exec(ctx, spec.ID, runner.ExecSpec{Args: []string{"sh", "-c", script}, TTY: tty},
					stdio.Streams{Stdin: in, Stdout: out, Stderr: io.Discard})
				ended <- err
			}()
			var pid string
			select {
			case pid = <-out.c:
			case err := <-ended:
				t.Fatalf("%s, %t: %v", name, tty, err)
			}
			cancel(gone)
			b.wantErr(name, <-ended, gone)
			if s.opts.Alive != nil {
				b.eventually(fmt.Sprintf("%s, terminal %t: %s is gone", name, tty, pid), func() bool { return !s.opts.Alive(t, spec, pid) })
			}
		}
	}
}

// lines hands over the first line that is written to it.
type lines struct {
	buf  []byte
	c    chan string
	said bool
}

func (l *lines) Write(p []byte) (int, error) {
	if !l.said {
		l.buf = append(l.buf, p...)
		if line, _, ok := bytes.Cut(l.buf, []byte("\n")); ok {
			l.said = true
			l.c <- strings.TrimSpace(string(line))
		}
	}
	return len(p), nil
}

// testStreamEnd: the end of the container is that of its commands.
func (s suite) testStreamEnd(t *testing.T) {
	b := s.setup(t)
	spec := b.spec("sleep 1000")
	b.start(spec)
	ended := make(chan runner.ExitInfo, 1)
	out := &lines{c: make(chan string, 1)}
	in, _ := io.Pipe()
	go func() {
		exit, err := b.exec(spec, stdio.Streams{Stdin: in, Stdout: out}, "sh", "-c", "echo begun; sleep 1000")
		if err != nil {
			t.Error(err)
		}
		ended <- exit
	}()
	<-out.c
	if err := b.r.Signal(b.ctx, spec.ID, 9); err != nil {
		t.Error(err)
	}
	if exit := <-ended; exit.Code != 137 {
		t.Errorf("%+v", exit)
	}
	b.wait(spec)
}

// testExecTerminal: a command with a terminal of its own.
func (s suite) testExecTerminal(t *testing.T) {
	b := s.setup(t)
	spec := b.spec("sleep 1000")
	b.start(spec)
	resize := make(chan stdio.Size, 1)
	resize <- stdio.Size{Width: 101, Height: 37}
	in, feed := io.Pipe()
	var out text
	ended := make(chan struct{})
	go func() {
		b.eventually("it asks", func() bool { return strings.Contains(out.String(), "ready") })
		fmt.Fprint(feed, "go\r")
		b.eventually("it knows its name", func() bool { return strings.Contains(out.String(), "/dev/pts/") })
		for { // until it ends: the first may come before it has set its trap
			select {
			case <-ended:
				return
			case <-time.After(10 * time.Millisecond):
				fmt.Fprint(feed, "\x03")
			}
		}
	}()
	exit, err := b.r.Exec(b.ctx, spec.ID, runner.ExecSpec{TTY: true, Args: []string{"sh", "-c", `
		test -t 0 && test -t 1 && test -t 2 && (: </dev/tty) || exit 99
		trap 'echo interrupted; exit 5' INT
		echo ready; read line; echo "got $line"; stty size; tty
		while :; do sleep 0.01; done`}}, stdio.Streams{Stdin: in, Stdout: &out, Resize: resize})
	close(ended)
	in.Close()
	got := strings.ReplaceAll(out.String(), "\r", "")
	for _, want := range []string{"ready\n", "got go\n", "37 101\n", "/dev/pts/", "interrupted\n"} {
		if !strings.Contains(got, want) {
			t.Errorf("it has not written %q: %q", want, got)
		}
	}
	if err != nil || exit.Code != 5 {
		t.Errorf("%+v, %v", exit, err)
	}
}
