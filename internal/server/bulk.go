package server

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/yaml"
)

// What a request may ask for is bounded by its size, 3 MB as in Kubernetes.
// But the libraries that merge objects take time, and memory, by the square of
// other measures of it, so that 50 KB could keep a processor busy for half a
// minute. These are bounded far above what objects look like:
//
//   - members: the elements of all lists and fields of all objects, and the steps
//     of a JSON patch's paths. Lists are merged, and sets of fields made, by
//     comparing each with each.
//   - weight: every byte counts as often as it is nested. Merge patches and JSON
//     patches parse what is within an object anew at each level.
//
// A kilobyte-long name, a thousand owners, or a thousand levels pass.
const (
	mostMembers = 32 << 10
	mostWeight  = 32 << 20
	// smallBody can be neither, however it is written: a level takes two bytes.
	smallBody = 8 << 10
	// maxBody is Kubernetes' limit of a request body.
	maxBody = 3 << 20
	// described is how much more of both what others tell of their APIs may have: lists of some
	// thousand kinds, or metrics.
	described = 16
)

// bulk measures JSON as it comes by.
type bulk struct {
	depth, members, weight int64
	quoted, escaped        bool
	opened, path           bool // the string begins here; it is a path
}

func (b *bulk) scan(text []byte) {
	for _, c := range text {
		b.weight += b.depth
		if b.quoted {
			b.inString(c)
			continue
		}
		switch c {
		case '"':
			b.quoted, b.opened = true, true
		case '{', '[':
			b.depth++
			b.members++
		case ',':
			b.members++
		case '}', ']':
			b.depth--
		}
	}
}

func (b *bulk) inString(c byte) {
	if b.opened {
		b.opened, b.path = false, c == '/'
	}
	switch {
	case b.escaped:
		b.escaped = false
	case c == '\\':
		b.escaped = true
	case c == '"':
		b.quoted = false
	case c == '/' && b.path:
		b.members++
	}
}

// check returns why it is too much.
func (b *bulk) check() error { return b.within(1) }

// within returns why it is too much, if it may be so many times what a request may.
func (b *bulk) within(times int64) error {
	switch {
	case b.members > mostMembers*times:
		return fmt.Errorf("more than %d fields and list elements", mostMembers*times)
	case b.weight > mostWeight*times:
		return fmt.Errorf("nested too deeply for its size: more than %d bytes by level", mostWeight*times)
	}
	return nil
}

// withBulk refuses patches that are too much work: before they are parsed.
func withBulk(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPatch {
			boundBody(r)
		}
		h.ServeHTTP(w, r)
	})
}

// boundBody has the body of a request end when it is too much.
func boundBody(r *http.Request) {
	if r.Body == nil || r.Body == http.NoBody {
		return
	}
	mediaType, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	switch mediaType {
	case string(types.ApplyYAMLPatchType), runtime.ContentTypeYAML:
		r.Body = &yamlBody{ReadCloser: r.Body}
	case string(types.JSONPatchType), string(types.MergePatchType), string(types.StrategicMergePatchType), runtime.ContentTypeJSON, "":
		r.Body = &bulkBody{ReadCloser: r.Body}
	}
}

// bulkBody is a JSON body that ends when it is too much.
type bulkBody struct {
	io.ReadCloser
	seen bulk
}

func (b *bulkBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.seen.scan(p[:n])
	if much := b.seen.check(); much != nil {
		return 0, apierrors.NewRequestEntityTooLargeError(much.Error())
	}
	return n, err
}

// yamlBody is the same for YAML, of which only a parser knows what is a member:
// it is asked about those that might have too many.
type yamlBody struct {
	io.ReadCloser
	text *bytes.Reader // nil: nothing was read
}

func (b *yamlBody) Read(p []byte) (int, error) {
	if b.text == nil {
		// A byte more than is allowed, so that the handler sees it.
		text, err := io.ReadAll(io.LimitReader(b.ReadCloser, maxBody+1))
		if err != nil {
			return 0, err
		}
		if err := checkYAML(text); err != nil {
			return 0, apierrors.NewRequestEntityTooLargeError(err.Error())
		}
		b.text = bytes.NewReader(text)
	}
	return b.text.Read(p)
}

func checkYAML(text []byte) error {
	if len(text) <= smallBody || len(text) > maxBody {
		return nil
	}
	asJSON, err := yaml.YAMLToJSON(text)
	if err != nil {
		return nil // the handler says what is wrong
	}
	return tooMuch(asJSON)
}

// measuring checks what is decoded, in whatever form it came.
type measuring struct{ runtime.NegotiatedSerializer }

func (m measuring) DecoderToVersion(d runtime.Decoder, gv runtime.GroupVersioner) runtime.Decoder {
	plain := false
	if named, ok := d.(runtime.Encoder); ok { // serializers are both
		id := string(named.Identifier())
		plain = strings.Contains(id, `"name":"json"`) && strings.Contains(id, `"yaml":"false"`)
	}
	return measuringDecoder{Decoder: m.NegotiatedSerializer.DecoderToVersion(d, gv), json: plain}
}

type measuringDecoder struct {
	runtime.Decoder
	json bool
}

func (d measuringDecoder) Decode(data []byte, defaults *schema.GroupVersionKind, into runtime.Object) (runtime.Object, *schema.GroupVersionKind, error) {
	if d.json {
		if err := tooMuch(data); err != nil {
			return nil, defaults, err
		}
		return d.Decoder.Decode(data, defaults, into)
	}
	obj, gvk, err := d.Decoder.Decode(data, defaults, into)
	if obj == nil || len(data) <= smallBody {
		return obj, gvk, err
	}
	// What has become of it is what merging works on.
	if asJSON, jsonErr := json.Marshal(obj); jsonErr == nil {
		if much := tooMuch(asJSON); much != nil {
			return nil, gvk, much
		}
	}
	return obj, gvk, err
}

func tooMuch(text []byte) error { return moreThan(1, text) }

// tooMuchToDescribe is tooMuch for what others tell of their APIs.
func tooMuchToDescribe(text []byte) error { return moreThan(described, text) }

func moreThan(times int64, text []byte) error {
	var seen bulk
	seen.scan(text)
	return seen.within(times)
}
