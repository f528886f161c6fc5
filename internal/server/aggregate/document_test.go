package aggregate

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/endpoints/discovery/aggregated"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
)

// swagger is what a server says of boats in OpenAPI 2, and of what is not its part of the API.
const swagger = `{"swagger":"2.0","info":{"title":"boats","version":"1"},"paths":{
	"/apis/example.com/v1/boats":{"get":{"operationId":"listBoats","responses":{"200":{"description":"OK","schema":{"$ref":"#/definitions/com.example.v1.Boat"}}}}},
	"/apis/other.example.com/v1/cars":{"get":{"operationId":"listCars","responses":{"200":{"description":"OK","schema":{"$ref":"#/definitions/com.example.other.v1.Car"}}}}}},
	"definitions":{"com.example.v1.Boat":{"type":"object","description":"a boat","x-kubernetes-group-version-kind":[{"group":"example.com","version":"v1","kind":"Boat"}]},
	"com.example.other.v1.Car":{"type":"object"}}}`

// What another server says of itself is part of what is said of the API, in both versions, whichever of them
// it has; as long as it is there.
func TestDocuments(t *testing.T) {
	t.Parallel()
	const at = "apis/example.com/v1"
	for _, tc := range []struct {
		name             string
		v2, v3           string // what the server has; "": nothing
		swagger          bool
		index, described string // where the document of version 3 is, and what is in it; "": there is none
	}{
		{"both", swagger, `{"openapi":"3.0.0","of":"the server"}`, true, "/openapi/v3/" + at + "?hash=ABC", `"of":"the server"`},
		{"version 2", swagger, "", true, "/openapi/v3/" + at + "?hash=", `"description":"a boat"`},
		{"version 3", "", `{"openapi":"3.0.0","of":"the server"}`, false, "/openapi/v3/" + at + "?hash=ABC", `"of":"the server"`},
		{"none", "", "", false, "", ""},
		{"nonsense", `{"swagger":`, "", false, "", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			var asked atomic.Int32
			b := setup(t, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", "application/json")
				switch {
				case r.URL.Path == "/openapi/v2" && tc.v2 != "":
					asked.Add(1)
					_, _ = io.WriteString(w, tc.v2)
				case r.URL.Path == "/openapi/v3" && tc.v3 != "":
					fmt.Fprintf(w, `{"paths":{"%s":{"serverRelativeURL":"/openapi/v3/%s?hash=ABC"}}}`, at, at)
				case r.URL.Path == "/openapi/v3/"+at && tc.v3 != "":
					_, _ = io.WriteString(w, tc.v3)
				case r.URL.Path == "/apis" || r.URL.Path == "/"+at:
					_, _ = io.WriteString(w, `{"groupVersion":"example.com/v1","resources":[]}`)
				default:
					http.NotFound(w, r)
				}
			}, service(443), slice("https", true), pod())
			now := time.Unix(1000, 0)
			b.Now = func() time.Time { return now }
			b.put(t, &apiregistrationv1.APIService{ObjectMeta: metav1.ObjectMeta{Name: b.name}, Spec: b.spec})
			b.Discovery, b.remotes = aggregated.NewResourceManager("apis"), map[string]*remote{b.name: b.remote}
			if doc, tag, err := b.Swagger(); doc != nil || tag != "" || err != nil {
				t.Errorf("before it is there: %v, %s, %v", doc, tag, err)
			}
			if err := b.discover(t.Context()); err != nil {
				t.Fatal(err)
			}

			doc, tag, err := b.Swagger()
			if (doc != nil) != tc.swagger || (tag != "") != tc.swagger || err != nil {
				t.Errorf("version 2: %v, %s, %v", doc, tag, err)
			}
			if doc != nil && (len(doc.Paths.Paths) != 1 || len(doc.Definitions) != 1 || doc.Definitions["com.example.v1.Boat"].Description != "a boat") {
				t.Errorf("version 2: %+v", doc)
			}
			index := b.Documents(httptest.NewRequest("GET", "/openapi/v3", nil))
			if got := index[at].ServerRelativeURL; !strings.HasPrefix(got, tc.index) || (got == "") != (tc.index == "") {
				t.Errorf("version 3 is at %q", got)
			}
			w := httptest.NewRecorder()
			b.ServeDocument(w, httptest.NewRequestWithContext(t.Context(), "GET", "/openapi/v3/"+at+"?hash=ABC", nil))
			if (w.Code == http.StatusOK) != (tc.described != "") || tc.described != "" && !strings.Contains(w.Body.String(), tc.described) {
				t.Errorf("version 3: %d %s", w.Code, w.Body)
			}
			if n := asked.Load(); n > 1 {
				t.Errorf("it was asked %d times", n)
			}
			now = now.Add(every)
			if again, _, _ := b.Swagger(); again != doc {
				t.Error("what has not changed is another document")
			}
			if n := asked.Load(); tc.swagger && n != 2 {
				t.Errorf("later it was asked %d times", n)
			}

			b.stale()
			doc, _, _ = b.Swagger()
			if index := b.Documents(httptest.NewRequest("GET", "/openapi/v3", nil)); doc != nil || len(index) > 0 {
				t.Errorf("when it is not there: %v, %v", doc, index)
			}
		})
	}
}
