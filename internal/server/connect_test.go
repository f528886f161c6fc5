package server

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/client-go/transport/spdy"
	"k8s.io/client-go/util/exec"
	streamhttp "k8s.io/streaming/pkg/httpstream"

	"github.com/sampan-batch/sampan/internal/stdio"
)

// shell is a node whose containers are functions.
type shell struct {
	PodStreams
	run   func(ctx context.Context, command []string, s stdio.Streams) (int, error)
	dial  func(port uint16) (net.Conn, error)
	ended chan error // why commands ended
}

func (n *shell) Exec(ctx context.Context, pod *corev1.Pod, o *corev1.PodExecOptions, s stdio.Streams) (int, error) {
	code, err := n.run(ctx, o.Command, s)
	select {
	case n.ended <- context.Cause(ctx):
	default:
	}
	return code, err
}

func (n *shell) Attach(ctx context.Context, pod *corev1.Pod, o *corev1.PodAttachOptions, s stdio.Streams) error {
	_, err := n.run(ctx, []string{"attached", o.Container}, s)
	return err
}

func (n *shell) PortForward(_ context.Context, _ *corev1.Pod, port uint16) (net.Conn, error) {
	return n.dial(port)
}

// talk is what the commands of these tests do.
func talk(ctx context.Context, command []string, s stdio.Streams) (int, error) {
	switch command[0] {
	case "cat":
		_, err := io.Copy(s.Stdout, s.Stdin)
		return 0, err
	case "both":
		fmt.Fprint(s.Stdout, "out")
		fmt.Fprint(s.Stderr, "err")
		return 7, nil
	case "size":
		size := <-s.Resize
		fmt.Fprintf(s.Stdout, "%dx%d", size.Width, size.Height)
		return 0, nil
	case "attached":
		fmt.Fprintf(s.Stdout, "attached to %s", command[1])
		return 0, nil
	case "nosuch":
		return 0, apierrors.NewBadRequest(`exec: "nosuch": executable file not found in $PATH`)
	case "sleep":
		if s.Stdout != nil {
			fmt.Fprint(s.Stdout, "asleep")
		}
		<-ctx.Done()
		return 0, context.Cause(ctx)
	}
	return 0, errors.New("what is " + command[0])
}

// shellFixture is a server with a pod whose commands talk.
func shellFixture(t *testing.T, options ...func(*Options)) (*fixture, *shell) {
	node := &shell{run: talk, ended: make(chan error, 1)}
	f := setup(t, append(options, func(o *Options) { o.Node = only("n", node) })...)
	running := func(name string) *corev1.Pod {
		return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default", UID: "u"},
			Spec: corev1.PodSpec{NodeName: "n", Containers: []corev1.Container{{Name: "c"}}}}
	}
	two := running("two")
	two.Spec.Containers = append(two.Spec.Containers, corev1.Container{Name: "d"})
	nowhere := running("nowhere")
	nowhere.Spec.NodeName = ""
	f.put(t, running("p"), two, nowhere)
	return f, node
}

// protocols are the clients that there are.
var protocols = map[string]func(f *fixture, u *url.URL) (remotecommand.Executor, error){
	"SPDY": func(f *fixture, u *url.URL) (remotecommand.Executor, error) {
		return remotecommand.NewSPDYExecutor(f.config, "POST", u)
	},
	"WebSocket": func(f *fixture, u *url.URL) (remotecommand.Executor, error) {
		return remotecommand.NewWebSocketExecutor(f.config, "GET", u.String())
	},
}

// call asks for a subresource of a pod.
func (f *fixture) call(protocol, pod, what string, o any, streams remotecommand.StreamOptions, ctx context.Context) error {
	request := f.client.CoreV1().RESTClient().Post().Resource("pods").Namespace("default").Name(pod).SubResource(what)
	switch o := o.(type) {
	case *corev1.PodExecOptions:
		o.Stdin, o.Stdout, o.Stderr, o.TTY = streams.Stdin != nil, streams.Stdout != nil, streams.Stderr != nil, streams.Tty
		request.VersionedParams(o, scheme.ParameterCodec)
	case *corev1.PodAttachOptions:
		o.Stdin, o.Stdout, o.Stderr, o.TTY = streams.Stdin != nil, streams.Stdout != nil, streams.Stderr != nil, streams.Tty
		request.VersionedParams(o, scheme.ParameterCodec)
	}
	client, err := protocols[protocol](f, request.URL())
	if err != nil {
		return err
	}
	return client.StreamWithContext(ctx, streams)
}

func eachProtocol(t *testing.T, test func(t *testing.T, f *fixture, node *shell, protocol string)) {
	for protocol := range protocols {
		t.Run(protocol, func(t *testing.T) {
			t.Parallel()
			f, node := shellFixture(t)
			test(t, f, node, protocol)
		})
	}
}

func TestExec(t *testing.T) {
	t.Parallel()
	eachProtocol(t, func(t *testing.T, f *fixture, _ *shell, protocol string) {
		var out, errs bytes.Buffer
		err := f.call(protocol, "p", "exec", &corev1.PodExecOptions{Command: []string{"both"}}, remotecommand.StreamOptions{Stdout: &out, Stderr: &errs}, t.Context())
		var exit exec.CodeExitError
		if !errors.As(err, &exit) || exit.Code != 7 || out.String() != "out" || errs.String() != "err" {
			t.Errorf("%q, %q, %v", out.String(), errs.String(), err)
		}
		sent, got := sha256.New(), sha256.New()
		const much = 20 << 20
		in := io.TeeReader(io.LimitReader(rand.NewChaCha8([32]byte{1}), much), sent)
		if err := f.call(protocol, "p", "exec", &corev1.PodExecOptions{Command: []string{"cat"}}, remotecommand.StreamOptions{Stdin: in, Stdout: got}, t.Context()); err != nil {
			t.Error(err)
		}
		if !bytes.Equal(sent.Sum(nil), got.Sum(nil)) {
			t.Error("20 MB have come back as something else")
		}
		out.Reset()
		if err := f.call(protocol, "two", "attach", &corev1.PodAttachOptions{Container: "d"}, remotecommand.StreamOptions{Stdout: &out}, t.Context()); err != nil || out.String() != "attached to d" {
			t.Errorf("attach: %q, %v", out.String(), err)
		}
		out.Reset()
		if err := f.call(protocol, "p", "exec", &corev1.PodExecOptions{Command: []string{"size"}},
			remotecommand.StreamOptions{Stdin: neverSays{}, Stdout: &out, Tty: true, TerminalSizeQueue: &sizes{{Width: 80, Height: 24}}}, t.Context()); err != nil || out.String() != "80x24" {
			t.Errorf("a terminal's size: %q, %v", out.String(), err)
		}
	})
}

// neverSays is an input that never comes.
type neverSays struct{}

func (neverSays) Read([]byte) (int, error) { select {} }

type sizes []remotecommand.TerminalSize

func (s *sizes) Next() *remotecommand.TerminalSize {
	if len(*s) == 0 {
		return nil
	}
	first := (*s)[0]
	*s = (*s)[1:]
	return &first
}

func TestExecRefused(t *testing.T) {
	t.Parallel()
	eachProtocol(t, func(t *testing.T, f *fixture, _ *shell, protocol string) {
		for what, want := range map[string]string{
			"none":    `pods "none" not found`,
			"nowhere": "pod nowhere does not have a host assigned",
			"two":     "a container name must be specified for pod two, choose one of: [c d]",
			"two x":   "container x is not valid for pod two",
			"p c":     `exec: "nosuch": executable file not found in $PATH`,
		} {
			pod, container, _ := strings.Cut(what, " ")
			err := f.call(protocol, pod, "exec", &corev1.PodExecOptions{Container: container, Command: []string{"nosuch"}}, remotecommand.StreamOptions{Stdout: io.Discard}, t.Context())
			if err == nil || !strings.HasSuffix(err.Error(), want) {
				t.Errorf("%s: got %v, want %s", what, err, want)
			}
		}
	})
	f, _ := shellFixture(t)
	f.run(t, []probe{
		{name: "no upgrade", path: pods + "/p/exec?command=both&stdout=true", code: 400, message: "Upgrade request required"},
		{name: "nothing of it", method: "PUT", path: pods + "/p/exec", code: 405},
	})
}

// A command that says nothing, and is told nothing, ends with its client all the same,
// even if that had sent more than it took; and with the server.
func TestExecEndsWithItsClient(t *testing.T) {
	t.Parallel()
	eachProtocol(t, func(t *testing.T, f *fixture, node *shell, protocol string) {
		ends := func(what string, leave func()) {
			leave()
			select {
			case <-node.ended:
			case <-time.After(20 * time.Second):
				t.Fatalf("%s: the command runs on", what)
			}
		}
		begin := func(in io.Reader) (cancel func()) {
			ctx, cancel := context.WithCancel(t.Context())
			out := make(begun, 1)
			go func() {
				_ = f.call(protocol, "p", "exec", &corev1.PodExecOptions{Command: []string{"sleep"}}, remotecommand.StreamOptions{Stdin: in, Stdout: out}, ctx)
			}()
			<-out
			return cancel
		}
		ends("gone", begin(nil))
		ends("gone with something that is not taken", begin(io.LimitReader(rand.NewChaCha8([32]byte{}), 300<<10)))
		leave := begin(nil)
		defer leave()
		ends("the server stops", func() { f.stop(errStopping) })
	})
}

// begun is an output that tells when something comes.
type begun chan struct{}

func (b begun) Write(p []byte) (int, error) {
	select {
	case b <- struct{}{}:
	default:
	}
	return len(p), nil
}

func TestPortForward(t *testing.T) {
	t.Parallel()
	f, node := shellFixture(t)
	echo, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer echo.Close()
	go func() {
		for {
			conn, err := echo.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				_, _ = io.Copy(conn, conn)
			}()
		}
	}()
	node.dial = func(port uint16) (net.Conn, error) {
		if port != 80 {
			return nil, fmt.Errorf("port %d is not meant", port)
		}
		return net.Dial("tcp", echo.Addr().String())
	}
	u := f.client.CoreV1().RESTClient().Post().Resource("pods").Namespace("default").Name("p").SubResource("portforward").URL()
	transport, upgrader, err := spdy.RoundTripperFor(f.config)
	if err != nil {
		t.Fatal(err)
	}
	old := spdy.NewDialerForStreaming(upgrader, &http.Client{Transport: transport}, "POST", u)
	tunnel, err := portforward.NewSPDYOverWebsocketDialerForStreaming(u, f.config)
	if err != nil {
		t.Fatal(err)
	}
	for name, dialer := range map[string]streamhttp.Dialer{"SPDY": old, "WebSocket": tunnel} {
		stop, ready := make(chan struct{}), make(chan struct{})
		forwarder, err := portforward.NewForStreaming(dialer, []string{"0:80"}, stop, ready, io.Discard, io.Discard)
		if err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- forwarder.ForwardPorts() }()
		select {
		case <-ready:
		case err := <-ended:
			t.Fatalf("%s: %v", name, err)
		}
		ports, err := forwarder.GetPorts()
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", ports[0].Local))
			if err != nil {
				t.Fatal(err)
			}
			const much = 5 << 20
			sent, got := sha256.New(), sha256.New()
			go func() {
				_, _ = io.Copy(conn, io.TeeReader(io.LimitReader(rand.NewChaCha8([32]byte{2}), much), sent))
			}()
			n, err := io.Copy(got, io.LimitReader(conn, much))
			if conn.Close(); n != much || err != nil || !bytes.Equal(sent.Sum(nil), got.Sum(nil)) {
				t.Errorf("%s: %d bytes of %d, %v", name, n, much, err)
			}
		}
		close(stop)
		<-ended
	}
}

// A command that does not read leaves what is sent where it is: with its client.
func TestExecTakesLittleAhead(t *testing.T) {
	t.Parallel()
	f, _ := shellFixture(t)
	conn, err := f.upgraded("sleep")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	defer f.stop(errStopping) // else the library's Close waits for its Write
	streams := map[string]streamhttp.Stream{}
	for _, name := range []string{corev1.StreamTypeError, corev1.StreamTypeStdin, corev1.StreamTypeStdout} {
		if streams[name], err = conn.CreateStream(http.Header{corev1.StreamType: []string{name}}); err != nil {
			t.Fatal(err)
		}
	}
	const frame, most = 8 << 20, 64 << 20
	taken := make(chan struct{})
	go func() {
		large := make([]byte, frame)
		for {
			if _, err := streams[corev1.StreamTypeStdin].Write(large); err != nil {
				return
			}
			taken <- struct{}{}
		}
	}()
	for sum := 0; ; sum += frame {
		select {
		case <-taken:
		case <-time.After(time.Second): // no more is taken
			return
		}
		if sum > most {
			t.Fatalf("%d bytes were taken that nobody reads", sum)
		}
	}
}

// upgraded returns a connection on which a client has announced a command, its input
// and output, and not opened any stream yet.
func (f *fixture) upgraded(command string) (streamhttp.Connection, error) {
	u := f.client.CoreV1().RESTClient().Post().Resource("pods").Namespace("default").Name("p").SubResource("exec").
		VersionedParams(&corev1.PodExecOptions{Command: []string{command}, Stdin: true, Stdout: true}, scheme.ParameterCodec).URL()
	transport, upgrader, err := spdy.RoundTripperFor(f.config)
	if err != nil {
		return nil, err
	}
	conn, _, err := spdy.NewDialerForStreaming(upgrader, &http.Client{Transport: transport}, "POST", u).Dial("v4.channel.k8s.io")
	return conn, err
}
