package server

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"io"
	"net/http"
	"strings"

	"k8s.io/streaming/pkg/httpstream"
)

// maxPage is how large a page may be whose links are made to lead back through the proxy, for which
// it is held in memory: whoever runs a pod answers what he likes. A larger one is passed on as it is.
// (The header of an answer has at most backend.MaxHead.)
const maxPage = 4 << 20

func upgrades(r *http.Request) bool { return httpstream.IsUpgradeRequest(r) }

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
