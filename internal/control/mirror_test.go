package control

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/utils/ptr"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/kind"
	"github.com/sampan-batch/sampan/internal/server"
	"github.com/sampan-batch/sampan/internal/store"
)

// mirror is a Source that knows no store, only the API of a cluster: it has what list
// and watch tell it, and carries a set out write by write, in its order (ADR 8). It
// is a spike: for Jobs and their pods, and without a client's patience.
type mirror struct {
	kinds  *kind.Kinds
	client kubernetes.Interface
	// die is asked before every request that writes, and ends this shell if it says so.
	die func() bool

	mu      sync.Mutex
	objects shelf
	seen    map[change.Key]uint64 // the newest revision that the watch has told of
	events  []change.Event
	news    chan struct{} // closed at the next event
}

// clusterSteps is what is left to do where an API server does all of that for every
// client: names that derive from causes (see giveName).
func clusterSteps() []step { return []step{{name: "name", do: giveName}} }

var errDead = errors.New("the shell has died between two writes")

func newMirror(ctx context.Context, kinds *kind.Kinds, client kubernetes.Interface, die func() bool) (*mirror, error) {
	m := &mirror{kinds: kinds, client: client, die: die, objects: shelf{}, seen: make(map[change.Key]uint64), news: make(chan struct{})}
	var whole []cache.InformerSynced
	factory := informers.NewSharedInformerFactory(client, 0)
	for _, informer := range []cache.SharedIndexInformer{factory.Batch().V1().Jobs().Informer(), factory.Core().V1().Pods().Informer()} {
		told, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
			AddFunc:    func(obj any) { m.tell(change.Create, obj) },
			UpdateFunc: func(_, obj any) { m.tell(change.Update, obj) },
			DeleteFunc: func(obj any) { m.tell(change.Delete, obj) },
		})
		if err != nil {
			return nil, err
		}
		whole = append(whole, told.HasSynced)
	}
	factory.Start(ctx.Done())
	// The first decision must see all that there is: without the pods that its list
	// names, a Job would count them and forget that it has.
	if !cache.WaitForCacheSync(ctx.Done(), whole...) {
		return nil, errors.New("the API does not answer")
	}
	return m, nil
}

// tell takes what the watch says of an object.
func (m *mirror) tell(op change.Op, told any) {
	if gone, ok := told.(cache.DeletedFinalStateUnknown); ok {
		told = gone.Obj
	}
	obj := told.(change.Object)
	m.mu.Lock()
	defer m.mu.Unlock()
	key := kindOf(nil, m.kinds, obj).KeyOf(obj)
	ev := change.Event{Op: op, Key: key, Rev: change.RevOf(obj), Object: obj, Prev: m.objects[key]}
	if op == change.Delete {
		delete(m.objects, key)
	} else {
		m.objects[key] = obj
	}
	m.seen[key] = max(m.seen[key], ev.Rev)
	m.events = append(m.events, ev)
	close(m.news)
	m.news = make(chan struct{})
}

func (m *mirror) View() change.View {
	m.mu.Lock()
	defer m.mu.Unlock()
	return maps.Clone(m.objects)
}

func (m *mirror) Follow(ctx context.Context, look func(change.View, []change.Event)) error {
	look(m.View(), nil)
	for {
		m.mu.Lock()
		events, news := m.events, m.news
		m.events = nil
		m.mu.Unlock()
		if len(events) > 0 {
			look(m.View(), events)
			continue
		}
		select {
		case <-news:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Apply makes the writes of a set in their order, each on the condition that its
// object is as it was read, and returns when the watch has told of all of them: the
// next decision sees what this one has done. The guards of objects that are not
// written cannot be had.
func (m *mirror) Apply(ctx context.Context, set change.Set) error {
	for _, w := range set.Writes {
		rev, err := m.write(ctx, w)
		switch {
		case apierrors.IsConflict(err), apierrors.IsAlreadyExists(err), apierrors.IsNotFound(err):
			return fmt.Errorf("%w: %w", ErrConflict, err)
		case err != nil:
			return err
		}
		if err := m.await(ctx, w.Key, rev); err != nil {
			return err
		}
	}
	return nil
}

// await returns when the watch has told of a revision of an object.
func (m *mirror) await(ctx context.Context, key change.Key, rev uint64) error {
	for {
		m.mu.Lock()
		seen, news := m.seen[key], m.news
		m.mu.Unlock()
		if seen >= rev {
			return nil
		}
		select {
		case <-news:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// write makes one write, and returns the revision that it led to.
func (m *mirror) write(ctx context.Context, w change.Write) (uint64, error) {
	old, _ := m.View().Get(w.Key)
	switch next := w.Object.(type) {
	case *batchv1.Job:
		if m.die() {
			return 0, errDead
		}
		got, err := m.client.BatchV1().Jobs(next.Namespace).UpdateStatus(ctx, next, metav1.UpdateOptions{})
		return revision(got, err)
	case *corev1.Pod:
		if w.Op == change.Create {
			if m.die() {
				return 0, errDead
			}
			got, err := m.client.CoreV1().Pods(next.Namespace).Create(ctx, next, metav1.CreateOptions{})
			return revision(got, err)
		}
		if next.DeletionTimestamp == nil || old != nil && old.GetDeletionTimestamp() != nil {
			return m.put(ctx, next)
		}
		// It is released and deleted: two requests.
		return m.remove(ctx, next, next.DeletionGracePeriodSeconds)
	}
	pod := old.DeepCopyObject().(*corev1.Pod)
	pod.Finalizers = nil
	return m.remove(ctx, pod, ptr.To[int64](0))
}

func (m *mirror) put(ctx context.Context, pod *corev1.Pod) (uint64, error) {
	if m.die() {
		return 0, errDead
	}
	got, err := m.client.CoreV1().Pods(pod.Namespace).Update(ctx, pod, metav1.UpdateOptions{})
	return revision(got, err)
}

// remove releases a pod and deletes it. When the second request finds the pod gone,
// the first one was enough.
func (m *mirror) remove(ctx context.Context, pod *corev1.Pod, grace *int64) (uint64, error) {
	pod = pod.DeepCopy()
	pod.DeletionTimestamp, pod.DeletionGracePeriodSeconds = nil, nil
	rev, err := m.put(ctx, pod)
	if err != nil {
		return rev, err
	}
	if m.die() {
		return 0, errDead
	}
	err = m.client.CoreV1().Pods(pod.Namespace).Delete(ctx, pod.Name, metav1.DeleteOptions{
		GracePeriodSeconds: grace, Preconditions: &metav1.Preconditions{UID: &pod.UID},
	})
	if err != nil && !apierrors.IsNotFound(err) {
		return rev, err
	}
	return rev + 1, nil
}

func revision(obj metav1.Object, err error) (uint64, error) {
	if err != nil {
		return 0, err
	}
	return strconv.ParseUint(obj.GetResourceVersion(), 10, 64)
}

// cluster is our API server with nobody behind it but a node.
type cluster struct {
	t      *testing.T
	kinds  *kind.Kinds
	client *kubernetes.Clientset
}

func newCluster(t *testing.T) *cluster {
	kinds := kind.Builtin()
	dir := t.TempDir()
	s, err := store.Open(store.Options{Path: filepath.Join(dir, "store.db"), Codec: kind.NewCodec(kinds), Index: kinds.Index})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	api, err := server.New(server.Options{
		Store: s, Kinds: kinds, Listen: "127.0.0.1:0",
		CertDir: filepath.Join(dir, "pki"), Version: "0.0.1", Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	server.RouteKlog(slog.New(slog.DiscardHandler))
	ctx, stop := context.WithCancel(context.Background())
	stopped := make(chan error, 1)
	go func() { stopped <- api.Run(ctx) }()
	t.Cleanup(func() { stop(); <-stopped })
	<-api.Ready()
	c := &cluster{t: t, kinds: kinds, client: kubernetes.NewForConfigOrDie(api.LoopbackConfig())}
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "default"}}
	if _, err := c.client.CoreV1().Namespaces().Create(ctx, ns, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	go c.node(ctx)
	return c
}

// node ends every pod that has begun to run: the first of each Job fails, an hour ago,
// so that nobody has to wait for its back-off; the others succeed.
func (c *cluster) node(ctx context.Context) {
	failed := make(map[string]bool)
	wait.UntilWithContext(ctx, func(ctx context.Context) {
		list, err := c.client.CoreV1().Pods("default").List(ctx, metav1.ListOptions{})
		if err != nil {
			return
		}
		for i := range list.Items {
			pod := &list.Items[i]
			if pod.DeletionTimestamp != nil || kind.PodEnded(pod) {
				continue
			}
			end := corev1.ContainerStateTerminated{ExitCode: 0, FinishedAt: metav1.NewTime(time.Now().Add(-time.Hour))}
			pod.Status.Phase = corev1.PodSucceeded
			job := pod.Labels[batchv1.JobNameLabel]
			if !failed[job] {
				pod.Status.Phase, end.ExitCode = corev1.PodFailed, 1
			}
			pod.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "c", Image: "i", State: corev1.ContainerState{Terminated: &end}}}
			if _, err := c.client.CoreV1().Pods("default").UpdateStatus(ctx, pod, metav1.UpdateOptions{}); err == nil {
				failed[job] = true
			}
		}
	}, 5*time.Millisecond)
}

// run lets shells run a Job to its end: each may make so many writes, then it dies,
// and another takes its place; the last one lives. It returns how many died.
func (c *cluster) run(name string, writes []int) (deaths int) {
	t := c.t
	t.Helper()
	three := newJob(name, func(j *batchv1.Job) { j.Spec.Parallelism, j.Spec.Completions = ptr.To[int32](2), ptr.To[int32](3) })
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := c.client.BatchV1().Jobs("default").Create(ctx, three, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, may := range append(writes, 1000) {
		if c.life(ctx, name, may) {
			break
		}
		deaths++
	}
	j, err := c.client.BatchV1().Jobs("default").Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	u := j.Status.UncountedTerminatedPods
	if kind.JobCondition(&j.Status, batchv1.JobComplete) == nil || j.Status.Succeeded != 3 || j.Status.Failed != 1 || u != nil && len(u.Succeeded)+len(u.Failed) > 0 {
		t.Errorf("%s: %+v", name, j.Status)
	}
	list, err := c.client.CoreV1().Pods("default").List(ctx, metav1.ListOptions{LabelSelector: batchv1.JobNameLabel + "=" + name})
	if err != nil {
		t.Fatal(err)
	}
	if len(list.Items) != 4 {
		t.Errorf("%s: it has %d pods, want 4: three, and one in the place of that which failed", name, len(list.Items))
	}
	for i := range list.Items {
		if pod := &list.Items[i]; len(pod.Finalizers) > 0 {
			t.Errorf("%s: %s is not released", name, pod.Name)
		}
	}
	return deaths
}

// life is that of one shell, from its list to its death. It reports whether the Job
// has ended.
func (c *cluster) life(ctx context.Context, name string, may int) (over bool) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var mu sync.Mutex
	m, err := newMirror(ctx, c.kinds, c.client, func() bool {
		mu.Lock()
		defer mu.Unlock()
		if may--; may < 0 {
			cancel()
			return true
		}
		return false
	})
	if err != nil {
		c.t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	loop := New(Options{
		Source: m, Kinds: c.kinds, Controllers: []Controller{jobController(c.kinds, true)}, Recorder: NewRecorder(nil, "", log), Logger: log,
		Complete: completer(c.kinds, clusterSteps()),
	})
	done := make(chan error, 1)
	go func() { done <- loop.Run(ctx) }()
	key := c.kinds.ByResource(kind.Jobs).Key("default", name)
	for !over && ctx.Err() == nil {
		m.mu.Lock()
		news := m.news
		j, ok := m.objects[key].(*batchv1.Job)
		over = ok && kind.JobEnd(j) != nil
		m.mu.Unlock()
		if !over {
			select {
			case <-news:
			case <-ctx.Done():
			}
		}
	}
	cancel()
	<-done
	return over
}

// TestJobOverAMirror: the Job core decides over a mirror of a cluster as it does over
// our store, and comes to the same end, whichever two writes the shell dies between.
func TestJobOverAMirror(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	if deaths := c.run("lives", nil); deaths != 0 {
		t.Fatalf("it died %d times", deaths)
	}
	// A shell that dies after every single write.
	once := make([]int, 100)
	for i := range once {
		once[i] = 1
	}
	writes := c.run("dies-each-time", once)
	if writes < 11 { // four pods are created and released, and the Job is written
		t.Errorf("it died %d times only", writes)
	}
	// A shell that dies once, at each place in turn.
	for n := range writes {
		c.run(fmt.Sprintf("dies-after-%d", n), []int{n})
	}
}
