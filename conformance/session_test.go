package conformance

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/txtar"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
)

// session is a conversation with a Kubernetes API, in a namespace of its own.
type session struct {
	client    dynamic.Interface
	http      *http.Client // for what client does not do
	bare      *http.Client // without the identity of the others
	host      string
	namespace string
	files     map[string][]byte
	// quiet is for how long nothing may move before it counts as settled, and
	// patience for how long before no other answer is waited for.
	quiet, patience time.Duration
	moves           *moves
	notYet          time.Time         // until then Kubernetes may take for the next answer
	began           time.Time         // in the session's words, 5m is before this
	spelt           map[string]string // what spell writes, and for what
	kept            map[string]string // what an answer held, by the names that requests gave it
	hooks           *hooks            // nil if the session has none
	named           map[string]place  // kinds that no row has, as objects of the session's files are of them
	made            []made            // what was created outside of the namespace

	mu       sync.Mutex
	warnings []string // of the request under way
}

// command is what a session understands.
type command struct {
	reads bool // and may be repeated
	run   func(args []string) (string, error)
}

// commands are
//
//	create [-dry-run] [-show] [-validate=Strict] FILE [KEY=VALUE]…
//	                                    every object of the file, with these changes (spec.containers.0.name=x);
//	                                    -show shows what became of them
//	apply [-dry-run] [-show] [-manager=NAME] [-force] FILE [KEY=VALUE]…
//	                                    the same, as a server-side apply
//	patch [-dry-run] [-status] [-sub=NAME] [-type=json|strategic] [-validate=Strict] KIND/NAME JSON
//	                                    a merge patch, if no type is said; of a subresource
//	put [-dry-run] [-status] KIND/NAME [KEY=VALUE]…
//	                                    the object as it is, with these changes
//	request [-show=FIELD] [-keep=NAME:FIELD] METHOD PATH [HEADER=VALUE]… [BODY | FILE]
//	                                    anything else; -show shows a field of what came back, and -keep
//	                                    makes what is in one <kept NAME>
//	delete KIND/NAME [PROPAGATION]      without one, as the API does by itself
//	show KIND/NAME [FIELD]              an object, or a field such as .status
//	jobs                                what matters of the Jobs, a line each
//	pods JOB                            what matters of its pods, a line each
//	pods KEY=VALUE                      of those with the label
//	endpoints SERVICE                   what its EndpointSlices say, a line for each endpoint
//	events                              what was said, each once
//	table KIND [NAME]                   what `kubectl get -o wide` prints; columns of that alone have a (1)
//	pod JOB[/INDEX] STATE [KEY=VALUE]   play the kubelet, see play; KEY=VALUE is a label of the pods, too
//	hook NAME ANSWER                    what the webhook answers from now on, see hookAnswer
//	asked [-sorted] [-show=FIELD]       what the webhooks were asked since then, a line each
//	after DURATION                      before Kubernetes does what is asked for next
//	minute                              the same, of what is done when the next minute begins
//	still DURATION                      nothing moves for so long
//
// A NAME may end in *, as in pod/a-*: the oldest object whose name begins so.
// Commands and files may speak of <slot 5m>, <minute 5m>, <time 5m>, <uid of KIND/NAME>,
// <namespace>, <kept NAME>, <hook NAME> and <hook ca>, see spell. What is in no namespace has <namespace> in its name,
// since sessions run beside each other.
func (s *session) commands() map[string]command {
	return map[string]command{
		"create":    {run: s.create},
		"patch":     {run: s.patch},
		"apply":     {run: s.apply},
		"put":       {run: s.put},
		"request":   {run: s.request},
		"delete":    {run: s.delete},
		"show":      {reads: true, run: s.show},
		"jobs":      {reads: true, run: s.jobs},
		"pods":      {reads: true, run: s.pods},
		"endpoints": {reads: true, run: s.endpoints},
		"events":    {reads: true, run: s.events},
		"table":     {reads: true, run: s.table},
		"pod":       {run: s.play},
		"hook":      {run: s.hook},
		"asked":     {run: s.askedAbout},
		"after":     {run: s.after},
		"minute":    {run: func([]string) (string, error) { return s.after([]string{"65s"}) }},
		"still":     {run: s.still},
	}
}

func newSession(t *testing.T, config *rest.Config, archive *txtar.Archive) *session {
	t.Helper()
	s := &session{
		files: make(map[string][]byte), quiet: 200 * time.Millisecond, patience: 10 * time.Second,
		began: time.Now().UTC(), spelt: make(map[string]string), kept: make(map[string]string), named: make(map[string]place),
	}
	if *recordFrom != "" {
		s.quiet, s.patience = 3*time.Second, 30*time.Second // the Job controller gathers what happens for a second
	}
	for _, f := range archive.Files {
		s.files[f.Name] = f.Data
		s.mention(string(f.Data))
	}
	s.startHooks(t, archive)
	config = rest.CopyConfig(config)
	config.WarningHandler = s
	var err error
	if s.client, err = dynamic.NewForConfig(config); err != nil {
		t.Fatal(err)
	}
	if s.http, err = rest.HTTPClientFor(config); err != nil {
		t.Fatal(err)
	}
	if s.bare, err = rest.HTTPClientFor(rest.AnonymousClientConfig(config)); err != nil {
		t.Fatal(err)
	}
	s.host = strings.TrimSuffix(config.Host, "/")
	ctx := context.Background()
	namespaces := s.client.Resource(places["namespace"].GroupVersionResource)
	ns := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "v1", "kind": "Namespace", "metadata": map[string]any{"generateName": "conformance-"},
	}}
	if ns, err = namespaces.Create(ctx, ns, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	s.namespace = ns.GetName()
	if *recordFrom == "" {
		s.awaitFurnished(ctx, t)
	}
	if s.moves, err = watchMoves(t, config, s.namespace, kindsIn(archive)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.removeMade(t)
		if err := namespaces.Delete(ctx, s.namespace, metav1.DeleteOptions{}); err != nil {
			t.Error(err)
		}
	})
	return s
}

// awaitFurnished waits for what a new namespace is given, which comes when it comes: a webhook would
// be asked about it. Recorded sessions have waited for it.
func (s *session) awaitFurnished(ctx context.Context, t *testing.T) {
	t.Helper()
	for _, given := range [][2]string{{"serviceaccount", "default"}, {"configmap", "kube-root-ca.crt"}} {
		at := s.client.Resource(places[given[0]].GroupVersionResource).Namespace(s.namespace)
		for end := time.Now().Add(s.patience); ; time.Sleep(5 * time.Millisecond) {
			_, err := at.Get(ctx, given[1], metav1.GetOptions{})
			if err == nil {
				break
			}
			if time.Now().After(end) {
				t.Fatalf("the namespace has no %s %s: %v", given[0], given[1], err)
			}
		}
	}
}

// HandleWarningHeader implements rest.WarningHandler.
func (s *session) HandleWarningHeader(code int, _ string, text string) {
	if code == 299 && text != "" && !advice(text) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.warnings = append(s.warnings, text)
	}
}

// advice reports whether a warning is the one of ours that names what was changed in a Job
// that must not be: it comes with each such error, and not from Kubernetes
// (docs/differences.md, Jobs).
func advice(warning string) bool {
	return strings.HasSuffix(strings.TrimSuffix(warning, `"`), "use kubectl replace --force -f FILE")
}

// outcome is the answer to a request that writes: its warnings, and what was
// done or why not.
func (s *session) outcome(done string, err error) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out strings.Builder
	for _, w := range s.warnings {
		fmt.Fprintf(&out, "Warning: %s\n", w)
	}
	s.warnings = nil
	var status apierrors.APIStatus
	switch {
	case errors.As(err, &status):
		fmt.Fprintf(&out, "%d %s: %s\n", status.Status().Code, status.Status().Reason, status.Status().Message)
	case err != nil:
		return "", err
	default:
		fmt.Fprintln(&out, done)
	}
	return s.normal(out.String()), nil
}

func (s *session) resource(kind string) (dynamic.ResourceInterface, error) {
	at, known := s.place(kind)
	switch {
	case !known:
		return nil, fmt.Errorf("no kind %q", kind)
	case !at.namespaced:
		return s.client.Resource(at.GroupVersionResource), nil
	}
	return s.client.Resource(at.GroupVersionResource).Namespace(s.namespace), nil
}

// object finds what KIND/NAME means.
func (s *session) object(kindAndName string) (dynamic.ResourceInterface, string, error) {
	kind, name, _ := strings.Cut(kindAndName, "/")
	r, err := s.resource(kind)
	prefix, any := strings.CutSuffix(name, "*")
	if err != nil || !any {
		return r, name, err
	}
	list, err := r.List(context.Background(), metav1.ListOptions{})
	if err != nil {
		return nil, "", err
	}
	slices.SortFunc(list.Items, func(a, b unstructured.Unstructured) int { return older(&a, &b) })
	for i := range list.Items {
		if name := list.Items[i].GetName(); strings.HasPrefix(name, prefix) {
			return r, name, nil
		}
	}
	return nil, "", fmt.Errorf("there is no %s", kindAndName)
}

// older sorts objects, the oldest first.
func older(a, b metav1.Object) int {
	at, bt := a.GetCreationTimestamp(), b.GetCreationTimestamp()
	return cmp.Or(at.Compare(bt.Time), strings.Compare(a.GetName(), b.GetName()))
}

// after lets the time pass that Kubernetes needs for what comes next. Only a
// recording waits: a comparison waits for the answer itself. That it does not
// come too early is for still to see.
func (s *session) after(args []string) (string, error) {
	d, err := time.ParseDuration(args[0])
	if err != nil {
		return "", err
	}
	if *recordFrom != "" {
		time.Sleep(d)
	}
	s.notYet = time.Now().Add(d)
	return "", nil
}

// waited tells whether no other answer is to be expected any more, from what was begun
// at a time: nothing has moved for long.
func (s *session) waited(begun time.Time) bool {
	last, _ := s.moves.last()
	for _, t := range []time.Time{begun, s.notYet} {
		if t.After(last) {
			last = t
		}
	}
	return time.Since(last) > s.patience
}

// underWay is how late what was written before may become known, on a machine that has
// much else to do: an event, of what the look before has shown.
const underWay = time.Second

// still says whether anything moved in the namespace for so long, but for what was under
// way. What comes in that time too early, the look before has seen, or the next one does.
func (s *session) still(args []string) (string, error) {
	d, err := time.ParseDuration(args[0])
	if err != nil {
		return "", err
	}
	began := time.Now()
	time.Sleep(d)
	last, err := s.moves.last()
	if last.After(began.Add(underWay)) {
		return "something moved\n", err
	}
	return "", err
}

// settle waits until nothing moves in the namespace.
func (s *session) settle(t *testing.T) {
	t.Helper()
	for began := time.Now(); time.Since(began) < time.Minute; {
		last, err := s.moves.last()
		if err != nil {
			t.Fatal(err)
		}
		if last.Before(began) {
			last = began
		}
		still := time.Since(last)
		if still >= s.quiet {
			return
		}
		time.Sleep(s.quiet - still)
	}
	t.Fatal("the namespace does not come to rest")
}
