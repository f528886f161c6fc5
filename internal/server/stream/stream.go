// Package stream speaks the protocols of exec, attach and port-forward: SPDY and
// WebSocket, in all the versions that clients of Kubernetes have. It is wired as
// Kubernetes is (pkg/registry/core/pod/rest/subresources.go there): one half answers
// as a kubelet does, by the library that container runtimes use; the other stands
// before it as the API server does, passes on what the first understands, and
// translates the rest. Here both are in one process, with a socket pair between them
// for each client, so that there is no address at which anybody else could ask.
//
// A stream ends with whoever needs it: its client, what it leads to, or the server.
package stream

import (
	"context"
	"net"
	"net/http"
	"net/url"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/proxy"
	translator "k8s.io/apiserver/pkg/util/proxy"
	"k8s.io/cri-streaming/pkg/streaming/remotecommand"
	"k8s.io/streaming/pkg/httpstream/wsstream"

	"github.com/sampan-batch/sampan/internal/stdio"
)

const (
	// idleTimeout is how long a client may say nothing and be told nothing: a
	// kubelet's streamingConnectionIdleTimeout.
	idleTimeout = 4 * time.Hour
	// creationTimeout is how long a client may take to open the streams that it has
	// announced; a kubelet's, too.
	creationTimeout = 30 * time.Second
)

// Session is what one client asks for.
type Session struct {
	// Pod is whose streams these are.
	Pod *corev1.Pod
	// Stop ends the session when the server stops.
	Stop context.Context
	// Errors answers the client before the protocol is another.
	Errors proxy.ErrorResponder
}

// Exec returns what serves a client that executes a command: run is called once the
// streams are there.
func (s Session) Exec(o *corev1.PodExecOptions, run func(context.Context, stdio.Streams) (exit int, err error)) http.Handler {
	return s.remoteCommand(streams{o.Stdin, o.Stdout, o.Stderr, o.TTY}, func(ctx context.Context, w http.ResponseWriter, r *http.Request, opts *remotecommand.Options) {
		remotecommand.ServeExec(w, r, command{ctx, run}, s.Pod.Name, string(s.Pod.UID), o.Container, o.Command,
			opts, idleTimeout, creationTimeout, remotecommand.SupportedStreamingProtocols)
	})
}

// Attach returns what serves a client that attaches to a container: attach is called
// once the streams are there.
func (s Session) Attach(o *corev1.PodAttachOptions, attach func(context.Context, stdio.Streams) error) http.Handler {
	run := func(ctx context.Context, streams stdio.Streams) (int, error) { return 0, attach(ctx, streams) }
	return s.remoteCommand(streams{o.Stdin, o.Stdout, o.Stderr, o.TTY}, func(ctx context.Context, w http.ResponseWriter, r *http.Request, opts *remotecommand.Options) {
		remotecommand.ServeAttach(w, r, command{ctx, run}, s.Pod.Name, string(s.Pod.UID), o.Container,
			opts, idleTimeout, creationTimeout, remotecommand.SupportedStreamingProtocols)
	})
}

// PortForward returns what serves a client that connects to ports of the pod: open is
// called for each connection.
func (s Session) PortForward(o *corev1.PodPortForwardOptions, open func(ctx context.Context, port uint16) (net.Conn, error)) http.Handler {
	return s.handler(ports(o), func(ctx context.Context, w far, r *http.Request) {
		servePorts(w, r, s.Pod, &dialler{ctx: ctx, open: open, streams: w.streams})
	}, func(location *url.URL, transport *http.Transport, plain http.Handler) http.Handler {
		return translator.NewTranslatingHandler(plain, translator.NewTunnelingHandler(plain), wsstream.IsWebSocketRequestWithTunnelingProtocol)
	})
}

// remoteCommand is what exec and attach have in common.
func (s Session) remoteCommand(want streams, serve func(context.Context, http.ResponseWriter, *http.Request, *remotecommand.Options)) http.Handler {
	return s.handler(want.query(), func(ctx context.Context, w far, r *http.Request) {
		opts, err := remotecommand.NewOptions(r)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		serve(ctx, w, r, opts)
	}, func(location *url.URL, transport *http.Transport, plain http.Handler) http.Handler {
		newest := translator.NewStreamTranslatorHandler(location, transport, 0,
			translator.Options{Stdin: want.stdin, Stdout: want.stdout, Stderr: want.stderr, Tty: want.tty})
		return translator.NewTranslatingHandler(plain, newest, wsstream.IsWebSocketRequestWithStreamCloseProtocol)
	})
}

// handler puts the two halves together. kubelet is the one, translate what the other
// makes of plain, which passes everything on.
func (s Session) handler(query url.Values, kubelet func(context.Context, far, *http.Request),
	translate func(*url.URL, *http.Transport, http.Handler) http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithCancelCause(r.Context())
		defer cancel(errClientGone)
		defer context.AfterFunc(s.Stop, func() { cancel(context.Cause(s.Stop)) })()
		transport := newTransport(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			kubelet(ctx, far{w, ctx, isSPDY(r), &openings{}}, r)
		}))
		location := &url.URL{Scheme: "http", Host: "node", Path: "/", RawQuery: query.Encode()}
		plain := proxy.NewUpgradeAwareHandler(location, transport, false, true, s.Errors)
		translate(location, transport, plain).ServeHTTP(&watched{ResponseWriter: w, ctx: ctx, gone: func() { cancel(errClientGone) }}, r.WithContext(ctx))
	})
}
