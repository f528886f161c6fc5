package runnertest

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/sampan-batch/sampan/internal/runner"
	"github.com/sampan-batch/sampan/internal/runner/crilog"
	"github.com/sampan-batch/sampan/internal/stdio"
)

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
	conn, err := b.r.Dial(b.ctx, runner.Target{PodUID: spec.Pod.UID, Port: port})
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
	if conn, err := b.r.Dial(b.ctx, runner.Target{PodUID: spec.Pod.UID, Port: port}); err == nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("nobody listens: %v, %v", conn, err)
	}
	if err := b.r.Signal(b.ctx, spec.ID, 9); err != nil {
		t.Error(err)
	}
	b.wait(spec)
	_, err = b.r.Dial(b.ctx, runner.Target{PodUID: spec.Pod.UID, Port: port})
	b.wantErr("a pod of which nothing runs", err, runner.ErrNotFound)
}
