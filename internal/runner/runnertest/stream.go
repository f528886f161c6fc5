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
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sampan-batch/sampan/internal/runner"
	"github.com/sampan-batch/sampan/internal/runner/crilog"
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

// testAttach: output from then on, in and out, and several at once.
func (s suite) testAttach(t *testing.T) {
	b := s.setup(t)
	spec := b.spec("echo before; cat; echo after")
	spec.Stdin, spec.StdinOnce = true, true
	b.start(spec)
	b.awaitLog(spec, "before")
	var watched text
	watching := make(chan error, 1)
	began := make(chan struct{})
	go func() { watching <- b.r.Attach(b.ctx, spec.ID, stdio.Streams{Stdout: &watched}) }()
	time.AfterFunc(200*time.Millisecond, func() { close(began) })
	<-began
	var out text
	if err := b.r.Attach(b.ctx, spec.ID, stdio.Streams{Stdin: strings.NewReader("hello\n"), Stdout: &out}); err != nil {
		t.Errorf("attach: %v", err)
	}
	if got := out.String(); got != "hello\nafter\n" {
		t.Errorf("got %q", got)
	}
	if err := <-watching; err != nil || watched.String() != "hello\nafter\n" {
		t.Errorf("who watches has %q, %v", watched.String(), err)
	}
	if st := b.wait(spec); st.ExitCode != 0 {
		t.Errorf("%+v", st)
	}
	if got := b.log(spec, crilog.Stdout); got != "before\nhello\nafter\n" {
		t.Errorf("the log has %q", got)
	}
	b.wantErr("attach to what has ended", b.r.Attach(b.ctx, spec.ID, stdio.Streams{Stdout: &out}), runner.ErrEnded)
}

// testAttachAgain: without StdinOnce the input stays open for the next.
func (s suite) testAttachAgain(t *testing.T) {
	b := s.setup(t)
	spec := b.spec("cat")
	spec.Stdin = true
	b.start(spec)
	for _, line := range []string{"one\n", "two\n"} {
		if err := b.r.Attach(b.ctx, spec.ID, stdio.Streams{Stdin: strings.NewReader(line)}); err != nil {
			t.Errorf("attach: %v", err)
		}
		b.awaitLog(spec, strings.TrimSpace(line))
	}
	ctx, cancel := context.WithCancel(b.ctx)
	in, _ := io.Pipe()
	time.AfterFunc(50*time.Millisecond, cancel)
	b.wantErr("who leaves", b.r.Attach(ctx, spec.ID, stdio.Streams{Stdin: in}), context.Canceled)
	if err := b.r.Attach(b.ctx, spec.ID, stdio.Streams{Stdin: strings.NewReader("three\n")}); err != nil {
		t.Errorf("attach: %v", err)
	}
	b.awaitLog(spec, "three")
	// Without an input it is not read.
	if err := b.r.Signal(b.ctx, spec.ID, 9); err != nil {
		t.Error(err)
	}
	b.wait(spec)
}

// testAttachOnce: with StdinOnce a client that goes takes the input along.
func (s suite) testAttachOnce(t *testing.T) {
	b := s.setup(t)
	spec := b.spec("cat; echo end")
	spec.Stdin, spec.StdinOnce = true, true
	b.start(spec)
	ctx, cancel := context.WithCancel(b.ctx)
	in, _ := io.Pipe()
	time.AfterFunc(50*time.Millisecond, cancel)
	b.wantErr("who leaves", b.r.Attach(ctx, spec.ID, stdio.Streams{Stdin: in}), context.Canceled)
	if st := b.wait(spec); st.ExitCode != 0 || b.log(spec, "") != "end\n" {
		t.Errorf("%+v, %q", st, b.log(spec, ""))
	}
}

// testAttachTerminal: a container with a terminal.
func (s suite) testAttachTerminal(t *testing.T) {
	b := s.setup(t)
	spec := b.spec("echo ready; read line; echo got $line; stty size; tty")
	spec.Stdin, spec.TTY = true, true
	b.start(spec)
	b.awaitLog(spec, "ready")
	resize := make(chan stdio.Size, 1)
	resize <- stdio.Size{Width: 99, Height: 33}
	in, feed := io.Pipe()
	time.AfterFunc(200*time.Millisecond, func() { fmt.Fprint(feed, "go\r") })
	var out text
	if err := b.r.Attach(b.ctx, spec.ID, stdio.Streams{Stdin: in, Stdout: &out, Resize: resize}); err != nil {
		t.Errorf("attach: %v", err)
	}
	got := strings.ReplaceAll(out.String(), "\r", "")
	for _, want := range []string{"got go\n", "33 99\n", "/dev/"} {
		if !strings.Contains(got, want) {
			t.Errorf("it has not written %q: %q", want, got)
		}
	}
	b.wait(spec)
}

// testAttachSlow: who does not read is cut, and holds up neither the container nor
// those who do.
func (s suite) testAttachSlow(t *testing.T) {
	b := s.setup(t)
	spec := b.spec("read go; yes 0123456789 | head -n 2000000; echo end")
	spec.Stdin, spec.StdinOnce = true, true
	b.start(spec)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	slow := make(chan error, 1)
	go func() { slow <- b.r.Attach(b.ctx, spec.ID, stdio.Streams{Stdout: w}) }()
	time.Sleep(200 * time.Millisecond)
	if err := b.r.Attach(b.ctx, spec.ID, stdio.Streams{Stdin: strings.NewReader("go\n")}); err != nil {
		t.Errorf("attach: %v", err)
	}
	if st := b.wait(spec); st.ExitCode != 0 || st.OutputLost.Bytes != 0 {
		t.Errorf("%+v", st)
	}
	b.awaitLog(spec, "end")
	go func() { _, _ = io.Copy(io.Discard, r) }()
	b.wantErr("who does not read", <-slow, runner.ErrSlow)
}

// testDial: what listens at "localhost" in the pod is reached.
func (s suite) testDial(t *testing.T) {
	b := s.setup(t)
	spec := b.spec("sleep 1000")
	b.start(spec)
	listener, err := net.Listen("tcp", "127.0.0.1:0") // the machine's network is the pod's
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				_, _ = io.Copy(conn, conn)
			}()
		}
	}()
	port := uint16(listener.Addr().(*net.TCPAddr).Port)
	conn, err := b.r.Dial(b.ctx, spec.Pod.UID, port)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprint(conn, "hello\n")
	if err := conn.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
		t.Error(err)
	}
	if got, err := io.ReadAll(conn); err != nil || string(got) != "hello\n" {
		t.Errorf("got %q, %v", got, err)
	}
	listener.Close()
	if conn, err := b.r.Dial(b.ctx, spec.Pod.UID, port); err == nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("nobody listens: %v, %v", conn, err)
	}
	if err := b.r.Signal(b.ctx, spec.ID, 9); err != nil {
		t.Error(err)
	}
	b.wait(spec)
	_, err = b.r.Dial(b.ctx, spec.Pod.UID, port)
	b.wantErr("a pod of which nothing runs", err, runner.ErrNotFound)
}
