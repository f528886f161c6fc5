package server

import (
	"bufio"
	"bytes"
	"compress/flate"
	"compress/gzip"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"

	"k8s.io/streaming/pkg/httpstream"
)

// Whoever runs a pod answers what he likes. Of that, the API holds no more than this.
const (
	// maxHead is how large the header of an answer may be.
	maxHead = 1 << 20
	// maxPage is how large a page may be whose links are made to lead back through the proxy,
	// for which it is held in memory. A larger one is passed on as it is.
	maxPage = 4 << 20
)

var errHead = errors.New("the header of the answer is too large")

func upgrades(r *http.Request) bool { return httpstream.IsUpgradeRequest(r) }

// headLimit bounds what is read of a connection until its answer has a header: the library reads
// that of an upgrade without an end.
type headLimit struct{ over atomic.Bool }

func (l *headLimit) lift() { l.over.Store(true) }

// of returns conn with the limit.
func (l *headLimit) of(conn net.Conn) net.Conn {
	return &limitedConn{Conn: conn, limit: l, left: maxHead}
}

// lifted returns w, which lifts the limit when it is hijacked: the header has been read by then.
func (l *headLimit) lifted(w http.ResponseWriter) http.ResponseWriter {
	return &hijacked{w, l}
}

type hijacked struct {
	http.ResponseWriter
	limit *headLimit
}

// Hijack implements http.Hijacker.
func (h *hijacked) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	h.limit.lift()
	return http.NewResponseController(h.ResponseWriter).Hijack()
}

// Unwrap is for http.ResponseController.
func (h *hijacked) Unwrap() http.ResponseWriter { return h.ResponseWriter }

type limitedConn struct {
	net.Conn
	limit *headLimit
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

// modestPages is in front of the library's rewriting of links, which reads a page as long as it
// goes on, and whatever it unpacks to. A page that is small is unpacked here; of any other the
// type is written so that it is not taken for one.
type modestPages struct{ *http.Transport }

// WrappedRoundTripper tells the library how connections are made.
func (m modestPages) WrappedRoundTripper() http.RoundTripper { return m.Transport }

// RoundTrip implements http.RoundTripper.
func (m modestPages) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := m.Transport.RoundTrip(r)
	if err != nil || resp.Header.Get("Location") != "" {
		return resp, err
	}
	kind, rest, _ := strings.Cut(resp.Header.Get("Content-Type"), ";")
	if strings.TrimSpace(kind) != "text/html" {
		return resp, nil
	}
	packed, err := io.ReadAll(io.LimitReader(resp.Body, maxPage+1))
	if err != nil {
		resp.Body.Close()
		return nil, err
	}
	if page, ok := unpacked(packed, resp.Header.Get("Content-Encoding")); ok {
		resp.Body.Close()
		resp.Header.Del("Content-Encoding")
		resp.Header.Del("Content-Length")
		resp.ContentLength, resp.Body = int64(len(page)), io.NopCloser(bytes.NewReader(page))
		return resp, nil
	}
	if rest != "" {
		rest = ";" + rest
	}
	resp.Header.Set("Content-Type", "Text/html"+rest) // types are the same in any case
	resp.Body = struct {
		io.Reader
		io.Closer
	}{io.MultiReader(bytes.NewReader(packed), resp.Body), resp.Body}
	return resp, nil
}

// unpacked returns a page, unless it is too large, or packed in a way that is not known.
func unpacked(packed []byte, encoding string) (page []byte, ok bool) {
	if len(packed) > maxPage {
		return nil, false
	}
	var reader io.Reader
	switch encoding {
	case "":
		return packed, true
	case "gzip":
		z, err := gzip.NewReader(bytes.NewReader(packed))
		if err != nil {
			return nil, false
		}
		reader = z
	case "deflate":
		reader = flate.NewReader(bytes.NewReader(packed))
	default:
		return nil, false
	}
	page, err := io.ReadAll(io.LimitReader(reader, maxPage+1))
	return page, err == nil && len(page) <= maxPage
}
