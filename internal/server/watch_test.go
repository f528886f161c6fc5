package server

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/tools/cache"
	"k8s.io/utils/ptr"

	"github.com/sampan-batch/sampan/internal/kind"
	"github.com/sampan-batch/sampan/internal/store"
)

// expect reads events and compares them, as "TYPE name key=value…".
func expect(t *testing.T, w watch.Interface, want ...string) (last string) {
	t.Helper()
	for _, want := range want {
		select {
		case e, ok := <-w.ResultChan():
			if !ok {
				t.Fatalf("the watch ended, want %q", want)
			}
			got := string(e.Type)
			switch obj := e.Object.(type) {
			case *corev1.ConfigMap:
				got, last = got+" "+obj.Name+" "+obj.Data["k"], obj.ResourceVersion
				if obj.Annotations[metav1.InitialEventsAnnotationKey] == "true" {
					got += " end"
				}
			case *metav1.Status:
				got += fmt.Sprintf(" %d %s %s", obj.Code, obj.Reason, obj.Message)
			}
			if strings.TrimSpace(got) != want {
				t.Fatalf("got %q, want %q", got, want)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("no event, want %q", want)
		}
	}
	return last
}

func TestWatch(t *testing.T) {
	t.Parallel()
	f := setup(t)
	cms := f.client.CoreV1().ConfigMaps("default")
	set := func(name, labels, value string) *corev1.ConfigMap {
		t.Helper()
		patch := fmt.Sprintf(`{"metadata":{"labels":{"l":%q}},"data":{"k":%q}}`, labels, value)
		cm, err := cms.Patch(t.Context(), name, types.MergePatchType, []byte(patch), metav1.PatchOptions{})
		if apierrors.IsNotFound(err) {
			cm, err = cms.Create(t.Context(), &corev1.ConfigMap{
				ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"l": labels}}, Data: map[string]string{"k": value}}, metav1.CreateOptions{})
		}
		if err != nil {
			t.Fatal(err)
		}
		return cm
	}
	open := func(o metav1.ListOptions) watch.Interface {
		t.Helper()
		w, err := cms.Watch(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(w.Stop)
		return w
	}
	first := set("a", "x", "1")

	plain := open(metav1.ListOptions{})
	expect(t, plain, "ADDED a 1")
	resumed := open(metav1.ListOptions{ResourceVersion: first.ResourceVersion})
	selected := open(metav1.ListOptions{ResourceVersion: first.ResourceVersion, LabelSelector: "l=x"})
	named := open(metav1.ListOptions{ResourceVersion: first.ResourceVersion, FieldSelector: "metadata.name=b"})
	later := open(metav1.ListOptions{SendInitialEvents: ptr.To(false), ResourceVersionMatch: "NotOlderThan", AllowWatchBookmarks: true})
	list := open(metav1.ListOptions{SendInitialEvents: ptr.To(true), ResourceVersionMatch: "NotOlderThan", AllowWatchBookmarks: true})
	inside := func(o metav1.ListOptions) watch.Interface { // without the API
		t.Helper()
		w, err := f.Server.Watch(t.Context(), kind.ConfigMaps, o)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(w.Stop)
		return w
	}
	insideAll := inside(metav1.ListOptions{ResourceVersion: first.ResourceVersion})
	insideNamed := inside(metav1.ListOptions{ResourceVersion: first.ResourceVersion, FieldSelector: "metadata.name=b"})
	expect(t, list, "ADDED a 1", "BOOKMARK   end")

	set("a", "x", "2")
	set("b", "y", "1")
	left := set("a", "y", "3") // leaves the selection
	set("a", "x", "4")         // and comes back
	if err := cms.Delete(t.Context(), "a", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	all := []string{"MODIFIED a 2", "ADDED b 1", "MODIFIED a 3", "MODIFIED a 4", "DELETED a 4"}
	for _, w := range []watch.Interface{plain, resumed, later, list, insideAll} {
		if last := expect(t, w, all...); last != strconv.FormatUint(f.store.View().Rev(), 10) {
			t.Errorf("the deletion is at %s, the store at %d", last, f.store.View().Rev())
		}
	}
	expect(t, named, "ADDED b 1")
	expect(t, insideNamed, "ADDED b 1")
	expect(t, selected, "MODIFIED a 2")
	if rev := expect(t, selected, "DELETED a 2"); rev != left.ResourceVersion {
		t.Errorf("left the selection at %s, not %s", rev, left.ResourceVersion)
	}
	expect(t, selected, "ADDED a 4", "DELETED a 4")
}

// A watch ends when it was told to; a bookmark before that says how far it got.
func TestWatchEnds(t *testing.T) {
	t.Parallel()
	f := setup(t)
	w, err := f.client.CoreV1().ConfigMaps("default").Watch(t.Context(), metav1.ListOptions{
		ResourceVersion: "1", TimeoutSeconds: ptr.To[int64](3), AllowWatchBookmarks: true})
	if err != nil {
		t.Fatal(err)
	}
	f.namespace(t, "x") // not what is watched, but the watch is past it
	if rev := expect(t, w, "BOOKMARK"); rev != "2" {
		t.Errorf("the bookmark is at %s", rev)
	}
	select {
	case e, ok := <-w.ResultChan():
		if ok {
			t.Errorf("got %v", e)
		}
	case <-time.After(10 * time.Second):
		t.Error("the watch does not end")
	}
	f.run(t, []probe{
		{name: "from the future", path: cms + "?watch=1&resourceVersion=999", code: 504, reason: "Timeout"},
		{name: "from nowhere", path: cms + "?watch=1&resourceVersion=x", code: 400, reason: "BadRequest"},
		{name: "initial events without match", path: cms + "?watch=1&sendInitialEvents=true", code: 422, reason: "Invalid"},
	})
}

func TestWatchGone(t *testing.T) {
	t.Parallel()
	f := setup(t, withRetain(t, 4))
	for i := range 10 {
		f.put(t, configMaps("default", fmt.Sprint(i))...)
	}
	w, err := f.client.CoreV1().ConfigMaps("default").Watch(t.Context(), metav1.ListOptions{ResourceVersion: "2"})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	expect(t, w, "ERROR 410 Expired too old resource version: 2 (11)")
}

// withRetain replaces the store by one that keeps few writes.
func withRetain(t *testing.T, retain int) func(*Options) {
	return func(o *Options) {
		kinds := o.Kinds
		st, err := store.Open(store.Options{Path: t.TempDir() + "/store.db", Codec: kind.NewCodec(kinds), Index: kinds.Index, Retain: retain})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { st.Close() })
		o.Store = st
	}
}

// Two watchers of the same objects share their encoding, in each form.
func TestWatchersShareEncodings(t *testing.T) {
	t.Parallel()
	f := setup(t)
	var watches []watch.Interface
	for range 3 {
		w, err := f.client.CoreV1().ConfigMaps("").Watch(t.Context(), metav1.ListOptions{ResourceVersion: "1"})
		if err != nil {
			t.Fatal(err)
		}
		defer w.Stop()
		watches = append(watches, w)
	}
	d, err := f.dynamic.Resource(corev1.SchemeGroupVersion.WithResource("configmaps")).Watch(t.Context(), metav1.ListOptions{ResourceVersion: "1"})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Stop()
	for i := range 300 { // more than the shared objects that are kept
		f.put(t, configMaps("default", fmt.Sprint(i))...)
	}
	for _, w := range watches {
		for i := range 300 {
			expect(t, w, fmt.Sprintf("ADDED %d", i))
		}
	}
	for i := range 300 {
		if e := <-d.ResultChan(); e.Type != watch.Added || !strings.Contains(fmt.Sprint(e.Object), fmt.Sprintf("name:%d ", i)) {
			t.Fatalf("got %v", e)
		}
	}
}

// client-go's informers work: list, watch-list, resume.
func TestInformer(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.put(t, configMaps("default", "a", "b")...)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	factory := informers.NewSharedInformerFactory(f.client, 0)
	informer := factory.Core().V1().ConfigMaps().Informer()
	added := make(chan string, 10)
	informer.AddEventHandler(cache.ResourceEventHandlerFuncs{AddFunc: func(obj any) { added <- obj.(*corev1.ConfigMap).Name }})
	factory.Start(ctx.Done())
	defer factory.Shutdown()
	defer cancel()
	if !cache.WaitForCacheSync(ctx.Done(), informer.HasSynced) {
		t.Fatal("no sync")
	}
	f.put(t, configMaps("default", "c")...)
	got := map[string]bool{}
	for range 3 {
		select {
		case name := <-added:
			got[name] = true
		case <-time.After(10 * time.Second):
			t.Fatal("no event")
		}
	}
	if !got["a"] || !got["b"] || !got["c"] {
		t.Errorf("got %v", got)
	}
}
