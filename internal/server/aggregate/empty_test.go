package aggregate

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"path"
	"slices"
	"strings"
	"sync"
	"testing"

	apidiscoveryv2 "k8s.io/api/apidiscovery/v2"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/kind"
)

// fleet is a server that keeps boats in the namespace x.
type fleet struct {
	mu     sync.Mutex
	boats  []metav1.PartialObjectMetadata
	seen   []string                    // what was asked for
	refuse string                      // the method that is forbidden
	stays  bool                        // boats are not deleted, whatever it says
	list   func(w http.ResponseWriter) // answers a list in its place
}

func boat(name string, finalizers ...string) metav1.PartialObjectMetadata {
	return metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "x", Finalizers: finalizers}}
}

func (f *fleet) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if who := r.Header.Get("X-Remote-User"); who != "system:serviceaccount:kube-system:namespace-controller" || !slices.Contains(r.Header["X-Remote-Group"], "system:serviceaccounts:kube-system") {
		http.Error(w, "who is "+who, http.StatusTeapot)
		return
	}
	f.seen = append(f.seen, r.Method+" "+r.URL.Path)
	w.Header().Set("Content-Type", "application/json")
	body, _ := io.ReadAll(r.Body)
	switch name := path.Base(r.URL.Path); {
	case r.Method == f.refuse:
		w.WriteHeader(http.StatusForbidden)
		fmt.Fprint(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","message":"boats.example.com is forbidden: by the harbour","reason":"Forbidden","code":403}`)
	case r.Method == http.MethodGet && f.list != nil:
		f.list(w)
	case r.Method == http.MethodGet:
		_ = json.NewEncoder(w).Encode(metav1.PartialObjectMetadataList{TypeMeta: metav1.TypeMeta{APIVersion: "meta.k8s.io/v1", Kind: "PartialObjectMetadataList"}, Items: f.boats})
	case !strings.Contains(string(body), `"propagationPolicy":"Background"`):
		http.Error(w, "how? "+string(body), http.StatusTeapot)
	default:
		f.boats = slices.DeleteFunc(f.boats, func(b metav1.PartialObjectMetadata) bool {
			return !f.stays && len(b.Finalizers) == 0 && (name == "boats" || name == b.Name)
		})
		fmt.Fprint(w, `{"kind":"Status","apiVersion":"v1","status":"Success"}`)
	}
}

// What another server keeps of a namespace is deleted as Kubernetes' namespace controller does it, and what
// is left, and what went wrong, is told in its words.
func TestEmpty(t *testing.T) {
	t.Parallel()
	all := []string{"get", "list", "delete", "deletecollection"}
	const collection = "/apis/example.com/v1/namespaces/x/boats"
	for _, tc := range []struct {
		name        string
		fleet       *fleet
		verbs       []string
		unavailable bool
		seen        string
		left        string
		failures    string
	}{
		{"all at once", &fleet{boats: []metav1.PartialObjectMetadata{boat("a"), boat("b")}}, all, false, "DELETE " + collection + ", GET " + collection, "", ""},
		{"one by one", &fleet{boats: []metav1.PartialObjectMetadata{boat("a"), boat("b")}}, []string{"list", "delete"}, false,
			"GET " + collection + ", DELETE " + collection + "/a, DELETE " + collection + "/b, GET " + collection, "", ""},
		{"not to be listed", &fleet{}, []string{"delete"}, false, "", "", ""},
		{"not to be deleted", &fleet{boats: []metav1.PartialObjectMetadata{boat("a")}}, []string{"get", "list"}, false, "", "", ""},
		{"anchored", &fleet{boats: []metav1.PartialObjectMetadata{boat("a", "example.com/anchor"), boat("b")}}, all, false, "DELETE " + collection + ", GET " + collection,
			"map[boats.example.com:[[example.com/anchor]]]", ""},
		{"stays", &fleet{boats: []metav1.PartialObjectMetadata{boat("a")}, stays: true}, all, false, "DELETE " + collection + ", GET " + collection,
			"map[boats.example.com:[[]]]", "unexpected items still remain in namespace: x for gvr: example.com/v1, Resource=boats"},
		{"forbidden", &fleet{refuse: "DELETE"}, all, false, "DELETE " + collection, "", "boats.example.com is forbidden: by the harbour"},
		{"too large", &fleet{list: func(w http.ResponseWriter) { _, _ = io.WriteString(w, strings.Repeat(" ", maxDocument+1)) }}, all, false, "DELETE " + collection + ", GET " + collection, "",
			`Get "https://localhost` + collection + `": the answer is larger than 16 MiB`},
		{"too much in it", &fleet{list: func(w http.ResponseWriter) { _, _ = io.WriteString(w, strings.Repeat("{", 1001)) }}, all, false, "DELETE " + collection + ", GET " + collection, "",
			`Get "https://localhost` + collection + `": the answer has too much in it: more than 1000 fields`},
		{"unavailable", &fleet{}, all, true, "", "", "the server is currently unable to handle the request"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			available := apiregistrationv1.ConditionTrue
			if tc.unavailable {
				available = apiregistrationv1.ConditionFalse
			}
			b := setup(t, tc.fleet.ServeHTTP, service(443), slice("https", true), pod())
			api := &apiregistrationv1.APIService{ObjectMeta: metav1.ObjectMeta{Name: b.name}, Spec: b.spec,
				Status: apiregistrationv1.APIServiceStatus{Conditions: []apiregistrationv1.APIServiceCondition{{Type: apiregistrationv1.Available, Status: available}}}}
			b.put(t, api)
			b.remotes, b.fresh = map[string]*remote{b.name: b.remote}, true
			b.known = resources{
				{Resource: "boats", Scope: apidiscoveryv2.ScopeNamespace, Verbs: tc.verbs},
				{Resource: "seas", Scope: apidiscoveryv2.ScopeCluster, Verbs: all},
			}
			left, failures := b.Empty(t.Context(), "x")
			said := ""
			if len(left) > 0 {
				said = fmt.Sprint(left)
			}
			if seen := strings.Join(tc.fleet.seen, ", "); seen != tc.seen || said != tc.left || strings.Join(failures, ", ") != tc.failures {
				t.Errorf("asked for %s\nleft %s\nfailures %q", seen, said, failures)
			}
		})
	}
}

// As long as another server has not said what it serves, that is what is said of it, in the words of a client
// of discovery.
func TestUndiscovered(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	b.remotes = map[string]*remote{}
	if got := b.Undiscovered(); got != "" {
		t.Errorf("without an APIService: %q", got)
	}
	b.put(t, &apiregistrationv1.APIService{ObjectMeta: metav1.ObjectMeta{Name: b.name}, Spec: b.spec})
	b.put(t, &apiregistrationv1.APIService{ObjectMeta: metav1.ObjectMeta{Name: "v1.local"}, Spec: apiregistrationv1.APIServiceSpec{Group: "local", Version: "v1"}})
	const want = "Discovery failed for some groups, 1 failing: unable to retrieve the complete list of server APIs: example.com/v1: stale GroupVersion discovery: example.com/v1"
	if got := b.Undiscovered(); got != want {
		t.Errorf("before it was asked: %q", got)
	}
	b.remotes[b.name] = b.remote
	if got := b.Undiscovered(); got != want {
		t.Errorf("before it has answered: %q", got)
	}
	b.fresh = true
	if got := b.Undiscovered(); got != "" {
		t.Errorf("when it is known: %q", got)
	}
}

// put stores an object.
func (b *bench) put(t *testing.T, api *apiregistrationv1.APIService) {
	t.Helper()
	var set change.Set
	set.Create(kind.APIServices.Key("", api.Name), api)
	if _, err := b.store.Apply(t.Context(), set); err != nil {
		t.Fatal(err)
	}
}
