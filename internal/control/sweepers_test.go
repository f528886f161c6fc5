package control

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
	"k8s.io/utils/ptr"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/kind"
)

func TestDeletions(t *testing.T) {
	bubble(t, func(b *bundle) {
		t := b.t
		b.namespace("default")
		b.node("n")
		jobs := b.kinds.ByResource("jobs.batch")
		remove := func(name, finalizer string) {
			key := jobs.Key("default", name)
			obj, _ := b.store.View().Get(key)
			next := obj.DeepCopyObject().(change.Object)
			if finalizer != "" {
				next.SetFinalizers([]string{finalizer})
			}
			w, ok := jobs.Removal(next, change.RevOf(obj), time.Now(), nil)
			if !ok {
				t.Fatalf("no removal of %s", name)
			}
			b.apply(change.Set{Writes: []change.Write{w}})
		}
		left := func(name string) (job bool, pods int) {
			_, job = b.store.View().Get(jobs.Key("default", name))
			for _, p := range b.pods("default") {
				if p.Labels["job-name"] == name {
					pods++
				}
			}
			return job, pods
		}
		for name, finalizer := range map[string]string{"back": "", "fore": metav1.FinalizerDeleteDependents, "orph": metav1.FinalizerOrphanDependents} {
			b.create(newJob(name))
			b.settle()
			remove(name, finalizer)
			b.settle()
			job, pods := left(name)
			if wantJob := name == "fore"; job != wantJob || pods != 1 {
				t.Errorf("%s, while its pod ends: job there %v, %d pods", name, job, pods)
			}
			b.end("default", corev1.PodSucceeded)
			b.settle()
			job, pods = left(name)
			if wantPods := map[bool]int{true: 1}[name == "orph"]; job || pods != wantPods {
				t.Errorf("%s, at the end: job there %v, %d pods, want %d", name, job, pods, wantPods)
			}
		}
	})
}

// TestPodsOfNoNode: a pod that is bound to a node that does not exist waits for it, and goes; its
// Job has counted it by then, and makes another. A node that comes back in time keeps its pods.
func TestPodsOfNoNode(t *testing.T) {
	bubble(t, func(b *bundle) {
		t := b.t
		b.namespace("default")
		b.node("n")
		bound := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "nowhere"}, Spec: corev1.PodSpec{NodeName: "never-was"}}
		b.create(bound)
		b.create(newJob("j"))
		b.settle()
		node := kind.Nodes.Key("", "n")
		first := b.pods("default")
		remove := func() {
			obj, _ := b.store.View().Get(node)
			var set change.Set
			set.Delete(node, change.RevOf(obj))
			b.apply(set)
		}
		remove()
		time.Sleep(30 * time.Second)
		b.node("n")
		time.Sleep(5 * time.Second)
		if pods := b.pods("default"); len(pods) != len(first) {
			t.Errorf("before the time: %d pods of %d", len(pods), len(first))
		}
		time.Sleep(10 * time.Second)
		pods := b.pods("default")
		if len(pods) != 1 || pods[0].Labels["job-name"] != "j" || pods[0].UID == bound.UID {
			t.Errorf("when the time of one is over: %d pods", len(pods))
		}
		remove()
		time.Sleep(time.Minute)
		b.settle()
		obj, _ := b.store.View().Get(b.kinds.ByResource(kind.Jobs).Key("default", "j"))
		if s := obj.(*batchv1.Job).Status; s.Failed != 1 || s.Active != 1 {
			t.Errorf("the Job: %+v", s)
		}
		for _, p := range b.pods("default") {
			if p.Spec.NodeName != "" {
				t.Errorf("%s is still there", p.Name)
			}
		}
	})
}

func TestAPodWithoutAJobIsFreed(t *testing.T) {
	bubble(t, func(b *bundle) {
		b.namespace("default")
		b.create(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "p", Finalizers: []string{batchv1.JobTrackingFinalizer}}})
		b.settle()
		pod := b.pods("default")[0]
		if len(pod.Finalizers) > 0 {
			b.t.Errorf("created with the finalizer of Jobs, it keeps %v", pod.Finalizers)
		}
		b.update(b.kinds.ByResource("pods").KeyOf(pod), func(obj change.Object) { obj.SetFinalizers([]string{batchv1.JobTrackingFinalizer}) })
		b.settle()
		if pod := b.pods("default")[0]; len(pod.Finalizers) > 0 {
			b.t.Errorf("given the finalizer of Jobs, it keeps %v", pod.Finalizers)
		}
	})
}

// A namespace goes with all that is in it: its pods first. What makes pods is there until they have ended, is
// refused others, and nobody is told of that.
func TestNamespaceGoesWithItsContents(t *testing.T) {
	bubble(t, func(b *bundle) {
		t := b.t
		b.namespace("default")
		b.node("n")
		b.settle()
		if _, ok := b.store.View().Get(change.Key{Resource: "serviceaccounts", Namespace: "default", Name: "default"}); !ok {
			t.Error("the namespace has no default service account")
		}
		b.create(newJob("j"))
		b.create(&appsv1.ReplicaSet{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "r"}, Spec: appsv1.ReplicaSetSpec{
			Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "r"}},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": "r"}}, Spec: newJob("r").Spec.Template.Spec},
		}})
		b.settle()
		pods := b.pods("default")
		if len(pods) != 2 {
			t.Fatalf("there are %d pods", len(pods))
		}
		key := change.Key{Resource: "namespaces", Name: "default"}
		obj, _ := b.store.View().Get(key)
		w, _ := b.kinds.ByResource("namespaces").Removal(obj, change.RevOf(obj), time.Now(), nil)
		b.apply(change.Set{Writes: []change.Write{w}})
		b.settle()
		b.update(kind.Pods.Key("default", pods[0].Name), func(obj change.Object) {
			obj.(*corev1.Pod).Status.Phase = corev1.PodFailed
			obj.SetDeletionGracePeriodSeconds(ptr.To[int64](0))
		})
		time.Sleep(time.Minute) // whoever tries again has done so
		for _, left := range b.pods("default") {
			if left.Name != pods[1].Name || left.DeletionTimestamp == nil {
				t.Errorf("there is the pod %s", left.Name)
			}
		}
		for _, key := range []change.Key{kind.Jobs.Key("default", "j"), kind.ReplicaSets.Key("default", "r")} {
			if obj, ok := b.store.View().Get(key); !ok || obj.GetDeletionTimestamp() != nil {
				t.Errorf("while there are pods: %s is %v", key, obj)
			}
		}
		set, _ := b.store.View().Get(kind.ReplicaSets.Key("default", "r"))
		if said := set.(*appsv1.ReplicaSet).Status.Conditions; len(said) > 0 {
			t.Errorf("the ReplicaSet says %+v", said)
		}
		for obj := range b.store.View().List(kind.Events, "") {
			if ev := obj.(*corev1.Event); strings.HasPrefix(ev.Reason, "FailedCreate") {
				t.Errorf("%s was told of: %s", ev.InvolvedObject.Name, ev.Message)
			}
		}
		b.end("default", corev1.PodFailed)
		b.settle()
		if _, ok := b.store.View().Get(key); ok {
			t.Errorf("the namespace is still there, with %d pods", len(b.pods("default")))
		}
	})
}

// servers are Others of a test: what they keep, and why that is not known.
type servers struct {
	mu    sync.Mutex
	fails string
	left  int
	asked int
	hangs chan struct{} // nil: they answer
}

func (s *servers) Undiscovered() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.fails
}

func (s *servers) Empty(ctx context.Context, _ string) (map[change.Resource][][]string, []string) {
	s.mu.Lock()
	s.asked++
	left := map[change.Resource][][]string{}
	for range s.left {
		left["boats.example.com"] = append(left["boats.example.com"], []string{"example.com/anchor"})
	}
	hangs := s.hangs
	s.mu.Unlock()
	if hangs != nil {
		select {
		case <-hangs:
		case <-ctx.Done():
		}
	}
	return left, nil
}

func (s *servers) set(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
}

// A namespace goes when other servers have nothing of it any more. They are asked when there are any, when
// its pods have gone, and again and again; while they do not answer, others are decided.
func TestNamespaceWaitsForOthers(t *testing.T) {
	s := &servers{}
	bubbleWith(t, nil, s, func(b *bundle) {
		t := b.t
		b.node("n")
		remove := func(name string) {
			key := kind.Namespaces.Key("", name)
			obj, _ := b.store.View().Get(key)
			w, _ := b.kinds.ByResource(kind.Namespaces).Removal(obj, change.RevOf(obj), time.Now(), nil)
			b.apply(change.Set{Writes: []change.Write{w}})
			b.settle()
		}
		said := func(name string) string {
			obj, ok := b.store.View().Get(kind.Namespaces.Key("", name))
			if !ok {
				return "gone"
			}
			for _, c := range obj.(*corev1.Namespace).Status.Conditions {
				if c.Status == corev1.ConditionTrue {
					return c.Message
				}
			}
			return "nothing"
		}
		b.namespace("early")
		remove("early")
		if said("early") != "gone" || s.asked != 0 {
			t.Errorf("without an APIService: %s, asked %d times", said("early"), s.asked)
		}

		b.namespace("default")
		var set change.Set
		set.Create(kind.APIServices.Key("", "v1.example.com"), &apiregistrationv1.APIService{
			ObjectMeta: metav1.ObjectMeta{Name: "v1.example.com"},
			Spec:       apiregistrationv1.APIServiceSpec{Group: "example.com", Version: "v1", Service: &apiregistrationv1.ServiceReference{Namespace: "default", Name: "s"}},
		})
		b.apply(set)
		b.create(newJob("j"))
		b.settle()
		s.set(func() { s.fails, s.left = "Discovery failed", 2 })
		remove("default")
		if said("default") != "Discovery failed" || s.asked != 0 {
			t.Errorf("while there are pods: %s, asked %d times", said("default"), s.asked)
		}
		b.end("default", corev1.PodFailed)
		b.settle()
		if said("default") != "Discovery failed" || s.asked == 0 {
			t.Errorf("before all is known: %s, asked %d times", said("default"), s.asked)
		}
		s.set(func() { s.fails = "" })
		time.Sleep(10 * time.Second)
		b.settle()
		if got := said("default"); got != "Some resources are remaining: boats.example.com has 2 resource instances" {
			t.Errorf("while something is left: %s", got)
		}
		s.set(func() { s.hangs = make(chan struct{}) })
		time.Sleep(10 * time.Second)
		b.namespace("other")
		b.create(&batchv1.Job{ObjectMeta: metav1.ObjectMeta{Namespace: "other", Name: "j"}, Spec: newJob("j").Spec})
		b.settle()
		if len(b.pods("other")) != 1 {
			t.Error("while they do not answer, a Job is not decided")
		}
		s.set(func() { close(s.hangs); s.hangs, s.left = nil, 0 })
		time.Sleep(10 * time.Second)
		b.settle()
		if got := said("default"); got != "gone" {
			t.Errorf("when nothing is left: %s", got)
		}
	})
}
