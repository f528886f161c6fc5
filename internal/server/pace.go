package server

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// pace is how fast a client must send and take. It bounds the time without
// progress, not the whole: a watch or a log may last, and stand still, for as
// long as there is nothing to send.
type pace struct {
	// A body may take bodyGrace, and a second for every bodyRate bytes of it.
	bodyGrace time.Duration
	bodyRate  int64
	// writeGrace is how long the client may leave a piece of the answer, of at
	// most writePiece bytes, untaken.
	writeGrace time.Duration
}

const writePiece = 64 << 10

func defaultPace() pace {
	return pace{bodyGrace: 30 * time.Second, bodyRate: 16 << 10, writeGrace: 30 * time.Second}
}

// withPace holds clients to p.
func withPace(h http.Handler, p pace) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		e := &exchange{pace: p, control: http.NewResponseController(w)}
		if r.Body != nil && r.Body != http.NoBody {
			e.body = &pacedBody{ReadCloser: r.Body, e: e}
			r.Body = e.body
		}
		defer e.finish(r.ProtoMajor)
		h.ServeHTTP(e.writer(w), r)
	})
}

// exchange is a request and its answer.
type exchange struct {
	pace    pace
	control *http.ResponseController
	body    *pacedBody

	mu    sync.Mutex
	over  bool        // control may not be used any more
	stall *time.Timer // runs while a piece of the answer is written
}

// cut ends the reading of the body, or the writing of the answer.
func (e *exchange) cut(what func(*http.ResponseController, time.Time) error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.over {
		_ = what(e.control, time.Unix(1, 0))
	}
}

func (e *exchange) finish(proto int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.over = true
	if e.stall != nil {
		e.stall.Stop()
	}
	if e.body != nil && !e.body.stop() && proto == 1 {
		// What the handler did not want is read by the server, for the sake of the
		// next request on the connection.
		_ = e.control.SetReadDeadline(time.Now().Add(e.pace.bodyGrace))
	}
}

// pacedBody is a request's body that must come in time.
type pacedBody struct {
	io.ReadCloser
	e     *exchange
	got   atomic.Int64
	late  atomic.Bool
	since time.Time // of the first read

	mu    sync.Mutex
	timer *time.Timer // nil before the first read
	done  bool        // all of it was read
}

func (b *pacedBody) Read(p []byte) (int, error) {
	b.start()
	n, err := b.ReadCloser.Read(p)
	b.got.Add(int64(n))
	if err == nil {
		return n, nil
	}
	if b.stopAt(err == io.EOF); b.late.Load() {
		err = tooSlow(b.got.Load())
	}
	return n, err
}

func (b *pacedBody) start() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.timer == nil {
		b.since = time.Now()
		b.timer = time.AfterFunc(b.e.pace.bodyGrace, b.judge)
	}
}

// judge cuts a body that is late, or looks again when it would be.
func (b *pacedBody) judge() {
	allowed := b.e.pace.bodyGrace + time.Duration(b.got.Load()/b.e.pace.bodyRate)*time.Second
	b.mu.Lock()
	left := allowed - time.Since(b.since)
	if left > 0 && !b.done {
		b.timer.Reset(left)
	}
	late := left <= 0 && !b.done
	b.mu.Unlock()
	if late {
		b.late.Store(true)
		b.e.cut((*http.ResponseController).SetReadDeadline)
	}
}

func (b *pacedBody) stopAt(end bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.done = b.done || end
	if b.timer != nil {
		b.timer.Stop()
	}
}

// stop ends the watch over the body and reports whether all of it was read.
func (b *pacedBody) stop() bool {
	b.stopAt(false)
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.done
}

// tooSlow is the answer to a client whose body is late.
func tooSlow(got int64) error {
	return &apierrors.StatusError{ErrStatus: metav1.Status{
		Status: metav1.StatusFailure, Code: http.StatusRequestTimeout, Reason: metav1.StatusReasonTimeout,
		Message: fmt.Sprintf("the request body comes too slowly: %d bytes so far", got),
	}}
}

// answer is what both protocols' response writers are.
type answer interface {
	http.ResponseWriter
	http.Flusher
	//lint:ignore SA1019 the library asks for it
	http.CloseNotifier
}

// pacedWriter is an answer that must be taken in time.
type pacedWriter struct {
	answer
	e *exchange
	// begun: something of the answer was written.
	begun bool
}

// pacedHijacker is one over HTTP/1, which can become another protocol.
type pacedHijacker struct {
	*pacedWriter
	hijacker http.Hijacker
}

// Hijack implements http.Hijacker.
func (w *pacedHijacker) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	w.begun = true
	return w.hijacker.Hijack()
}

func (e *exchange) writer(w http.ResponseWriter) http.ResponseWriter {
	a, ok := w.(answer)
	if !ok {
		return w
	}
	paced := &pacedWriter{answer: a, e: e}
	if h, ok := w.(http.Hijacker); ok {
		return &pacedHijacker{paced, h}
	}
	return paced
}

// Unwrap is for http.ResponseController.
func (w *pacedWriter) Unwrap() http.ResponseWriter { return w.answer }

// WriteHeader implements http.ResponseWriter.
func (w *pacedWriter) WriteHeader(code int) {
	w.begun = true
	w.answer.WriteHeader(code)
}

// Write implements http.ResponseWriter.
func (w *pacedWriter) Write(p []byte) (n int, err error) {
	w.begun = true
	for {
		piece := p[n:min(len(p), n+writePiece)]
		w.e.begin()
		m, err := w.answer.Write(piece)
		w.e.stall.Stop()
		if n += m; err != nil || n >= len(p) {
			return n, err
		}
	}
}

// Flush implements http.Flusher.
func (w *pacedWriter) Flush() {
	w.begun = true
	w.e.begin()
	w.answer.Flush()
	w.e.stall.Stop()
}

// begin gives the client time to take what is written next. It is called by the
// handler's goroutine only.
func (e *exchange) begin() {
	if e.stall != nil {
		e.stall.Reset(e.pace.writeGrace)
		return
	}
	stall := time.AfterFunc(e.pace.writeGrace, func() { e.cut((*http.ResponseController).SetWriteDeadline) })
	e.mu.Lock()
	e.stall = stall
	e.mu.Unlock()
}
