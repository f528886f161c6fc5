package backend

import (
	"bufio"
	"errors"
	"net"
	"net/http"
	"sync/atomic"
)

// MaxHead is how large the header of an answer may be that is passed on.
const MaxHead = 1 << 20

var errHead = errors.New("the header of the answer is too large")

// HeadLimit bounds what is read of a connection until its answer has a header: the library reads
// that of an upgrade without an end.
type HeadLimit struct{ over atomic.Bool }

// Lift takes the limit away.
func (l *HeadLimit) Lift() { l.over.Store(true) }

// Of returns conn with the limit.
func (l *HeadLimit) Of(conn net.Conn) net.Conn {
	return &limitedConn{Conn: conn, limit: l, left: MaxHead}
}

// Lifted returns w, which lifts the limit when it is hijacked: the header has been read by then.
func (l *HeadLimit) Lifted(w http.ResponseWriter) http.ResponseWriter {
	return &hijacked{w, l}
}

type hijacked struct {
	http.ResponseWriter
	limit *HeadLimit
}

// Hijack implements http.Hijacker.
func (h *hijacked) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	h.limit.Lift()
	return http.NewResponseController(h.ResponseWriter).Hijack()
}

// Unwrap is for http.ResponseController.
func (h *hijacked) Unwrap() http.ResponseWriter { return h.ResponseWriter }

type limitedConn struct {
	net.Conn
	limit *HeadLimit
	left  int // one reads at a time
}

func (c *limitedConn) Read(p []byte) (int, error) {
	if c.limit.over.Load() {
		return c.Conn.Read(p)
	}
	if c.left <= 0 {
		return 0, errHead
	}
	n, err := c.Conn.Read(p[:min(len(p), c.left)])
	c.left -= n
	return n, err
}
