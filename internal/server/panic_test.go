package server

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"math/rand"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/api/apitesting/fuzzer"
	metafuzzer "k8s.io/apimachinery/pkg/apis/meta/fuzzer"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/randfill"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/kind"
)

// panics are patches by which libraries panic: of Kubernetes' strategic merge, which compares
// what cannot be compared, and of JSON patches.
var panics = map[string][]string{
	"strategic-merge": {
		`{"spec":{"template":{"spec":{"containers":[{"name":{}},{"name":{}}]}}}}`,
		`{"spec":{"template":{"spec":{"containers":[{"name":{},"$patch":"delete"},{"name":{}}]}}}}`,
		`{"spec":{"template":{"spec":{"$setElementOrder/containers":[{"name":{}},{"name":{}}],"containers":[{"name":{}}]}}}}`,
		`{"metadata":{"$setElementOrder/finalizers":[{}],"finalizers":[{},{}]}}`,
	},
	"json": {`[{"op":"test","path":"/spec/template/spec/containers","value":[null]}]`},
}

// oddities are patches that mean nothing, and make nothing panic.
var oddities = map[string][]string{
	"strategic-merge": {
		`null`, `1`, `[]`, `[null]`, `{"metadata":null}`, `{"metadata":[null]}`, `{"metadata":{"finalizers":[null,null]}}`, `{"metadata":{"finalizers":[[],[]]}}`,
		`{"metadata":{"ownerReferences":[null]}}`, `{"metadata":{"ownerReferences":[1]}}`, `{"metadata":{"ownerReferences":[[]]}}`, `{"metadata":{"ownerReferences":[{}]}}`,
		`{"metadata":{"ownerReferences":[{"$patch":"bogus"}]}}`, `{"metadata":{"ownerReferences":[{"$patch":1}]}}`, `{"metadata":{"ownerReferences":[{"$patch":"delete"}]}}`,
		`{"metadata":{"$deleteFromPrimitiveList/finalizers":1,"finalizers":["a"]}}`, `{"metadata":{"$deleteFromPrimitiveList/finalizers":[{},{}],"finalizers":[{}]}}`,
		`{"metadata":{"$retainKeys":1}}`, `{"metadata":{"$retainKeys":[1,null]}}`, `{"$patch":"delete"}`, `{"$patch":"replace","$patch":null}`, `{"spec":{"$patch":"replace"},"status":{"$patch":"delete"}}`,
		`{"spec":{"template":{"spec":{"containers":[null]}}}}`, `{"spec":null,"status":null}`, `{"spec":[],"status":[]}`, `{"spec":{"$setElementOrder/x":[{}]}}`,
	},
	"merge": {`null`, `1`, `[]`, `{"metadata":null}`, `{"metadata":{"name":null}}`, `{"metadata":{"ownerReferences":[null,{}]}}`, `{"spec":null,"status":null}`, `{"spec":[null]}`, `{"spec":{"":{"":null}}}`},
	"json": {
		`null`, `[]`, `[null]`, `[{}]`, `[{"op":null}]`, `[{"op":"add","path":""}]`, `[{"op":"replace","path":"","value":null}]`, `[{"op":"remove","path":""}]`, `[{"op":"test","path":"","value":null}]`,
		`[{"op":"copy","from":"","path":"/metadata/a"}]`, `[{"op":"move","from":"/metadata","path":"/metadata/a"}]`, `[{"op":"add","path":"/metadata/finalizers/-1","value":1}]`,
		`[{"op":"add","path":"/metadata/finalizers/99999999999","value":"a/b"}]`, `[{"op":"remove","path":"/spec"}]`, `[{"op":"replace","path":"/metadata","value":[]}]`,
	},
}

// Whatever makes a handler panic is answered once, as an error of the server, by whichever
// protocol; the connection goes on, and the log has a line of it that is not long.
func TestPanics(t *testing.T) {
	t.Parallel()
	for _, http1 := range []bool{false, true} {
		t.Run(fmt.Sprint("HTTP/1 ", http1), func(t *testing.T) {
			t.Parallel()
			var log syncBuffer
			f := setup(t, func(o *Options) { o.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
			f.run(t, []probe{{name: "create", method: "POST", path: jobs, body: jobBody, code: 201}})
			config := rest.CopyConfig(f.config)
			if http1 {
				config.NextProtos = []string{"http/1.1"}
			}
			client, err := rest.HTTPClientFor(config)
			if err != nil {
				t.Fatal(err)
			}
			connections, n := 0, 0
			for kind, bodies := range panics {
				for _, body := range bodies {
					n++
					trace := &httptrace.ClientTrace{GotConn: func(got httptrace.GotConnInfo) {
						if !got.Reused {
							connections++
						}
					}}
					req, err := http.NewRequestWithContext(httptrace.WithClientTrace(t.Context(), trace), http.MethodPatch, config.Host+jobs+"/pi", strings.NewReader(body))
					if err != nil {
						t.Fatal(err)
					}
					req.Header.Set("Content-Type", "application/"+kind+"-patch+json")
					resp, err := client.Do(req)
					if err != nil {
						t.Errorf("%s: %v", body, err)
						continue
					}
					answer, err := io.ReadAll(resp.Body)
					resp.Body.Close()
					if err != nil {
						t.Error(err)
					}
					p := probe{code: 500, reason: "InternalError", message: "Internal error occurred: this request caused the server to panic; its log says where"}
					p.check(t, resp, answer)
				}
			}
			if connections > 1 { // none, if it is the one by which the Job was created
				t.Errorf("%d connections", connections)
			}
			lines := strings.Split(strings.TrimSpace(log.String()), "\n")
			if len(lines) != n || n != strings.Count(log.String(), "a request has made its handler panic") {
				t.Errorf("%d lines of %d panics:\n%s", len(lines), n, log.String())
			}
			for _, line := range lines {
				if len(line) > 2*(mostOfStack+mostOfReason) || !strings.Contains(line, "strategicpatch.") && !strings.Contains(line, "json-patch") {
					t.Errorf("%d bytes: %s", len(line), line)
				}
			}
		})
	}
}

// An answer that has begun is broken off, so that nobody takes a part of it for the whole.
func TestPanicInAnAnswer(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	h := withPace(withPanics(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "half of it")
		panic(strings.Repeat("x", 1<<20))
	}), slog.New(slog.NewTextHandler(&log, nil))), defaultPace())
	defer func() {
		if what := recover(); what != http.ErrAbortHandler {
			t.Errorf("got %v", what)
		}
		if n := log.Len(); n == 0 || n > 2*(mostOfStack+mostOfReason) {
			t.Errorf("%d bytes are logged", n)
		}
	}()
	h.ServeHTTP(oldAnswer{httptest.NewRecorder()}, httptest.NewRequest(http.MethodGet, cms, nil))
}

// oldAnswer is an answer as the HTTP server makes it.
type oldAnswer struct{ *httptest.ResponseRecorder }

func (oldAnswer) CloseNotify() <-chan bool { return nil }

// Patches that mean nothing, of each kind and of its status, are refused or change something; in
// either case they are answered.
func TestOddPatches(t *testing.T) {
	t.Parallel()
	var log syncBuffer
	f := setup(t, func(o *Options) { o.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
	fill := fuzzer.FuzzerFor(metafuzzer.Funcs, rand.NewSource(1), serializer.NewCodecFactory(f.scheme)).NilChance(0.1).NumElements(1, 2)
	n := 0
	for _, k := range kind.Ours(f.kinds.All()) {
		path := f.plant(t, k, fill)
		for sort, bodies := range oddities {
			for _, body := range append(slices.Clone(bodies), panics[sort]...) {
				if n++; n%4 > 0 { // a quarter is enough for a test of every day
					continue
				}
				sub := ""
				if k.Status != nil && n%8 > 3 {
					sub = "/status"
				}
				resp, answer := f.http(t, http.MethodPatch, path+sub+"?dryRun=All", body, map[string]string{"Content-Type": "application/" + sort + "-patch+json"})
				if !bytes.Contains(answer, []byte(`"kind":`)) {
					t.Errorf("%s %s: %d %.300s", path, body, resp.StatusCode, answer)
				}
			}
		}
	}
	for line := range strings.Lines(log.String()) {
		if !strings.Contains(line, "strategicpatch.") && !strings.Contains(line, "json-patch") {
			t.Errorf("a panic that is not known: %s", line)
		}
	}
}

// plant puts an object full of random values into the store, and returns its path.
func (f *fixture) plant(t *testing.T, k *kind.Kind, fill *randfill.Filler) string {
	t.Helper()
	obj := k.New()
	if k.Resource != kind.Services { // whose addresses the store accounts for
		fill.Fill(obj)
	}
	namespace, path := "", "/apis/"+k.GVK.GroupVersion().String()
	if k.GVK.Group == "" {
		path = "/api/v1"
	}
	if k.Namespaced {
		namespace = "default"
		path += "/namespaces/default"
	}
	obj.SetName("odd")
	obj.SetNamespace(namespace)
	obj.SetDeletionTimestamp(nil)
	obj.SetManagedFields(nil)
	var set change.Set
	set.Create(k.Key(namespace, "odd"), obj)
	if _, err := f.store.Apply(t.Context(), set); err != nil {
		t.Fatal(err)
	}
	return path + "/" + k.Plural() + "/odd"
}
