package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"
	authenticationv1 "k8s.io/api/authentication/v1"
	certificatesv1 "k8s.io/api/certificates/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"github.com/sampan-batch/sampan/internal/agent/eviction"
	"github.com/sampan-batch/sampan/internal/agent/machine"
	"github.com/sampan-batch/sampan/internal/agent/node"
	"github.com/sampan-batch/sampan/internal/agent/policy"
	"github.com/sampan-batch/sampan/internal/agent/runspec"
	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/runner"
	"github.com/sampan-batch/sampan/internal/runner/fake"
)

// fakeClient is an API with nothing but one node's pods and what they refer to.
type fakeClient struct {
	mu      sync.Mutex
	rev     int
	pods    map[string]*corev1.Pod
	configs map[string]*corev1.ConfigMap
	asked   []*certificatesv1.PodCertificateRequest // by the node, and not deleted
	secrets map[string]*corev1.Secret
	nodes   map[string]*corev1.Node
	leases  map[string]*coordinationv1.Lease
	notes   []change.Note
	history map[string][]corev1.PodStatus // every status ever written, by pod
	watch   func(PodChanges)
	tokens  int                     // given out
	fail    func(verb string) error // makes calls fail, if set
}

func newFakeClient() *fakeClient {
	return &fakeClient{
		pods: map[string]*corev1.Pod{}, configs: map[string]*corev1.ConfigMap{}, secrets: map[string]*corev1.Secret{},
		nodes: map[string]*corev1.Node{}, leases: map[string]*coordinationv1.Lease{}, history: map[string][]corev1.PodStatus{},
	}
}

// Token implements Client: the token says whose it is, and which it is.
func (f *fakeClient) Token(_ context.Context, namespace, account string, req *authenticationv1.TokenRequest) (*authenticationv1.TokenRequest, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fail != nil {
		if err := f.fail("token"); err != nil {
			return nil, err
		}
	}
	f.tokens++
	out := req.DeepCopy()
	out.Status.Token = fmt.Sprintf("%s/%s of %s for %q, number %d", namespace, account, req.Spec.BoundObjectRef.Name, req.Spec.Audiences, f.tokens)
	out.Status.ExpirationTimestamp = metav1.NewTime(time.Now().Add(time.Duration(*req.Spec.ExpirationSeconds) * time.Second))
	return out, nil
}

func notFound(resource, name string) error {
	return apierrors.NewNotFound(schema.GroupResource{Resource: resource}, name)
}

func (f *fakeClient) WatchPods(ctx context.Context, node string, deliver func(PodChanges)) error {
	f.mu.Lock()
	deliver(PodChanges{All: true, Pods: slices.Collect(maps.Values(f.pods))})
	f.watch = deliver
	f.mu.Unlock()
	<-ctx.Done()
	f.mu.Lock()
	f.watch = nil
	f.mu.Unlock()
	return context.Cause(ctx)
}

// put stores pod and tells the watch.
// Policies implements Client: there are none.
func (f *fakeClient) Policies() policy.World { return policy.World{} }

// WatchPolicies implements Client.
func (f *fakeClient) WatchPolicies(ctx context.Context, changed func()) error {
	changed()
	<-ctx.Done()
	return context.Cause(ctx)
}

// WatchServices implements Client: there are none.
func (f *fakeClient) WatchServices(ctx context.Context, deliver func([]*corev1.Service, []*discoveryv1.EndpointSlice, []string)) error {
	deliver(nil, nil, nil)
	<-ctx.Done()
	return context.Cause(ctx)
}

func (f *fakeClient) put(pod *corev1.Pod) *corev1.Pod {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.putLocked(pod)
}

func (f *fakeClient) putLocked(pod *corev1.Pod) *corev1.Pod {
	f.rev++
	pod.ResourceVersion = strconv.Itoa(f.rev)
	f.pods[pod.Name] = pod
	if f.watch != nil {
		f.watch(PodChanges{Pods: []*corev1.Pod{pod}})
	}
	return pod
}

// failWith makes every write of a status fail, nil: none.
func (f *fakeClient) failWith(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fail = func(string) error { return err }
}

func (f *fakeClient) get(name string) *corev1.Pod {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.pods[name]
}

// kill asks for the pod's deletion, as kubectl delete does; negative grace asks
// for the pod's own.
func (f *fakeClient) kill(name string, grace int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	pod := f.pods[name].DeepCopy()
	if grace < 0 {
		grace = corev1.DefaultTerminationGracePeriodSeconds
		if s := pod.Spec.TerminationGracePeriodSeconds; s != nil {
			grace = *s
		}
	}
	at := metav1.NewTime(time.Now().Add(time.Duration(grace) * time.Second))
	pod.DeletionTimestamp, pod.DeletionGracePeriodSeconds = &at, &grace
	f.putLocked(pod)
}

// remove removes the pod from the API at once.
func (f *fakeClient) remove(name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.removeLocked(name)
}

func (f *fakeClient) removeLocked(name string) {
	pod := f.pods[name]
	delete(f.pods, name)
	if f.watch != nil {
		f.watch(PodChanges{Gone: []runner.PodRef{RefOf(pod)}})
	}
}

func (f *fakeClient) UpdatePodStatus(ctx context.Context, ref runner.PodRef, status func(*corev1.Pod) corev1.PodStatus) (*corev1.Pod, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fail != nil {
		if err := f.fail("status"); err != nil {
			return nil, err
		}
	}
	old := f.pods[ref.Name]
	if old == nil || string(old.UID) != ref.UID {
		return nil, notFound("pods", ref.Name)
	}
	pod := *old
	pod.Status = status(old)
	f.history[ref.Name] = append(f.history[ref.Name], pod.Status)
	return f.putLocked(&pod), nil
}

func (f *fakeClient) DeletePod(ctx context.Context, ref runner.PodRef) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if pod := f.pods[ref.Name]; pod != nil && string(pod.UID) == ref.UID {
		f.removeLocked(ref.Name)
	}
	return nil
}

func (f *fakeClient) ConfigMap(ctx context.Context, ns, name string) (*corev1.ConfigMap, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if cm := f.configs[name]; cm != nil {
		return cm, nil
	}
	return nil, notFound("configmaps", name)
}

func (f *fakeClient) Secret(ctx context.Context, ns, name string) (*corev1.Secret, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if s := f.secrets[name]; s != nil {
		return s, nil
	}
	return nil, notFound("secrets", name)
}

// ServiceAccount implements Client: there is one.
func (f *fakeClient) ServiceAccount(ctx context.Context, ns, name string) (*corev1.ServiceAccount, error) {
	if name == "bot" {
		return &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: name, UID: "uid-bot"}}, nil
	}
	return nil, notFound("serviceaccounts", name)
}

func (f *fakeClient) ClusterTrustBundle(ctx context.Context, name string) (*certificatesv1.ClusterTrustBundle, error) {
	return nil, notFound("clustertrustbundles", name)
}

func (f *fakeClient) ClusterTrustBundles(ctx context.Context, signer string) ([]*certificatesv1.ClusterTrustBundle, error) {
	return nil, nil
}

func (f *fakeClient) CreatePodCertificateRequest(ctx context.Context, request *certificatesv1.PodCertificateRequest) (*certificatesv1.PodCertificateRequest, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.tokens++
	request.Name = fmt.Sprint(request.GenerateName, f.tokens)
	f.asked = append(f.asked, request)
	return request, nil
}

func (f *fakeClient) PodCertificateRequest(ctx context.Context, ns, name string) (*certificatesv1.PodCertificateRequest, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, r := range f.asked {
		if r.Name == name {
			return r.DeepCopy(), nil
		}
	}
	return nil, notFound("podcertificaterequests", name)
}

func (f *fakeClient) Services(context.Context, string) ([]*corev1.Service, error) { return nil, nil }

func (f *fakeClient) PersistentVolumeClaim(ctx context.Context, ns, name string) (*corev1.PersistentVolumeClaim, error) {
	return nil, notFound("persistentvolumeclaims", name)
}

func (f *fakeClient) PersistentVolume(ctx context.Context, name string) (*corev1.PersistentVolume, error) {
	return nil, notFound("persistentvolumes", name)
}

func (f *fakeClient) Record(notes ...change.Note) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.notes = append(f.notes, notes...)
}

func (f *fakeClient) RegisterNode(ctx context.Context, node *corev1.Node) (*corev1.Node, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.nodes[node.Name] = node
	return node, nil
}

func (f *fakeClient) Node(ctx context.Context, name string) (*corev1.Node, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	node := f.nodes[name]
	if node == nil {
		return nil, notFound("nodes", name)
	}
	return node, nil
}

func (f *fakeClient) UpdateNodeStatus(ctx context.Context, name string, status func(*corev1.Node) corev1.NodeStatus) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.nodes[name] == nil {
		return notFound("nodes", name)
	}
	next := *f.nodes[name]
	next.Status = status(f.nodes[name])
	f.nodes[name] = &next
	return nil
}

func (f *fakeClient) RenewLease(ctx context.Context, lease *coordinationv1.Lease) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.leases[lease.Name] = lease
	return nil
}

// events returns what was recorded, as "Reason: message", in order.
func (f *fakeClient) events() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []string
	for _, n := range f.notes {
		out = append(out, n.Reason+": "+n.Message)
	}
	return out
}

// script is what an attempt to run a container does.
type script struct {
	out     string        // what it writes first
	runs    time.Duration // how long it runs; 0: for ever
	code    int           // with which it ends
	err     error         // it cannot be started
	onTerm  time.Duration // how long it takes to end when told to; negative: never
	exec    func(args []string) (runner.ExecResult, error)
	message string // what it leaves in its termination log
	cat     bool   // it copies its input first
	memory  int64  // how much it uses
	ports   map[uint16]func(net.Conn)
}

var discard = slog.New(slog.DiscardHandler)

const forEver = 1<<63 - 1

// fake puts it into the terms of the fake runner.
func (s script) fake() fake.Script {
	out := fake.Script{StartError: s.err, Exit: s.code, Ports: s.ports, Memory: s.memory, Steps: []fake.Step{{Stdout: s.out, Cat: s.cat, Sleep: s.runs}}}
	if s.runs == 0 {
		out.Steps[0].Sleep = forEver
	}
	term := int(unix.SIGTERM)
	switch {
	case s.onTerm > 0:
		out.On = map[int]fake.Script{term: {Steps: []fake.Step{{Sleep: s.onTerm}}}}
	case s.onTerm < 0:
		out.On = map[int]fake.Script{term: {Steps: []fake.Step{{Sleep: forEver}}}}
	}
	if s.exec != nil {
		out.Exec = func(_ context.Context, cmd runner.ExecSpec) (runner.ExecResult, error) { return s.exec(cmd.Args) }
	}
	return out
}

// fakeRunner runs scripts, by the name of the container, and writes down what
// happens. The last of a container's scripts is repeated.
type fakeRunner struct {
	*fake.Runner
	mu      sync.Mutex
	scripts map[string][]script
	trace   []string // what happened, in order
	starts  map[string][]time.Time
	specs   []*runner.Spec
	ended   map[string]bool
	keep    bool    // Remove removes nothing
	errs    []error // of Remove
}

func newFakeRunner() *fakeRunner {
	f := &fakeRunner{scripts: map[string][]script{}, starts: map[string][]time.Time{}, ended: map[string]bool{}}
	f.Runner = fake.New(func(spec *runner.Spec) fake.Script { return f.script(spec).fake() })
	return f
}

func (f *fakeRunner) script(spec *runner.Spec) script {
	if list := f.scripts[spec.Container]; len(list) > 0 {
		return list[min(spec.Attempt, len(list)-1)]
	}
	return script{}
}

func (f *fakeRunner) traceLocked(format string, args ...any) {
	f.trace = append(f.trace, fmt.Sprintf(format, args...))
}

func (f *fakeRunner) Start(ctx context.Context, spec *runner.Spec) (runner.Status, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.specs = append(f.specs, spec)
	st, err := f.Runner.Start(ctx, spec)
	if err != nil {
		return st, err
	}
	f.traceLocked("start %s", spec.Container)
	f.starts[spec.Container] = append(f.starts[spec.Container], time.Now())
	if message := f.script(spec).message; message != "" {
		writeTestFile(spec.TerminationLog, message)
	}
	return st, nil
}

func (f *fakeRunner) Wait(ctx context.Context, id string) (runner.Status, error) {
	st, err := f.Runner.Wait(ctx, id)
	f.mu.Lock()
	defer f.mu.Unlock()
	if err == nil && !f.ended[id] {
		f.ended[id] = true
		f.traceLocked("end %s %d", st.Container, st.ExitCode)
	}
	return st, err
}

func (f *fakeRunner) Signal(ctx context.Context, id string, sig int) error {
	f.mu.Lock()
	f.traceLocked("signal %s %d", strings.Split(id, "_")[1], sig)
	f.mu.Unlock()
	return f.Runner.Signal(ctx, id, sig)
}

func (f *fakeRunner) Remove(ctx context.Context, id string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.keep {
		return errors.New("kept")
	}
	err := f.Runner.Remove(ctx, id)
	if err != nil {
		f.errs = append(f.errs, err)
	}
	return err
}

func (f *fakeRunner) RemovePod(ctx context.Context, uid string) error {
	f.mu.Lock()
	f.traceLocked("release")
	f.mu.Unlock()
	return f.Runner.RemovePod(ctx, uid)
}

func (f *fakeRunner) traced() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.trace)
}

// left is how many containers the runner has.
func (f *fakeRunner) left() int {
	list, _ := f.List(context.Background())
	return len(list)
}

// startedAfter returns the seconds between each start of a container and the one
// before.
func (f *fakeRunner) startedAfter(container string) (gaps []int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	list := f.starts[container]
	for i := 1; i < len(list); i++ {
		gaps = append(gaps, int(list[i].Sub(list[i-1]).Round(time.Second)/time.Second))
	}
	return gaps
}

// fakeImages has every image, unless it is told otherwise.
type fakeImages struct {
	mu       sync.Mutex
	errs     []*ImageError          // of the first calls
	fails    map[string]*ImageError // by what was asked for
	slow     func(req ImageRequest) // what a pull takes time with, if set
	image    Image
	users    map[string]runspec.User
	released []string
	reclaim  func() // what Reclaim does, if set
}

func (f *fakeImages) Ensure(ctx context.Context, req ImageRequest) (*Image, error) {
	if f.slow != nil {
		req.Pulling()
		f.slow(req)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.errs) > 0 {
		err := f.errs[0]
		f.errs = f.errs[1:]
		if err.Reason == ErrImagePull {
			req.Pulling()
		}
		return nil, err
	}
	if err := f.fails[req.Ref]; err != nil {
		return nil, &ImageError{Reason: err.Reason, Message: err.Message}
	}
	img := f.image
	img.Ref, img.ID = req.Ref, "sha256:1234"
	return &img, nil
}

func (f *fakeImages) set(fails map[string]*ImageError) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fails = fails
}

func (f *fakeImages) Place(_ *Image, path string) (string, error) { return path, nil }

func (f *fakeImages) LookupUser(ctx context.Context, img *Image, user string) (runspec.User, error) {
	if user == "" {
		return runspec.User{}, nil
	}
	if u, ok := f.users[user]; ok {
		return u, nil
	}
	n, err := strconv.Atoi(user)
	if err != nil {
		return runspec.User{}, fmt.Errorf("unable to find user %s: no matching entries in passwd file", user)
	}
	return runspec.User{UID: uint32(n)}, nil
}

func (f *fakeImages) Reclaim(context.Context) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.reclaim != nil {
		f.reclaim()
	}
	return nil
}

func (f *fakeImages) Release(uid string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.released = append(f.released, uid)
}

// fakeMachine has as much left as it is told.
type fakeMachine struct {
	mu    sync.Mutex
	seen  eviction.Observations
	first eviction.Observations // what is seen once, if set
	use   map[int]eviction.Use

	account func([]machine.Container) (machine.Usage, map[string]machine.Usage, error)
	asked   int // how often Account was called
}

func (f *fakeMachine) Account(list []machine.Container) (machine.Usage, map[string]machine.Usage, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked++
	return f.account(list)
}

func (f *fakeMachine) Observe() (eviction.Observations, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if first := f.first; first != nil {
		f.first = nil
		return first, nil
	}
	return maps.Clone(f.seen), nil
}

func (f *fakeMachine) Use([]int) map[int]eviction.Use {
	f.mu.Lock()
	defer f.mu.Unlock()
	return maps.Clone(f.use)
}

func (f *fakeMachine) Keep(ctx context.Context, _ []machine.Cap, _ func(string)) error {
	<-ctx.Done()
	return context.Cause(ctx)
}

// left says how much is left of something.
func (f *fakeMachine) left(s eviction.Signal, available, capacity int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.seen == nil {
		f.seen = eviction.Observations{}
	}
	f.seen[s] = eviction.Observation{Available: available, Capacity: capacity}
}

// bench is a node with everything around it made up.
type bench struct {
	*fakeClient
	t      testing.TB
	dir    string
	run    *fakeRunner
	images *fakeImages
	host   *fakeRunner
	device *fakeMachine
	health fakeHealth

	allocatable corev1.ResourceList // of the node; nil: nothing
	hand        LogHandler
	agent       *Agent
	stop        func()
}

// story runs f in a bubble, with a node on a bench.
func story(t *testing.T, f func(b *bench)) {
	t.Helper()
	t.Parallel()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, dir)
		b.boot()
		synctest.Wait()
		defer b.close()
		f(b)
	})
}

func newBench(t testing.TB, dir string) *bench {
	return &bench{fakeClient: newFakeClient(), t: t, dir: dir, run: newFakeRunner(), host: newFakeRunner(), images: &fakeImages{}, device: &fakeMachine{}}
}

// close stops the node and then what it runs: nothing may outlive a bubble.
func (b *bench) close() {
	b.stop()
	b.run.Lose()
	b.host.Lose()
	for _, err := range append(b.run.errs, b.host.errs...) {
		b.t.Errorf("Remove: %v", err)
	}
}

// boot starts the node.
func (b *bench) boot() {
	b.t.Helper()
	n, err := node.New(node.Config{
		Name: "n1", Addresses: []string{"192.0.2.1"}, API: b.fakeClient, Health: &b.health, Log: discard, Allocatable: b.allocatable,
	})
	if err != nil {
		b.t.Fatal(err)
	}
	a, err := New(Options{
		Node: n, Dir: b.dir, Addresses: []string{"192.0.2.1"},
		Client: b.fakeClient, Images: b.images, Class: runner.Sandbox,
		Runners: map[runner.Class]runner.Runner{runner.Sandbox: b.run, runner.Host: b.host},
		Machine: b.device, Eviction: eviction.Config{Thresholds: eviction.Defaults(), Transition: eviction.DefaultTransition},
		HandLog: b.hand, Log: discard,
	})
	if err != nil {
		b.t.Fatal(err)
	}
	b.agent = a
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		a.Run(ctx)
	}()
	b.stop = func() { cancel(); <-done }
}

// pod returns a pod with one container named "c", changed by edit.
func testPod(name string, edit func(*corev1.Pod)) *corev1.Pod {
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, UID: types.UID("uid-" + name), Generation: 1},
		Spec: corev1.PodSpec{
			NodeName: "n1", RestartPolicy: corev1.RestartPolicyNever,
			TerminationGracePeriodSeconds: ptr.To[int64](30),
			Containers:                    []corev1.Container{testContainer("c")},
		},
		Status: corev1.PodStatus{Phase: corev1.PodPending, Conditions: []corev1.PodCondition{
			{Type: corev1.PodScheduled, Status: corev1.ConditionTrue},
		}},
	}
	if edit != nil {
		edit(pod)
	}
	return pod
}

func testContainer(name string) corev1.Container {
	return corev1.Container{
		Name: name, Image: "busybox:1", ImagePullPolicy: corev1.PullIfNotPresent, Command: []string{"do", name},
		TerminationMessagePath: "/dev/termination-log", TerminationMessagePolicy: corev1.TerminationMessageReadFile,
	}
}

func sidecar(name string) corev1.Container {
	c := testContainer(name)
	c.RestartPolicy = ptr.To(corev1.ContainerRestartPolicyAlways)
	return c
}

// after lets the bubble's clock run on.
func after(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func state(s *corev1.PodStatus, name string) *corev1.ContainerStatus {
	for _, list := range [][]corev1.ContainerStatus{s.InitContainerStatuses, s.ContainerStatuses, s.EphemeralContainerStatuses} {
		for i := range list {
			if list[i].Name == name {
				return &list[i]
			}
		}
	}
	return nil
}

// brief prints a container's state in a word or two.
func brief(c *corev1.ContainerStatus) string {
	switch {
	case c == nil:
		return "none"
	case c.State.Running != nil:
		return fmt.Sprintf("running ready=%v restarts=%d", c.Ready, c.RestartCount)
	case c.State.Terminated != nil:
		return fmt.Sprintf("ended %d %s restarts=%d", c.State.Terminated.ExitCode, c.State.Terminated.Reason, c.RestartCount)
	}
	return fmt.Sprintf("waiting %s restarts=%d", c.State.Waiting.Reason, c.RestartCount)
}

func (b *bench) want(name string, phase corev1.PodPhase, containers ...string) {
	b.t.Helper()
	pod := b.get(name)
	if pod == nil {
		b.t.Fatalf("pod %s is gone", name)
	}
	if pod.Status.Phase != phase {
		b.t.Fatalf("phase: got %s, want %s; %+v", pod.Status.Phase, phase, pod.Status)
	}
	for i := 0; i < len(containers); i += 2 {
		if got := brief(state(&pod.Status, containers[i])); got != containers[i+1] {
			b.t.Fatalf("container %s: got %q, want %q", containers[i], got, containers[i+1])
		}
	}
}

// wantEvents checks that these events were recorded, in this order, among
// others.
func (b *bench) wantEvents(want ...string) {
	b.t.Helper()
	got := b.events()
	rest := got
	for _, w := range want {
		i := slices.Index(rest, w)
		if i < 0 {
			b.t.Fatalf("no event %q in its place among %q", w, got)
		}
		rest = rest[i+1:]
	}
}

func condition(pod *corev1.Pod, kind corev1.PodConditionType) string {
	for _, c := range pod.Status.Conditions {
		if c.Type == kind {
			return strings.TrimSpace(fmt.Sprintf("%s %s %s", c.Status, c.Reason, c.Message))
		}
	}
	return "none"
}
