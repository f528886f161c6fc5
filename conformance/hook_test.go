package conformance

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/txtar"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	sigsyaml "sigs.k8s.io/yaml"
)

// hooks are the webhooks of a session: a server over TLS on this machine's loopback, where the
// recorded control plane and the engine both are. Each path is a webhook, which answers what the
// session has told it, and else allows, or converts by changing the version alone.
type hooks struct {
	server *httptest.Server
	ca     string // in base64, as a caBundle
	urls   *regexp.Regexp

	mu      sync.Mutex
	answers map[string]hookAnswer
	asked   []question
}

// hookAnswer is what a webhook does, as the command hook says it.
type hookAnswer struct {
	// Response is what the review's response has, beside the uid of the request. Patch may be
	// a list, or text that is sent as it is.
	Response map[string]any `json:"response"`
	Patch    any            `json:"patch"`
	// Responses are instead of Response for objects that have these names.
	Responses map[string]map[string]any `json:"responses"`
	// Review is what the answer has beside the response, if it is not as it should be.
	Review map[string]any `json:"review"`

	// Wait is how long it takes, Code and Body are sent in place of a review, to Location.
	Wait     string `json:"wait"`
	Code     int    `json:"code"`
	Body     string `json:"body"`
	Location string `json:"location"`
	// Type is that of the content.
	Type string `json:"type"`

	// Move says for a version which fields go where when objects are converted to it, Set what
	// all objects have then, Fail which objects (by name) cannot be converted, and why, and
	// Lose how many of them are not in the answer.
	Move map[string]map[string]string `json:"move"`
	Set  map[string]any               `json:"set"`
	Fail map[string]string            `json:"fail"`
	Lose int                          `json:"lose"`
}

// question is one that a webhook was asked.
type question struct {
	hook    string
	request map[string]any
}

// startHooks serves the webhooks of a session, if it has any.
func (s *session) startHooks(t *testing.T, archive *txtar.Archive) {
	if !bytes.Contains(txtar.Format(archive), []byte("<hook ")) {
		return
	}
	h := &hooks{answers: make(map[string]hookAnswer)}
	h.server = httptest.NewUnstartedServer(h)
	h.server.Config.ErrorLog = log.New(io.Discard, "", 0) // of clients that do not trust it, which sessions have
	h.server.StartTLS()
	t.Cleanup(h.server.Close)
	h.ca = base64.StdEncoding.EncodeToString(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: h.server.Certificate().Raw}))
	h.urls = regexp.MustCompile(regexp.QuoteMeta(h.server.URL) + `/([0-9a-z-]+)`)
	s.hooks = h
}

// spell returns what <hook NAME> means: where that webhook is, or whom its clients trust.
func (h *hooks) spell(name string) string {
	if name == "ca" {
		return h.ca
	}
	return h.server.URL + "/" + name
}

// unspell is the way back.
func (h *hooks) unspell(text string) string {
	if h == nil {
		return text
	}
	text = strings.ReplaceAll(h.urls.ReplaceAllString(text, "<hook $1>"), h.ca, "<hook ca>")
	return strings.ReplaceAll(text, strings.TrimPrefix(h.server.URL, "https://"), "<hooks>")
}

// hook says what a webhook answers from now on.
func (s *session) hook(args []string) (string, error) {
	if len(args) != 2 {
		return "", fmt.Errorf("usage: hook NAME ANSWER")
	}
	text := args[1]
	if file, ok := s.files[text]; ok {
		text = string(file)
	}
	var a hookAnswer
	if err := sigsyaml.UnmarshalStrict([]byte(text), &a); err != nil {
		return "", err
	}
	s.hooks.mu.Lock()
	defer s.hooks.mu.Unlock()
	s.hooks.answers[args[0]] = a
	return "", nil
}

// askedAbout tells what the webhooks were asked since it was told last, a line each, in the order in which
// they were; -sorted, of those that are asked at the same time; -show, a field of the last question.
func (s *session) askedAbout(args []string) (string, error) {
	set, _, err := flags(append(args, "end"), "sorted", "show")
	if err != nil {
		return "", err
	}
	s.hooks.mu.Lock()
	asked := s.hooks.asked
	s.hooks.asked = nil
	s.hooks.mu.Unlock()
	if field, ok := set["show"]; ok && len(asked) > 0 {
		return s.shownQuestion(asked[len(asked)-1].request, field)
	}
	var lines []string
	for _, q := range asked {
		lines = append(lines, s.normal(q.line())+"\n")
	}
	if _, sorted := set["sorted"]; sorted {
		slices.Sort(lines)
	}
	return cmp.Or(strings.Join(lines, ""), "nothing\n"), nil
}

// line is what a question is about.
func (q *question) line() string {
	text := func(field ...string) string {
		value, _, _ := unstructured.NestedString(q.request, field...)
		return value
	}
	line := fmt.Sprintf("%s: %s %s", q.hook, text("operation"), text("resource", "resource"))
	if g := text("resource", "group"); g != "" {
		line += "." + g
	}
	if sub := text("subResource"); sub != "" {
		line += "/" + sub
	}
	if name := text("name"); name != "" {
		line += " " + name
	}
	if ns := text("namespace"); ns != "" {
		line += " in " + ns
	}
	if dry, _, _ := unstructured.NestedBool(q.request, "dryRun"); dry {
		line += " (dry run)"
	}
	for _, field := range []string{"object", "oldObject"} {
		if q.request[field] != nil {
			line += ", " + field
		}
	}
	return line
}

// shownQuestion is a field of a question, or all of it. Who asks is another user in every cluster.
func (s *session) shownQuestion(request map[string]any, field string) (string, error) {
	delete(request, "userInfo")
	for _, part := range []string{"object", "oldObject"} {
		if object, ok := request[part].(map[string]any); ok {
			for _, field := range []string{"creationTimestamp", "managedFields"} {
				unstructured.RemoveNestedField(object, "metadata", field)
			}
		}
	}
	if field == "" {
		return s.text(request), nil
	}
	value, found, err := unstructured.NestedFieldNoCopy(request, strings.Split(field, ".")[1:]...)
	if !found || err != nil {
		return "<none>\n", err
	}
	return s.text(value), nil
}

// ServeHTTP implements http.Handler.
func (h *hooks) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	name := strings.TrimPrefix(r.URL.Path, "/")
	text, err := io.ReadAll(r.Body)
	var review map[string]any
	if err == nil {
		err = json.Unmarshal(text, &review)
	}
	request, _ := review["request"].(map[string]any)
	if err != nil || request == nil {
		http.Error(w, fmt.Sprintf("no review: %v", err), http.StatusBadRequest)
		return
	}
	h.mu.Lock()
	a := h.answers[name]
	if review["kind"] == "AdmissionReview" { // how often it is asked to convert is nobody's promise
		h.asked = append(h.asked, question{name, request})
	}
	h.mu.Unlock()
	if d, err := time.ParseDuration(a.Wait); err == nil {
		select {
		case <-time.After(d):
		case <-r.Context().Done():
			return
		}
	}
	w.Header().Set("Content-Type", cmp.Or(a.Type, "application/json"))
	if a.Location != "" {
		w.Header().Set("Location", a.Location)
	}
	if a.Code != 0 || a.Body != "" {
		w.WriteHeader(cmp.Or(a.Code, http.StatusOK))
		io.WriteString(w, a.Body)
		return
	}
	response := map[string]any{"allowed": true}
	if review["kind"] == "ConversionReview" {
		response = a.converted(request)
	}
	response["uid"] = request["uid"]
	if err := a.addTo(response, request); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	answer := map[string]any{"apiVersion": review["apiVersion"], "kind": review["kind"], "response": response}
	merge(answer, a.Review)
	json.NewEncoder(w).Encode(answer)
}

// addTo adds to a response what the session has said.
func (a *hookAnswer) addTo(response, request map[string]any) error {
	if a.Patch != nil {
		text, isText := a.Patch.(string)
		if !isText {
			encoded, err := json.Marshal(a.Patch)
			if err != nil {
				return err
			}
			text = string(encoded)
		}
		response["patch"], response["patchType"] = base64.StdEncoding.EncodeToString([]byte(text)), "JSONPatch"
	}
	merge(response, a.Response)
	for _, part := range []string{"object", "oldObject"} {
		name, _, _ := unstructured.NestedString(request, part, "metadata", "name")
		merge(response, a.Responses[name])
	}
	return nil
}

// converted is the response to a request to convert.
func (a *hookAnswer) converted(request map[string]any) map[string]any {
	version, _ := request["desiredAPIVersion"].(string)
	objects, _ := request["objects"].([]any)
	var done []any
	for _, obj := range objects {
		object := obj.(map[string]any)
		if name, _, _ := unstructured.NestedString(object, "metadata", "name"); a.Fail[name] != "" {
			return map[string]any{"result": map[string]any{"status": "Failure", "message": a.Fail[name]}}
		}
		object["apiVersion"] = version
		for from, to := range a.Move[version[strings.LastIndex(version, "/")+1:]] {
			value, found, _ := unstructured.NestedFieldNoCopy(object, strings.Split(from, ".")...)
			if found {
				unstructured.RemoveNestedField(object, strings.Split(from, ".")...)
				unstructured.SetNestedField(object, value, strings.Split(to, ".")...)
			}
		}
		for path, value := range a.Set {
			unstructured.SetNestedField(object, value, strings.Split(path, ".")...)
		}
		done = append(done, object)
	}
	done = done[min(a.Lose, len(done)):]
	return map[string]any{"convertedObjects": done, "result": map[string]any{"status": "Success"}}
}

// merge puts the fields of from into an object; null takes one away.
func merge(into, from map[string]any) {
	for field, value := range from {
		if value == nil {
			delete(into, field)
			continue
		}
		into[field] = value
	}
}
