package agent

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"

	"github.com/sampan-batch/sampan/internal/stdio"
)

func TestExecStreams(t *testing.T) {
	story(t, func(b *bench) {
		b.put(testPod("p", nil))
		exec := func(pod, container, in string, command ...string) (string, int, error) {
			var out bytes.Buffer
			code, err := b.agent.Exec(context.Background(), b.get(pod), &corev1.PodExecOptions{Container: container, Command: command},
				stdio.Streams{Stdin: strings.NewReader(in), Stdout: &out, Stderr: &out})
			return out.String(), code, err
		}
		after(time.Second)
		if out, code, err := exec("p", "c", "hello\n", "sh", "-c", "echo well; cat; exit 3"); out != "well\nhello\n" || code != 3 || err != nil {
			t.Errorf("%q, %d, %v", out, code, err)
		}
		for what, want := range map[string]string{
			"c nosuch": `container "c" in pod "p": exec: "nosuch": executable file not found in $PATH`,
			"x true":   `container "x" in pod "p" is not running`,
		} {
			container, command, _ := strings.Cut(what, " ")
			if _, _, err := exec("p", container, "", command); err == nil || err.Error() != want {
				t.Errorf("%s: %v", what, err)
			}
		}
		ctx, cancel := context.WithCancelCause(context.Background())
		gone := errors.New("gone")
		time.AfterFunc(time.Second, func() { cancel(gone) })
		if _, err := b.agent.Exec(ctx, b.get("p"), &corev1.PodExecOptions{Container: "c", Command: []string{"sleep", "infinity"}}, stdio.Streams{}); !errors.Is(err, gone) {
			t.Errorf("got %v", err)
		}
	})
}

func TestAttachStreams(t *testing.T) {
	story(t, func(b *bench) {
		b.run.scripts["c"] = []script{{cat: true, runs: time.Second}}
		b.put(testPod("p", func(p *corev1.Pod) {
			p.Spec.Containers[0].Stdin, p.Spec.Containers[0].StdinOnce = true, true
		}))
		after(time.Second)
		var out bytes.Buffer
		err := b.agent.Attach(context.Background(), b.get("p"), &corev1.PodAttachOptions{Container: "c"}, stdio.Streams{Stdin: strings.NewReader("hello\n"), Stdout: &out})
		if err != nil || out.String() != "hello\n" {
			t.Errorf("%q, %v", out.String(), err)
		}
		after(time.Second)
		b.want("p", corev1.PodSucceeded)
		err = b.agent.Attach(context.Background(), b.get("p"), &corev1.PodAttachOptions{Container: "c"}, stdio.Streams{})
		if want := `container "c" in pod "p" is not running`; err == nil || err.Error() != want {
			t.Errorf("to what has ended: %v", err)
		}
	})
}

func TestPortForward(t *testing.T) {
	story(t, func(b *bench) {
		echo := func(conn net.Conn) {
			defer conn.Close()
			_, _ = io.Copy(conn, conn)
		}
		b.run.scripts["c"] = []script{{ports: map[uint16]func(net.Conn){80: echo}, runs: time.Minute}}
		b.put(testPod("p", nil))
		after(time.Second)
		open := func(ctx context.Context) net.Conn {
			conn, err := b.agent.PortForward(ctx, b.get("p"), 80)
			if err != nil {
				t.Fatal(err)
			}
			return conn
		}
		ends := func(what string, conn net.Conn) {
			if _, err := conn.Read(make([]byte, 1)); err == nil {
				t.Errorf("%s: it goes on", what)
			}
		}
		conn := open(context.Background())
		got := make([]byte, 5)
		if _, err := conn.Write([]byte("hello")); err != nil {
			t.Error(err)
		}
		if _, err := io.ReadFull(conn, got); err != nil || string(got) != "hello" {
			t.Errorf("%q, %v", got, err)
		}
		conn.Close()
		ends("closed", conn)
		ctx, cancel := context.WithCancel(context.Background())
		conn = open(ctx)
		cancel()
		ends("its context has ended", conn)
		ctx, cancel = context.WithCancel(context.Background())
		dialled, err := b.agent.Dial(ctx, b.get("p"), 80)
		if err != nil {
			t.Fatal(err)
		}
		cancel() // that it was connected within
		if _, err := dialled.Write([]byte("hello")); err != nil {
			t.Error(err)
		}
		if _, err := io.ReadFull(dialled, got); err != nil {
			t.Error("dialled:", err)
		}
		conn = open(context.Background())
		if _, err := b.agent.PortForward(context.Background(), b.get("p"), 81); err == nil || !strings.Contains(err.Error(), `port 81 of pod "p": connection refused`) {
			t.Errorf("nobody listens: %v", err)
		}
		after(time.Minute)
		b.want("p", corev1.PodSucceeded)
		ends("the pod has ended", conn)
		ends("the pod has ended", dialled)
		if _, err := b.agent.Dial(context.Background(), b.get("p"), 80); !errors.Is(err, unix.ECONNREFUSED) {
			t.Errorf("dialled what has ended: %v", err)
		}
		if _, err := b.agent.PortForward(context.Background(), b.get("p"), 80); err == nil || err.Error() != `pod "p" is not running` {
			t.Errorf("of what has ended: %v", err)
		}
	})
}
