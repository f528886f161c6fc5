package control

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"github.com/sampan-batch/sampan/internal/address"
	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/endpoint"
	"github.com/sampan-batch/sampan/internal/kind"
	"github.com/sampan-batch/sampan/internal/quota"
	"github.com/sampan-batch/sampan/internal/store"
	"github.com/sampan-batch/sampan/internal/sweep"
)

// bundle is a store with the controllers at work on it, in a bubble of fake
// time.
type bundle struct {
	t     *testing.T
	kinds *kind.Kinds
	store *store.Store
	// volumes are the directories of claims.
	volumes *directories
}

// bubble runs test in fake time with everything running.
func bubble(t *testing.T, test func(b *bundle)) {
	t.Helper()
	judgedBubble(t, nil, test)
}

// judgedBubble is a bubble whose new objects are judged.
func judgedBubble(t *testing.T, admission Admission, test func(b *bundle)) {
	t.Helper()
	bubbleWith(t, admission, nil, test)
}

// bubbleWith is a bubble with others outside.
func bubbleWith(t *testing.T, admission Admission, others Others, test func(b *bundle)) {
	t.Helper()
	t.Parallel()
	path := filepath.Join(t.TempDir(), "store.db")
	synctest.Test(t, func(t *testing.T) {
		kinds := kind.Builtin()
		s, err := store.Open(store.Options{Path: path, Codec: kind.NewCodec(kinds), Index: kinds.Index, Account: store.InTurn(kind.NamespaceLifecycle, address.Account, quota.Account), Strict: true})
		if err != nil {
			t.Fatal(err)
		}
		log := slog.New(slog.DiscardHandler)
		recorder := NewRecorder(s, "node", log)
		b := &bundle{t: t, kinds: kinds, store: s, volumes: &directories{has: map[string]bool{}}}
		loop := New(Options{
			Source: FromStore(s), Kinds: kinds, Controllers: everybody(kinds, b.volumes.Dir(), others), Volumes: b.volumes, Recorder: recorder, Logger: log, Workers: 4, Admission: admission,
		})
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 2)
		go func() { done <- loop.Run(ctx) }()
		go func() { done <- recorder.Run(ctx) }()
		defer func() {
			stop()
			<-done
			<-done
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		}()
		test(b)
	})
}

// everybody is all controllers, with keys that do not sign, but say what of.
func everybody(kinds *kind.Kinds, volumes string, others Others) []Controller {
	return append(Controllers(kinds, sweep.Plan{}, endpoint.API{}, volumes, Nodes{}, others), Identities(kinds, sweep.Plan{RootCA: []byte("CA")}, Keys{
		Token: func(account *corev1.ServiceAccount, secret *corev1.Secret) (string, error) {
			return secret.Name + " of " + account.Name, nil
		},
	})...)
}

// settle lets everything come to rest, without waiting for wake-ups.
func (b *bundle) settle() {
	time.Sleep(2 * time.Second) // lets retries and the lazy flush pass too
	synctest.Wait()
}

func (b *bundle) create(obj change.Object) change.Object {
	b.t.Helper()
	k := b.kindOf(obj)
	obj.SetUID(types.UID(fmt.Sprintf("uid-%s-%s", k.Resource, obj.GetName())))
	obj.SetCreationTimestamp(metav1.NewTime(time.Now()))
	if k.Default != nil {
		k.Default(obj)
	}
	if k.Create.Prepare != nil {
		k.Create.Prepare(obj)
	}
	var set change.Set
	set.Create(k.KeyOf(obj), obj)
	return b.apply(set)
}

func (b *bundle) apply(set change.Set) change.Object {
	b.t.Helper()
	res, err := b.store.Apply(b.t.Context(), set)
	if err != nil {
		b.t.Fatal(err)
	}
	return res.Objects[0]
}

// update changes the object at key; it is read again while others write it.
func (b *bundle) update(key change.Key, edit func(change.Object)) {
	b.t.Helper()
	obj, ok := b.store.View().Get(key)
	if !ok {
		b.t.Fatalf("no %s", key)
	}
	next := obj.DeepCopyObject().(change.Object)
	edit(next)
	var set change.Set
	set.Writes = append(set.Writes, b.kindOf(next).Settle(change.Write{Op: change.Update, Key: key, Rev: change.RevOf(obj), Object: next}))
	b.apply(set)
}

func (b *bundle) kindOf(obj change.Object) *kind.Kind { return kindOf(b.t, b.kinds, obj) }

func kindOf(t *testing.T, kinds *kind.Kinds, obj change.Object) *kind.Kind {
	switch obj.(type) {
	case *corev1.Namespace:
		return kinds.ByResource(kind.Namespaces)
	case *corev1.Node:
		return kinds.ByResource(kind.Nodes)
	case *corev1.Pod:
		return kinds.ByResource(kind.Pods)
	case *corev1.Secret:
		return kinds.ByResource(kind.Secrets)
	case *corev1.ServiceAccount:
		return kinds.ByResource(kind.ServiceAccounts)
	case *batchv1.Job:
		return kinds.ByResource(kind.Jobs)
	case *batchv1.CronJob:
		return kinds.ByResource(kind.CronJobs)
	case *appsv1.Deployment:
		return kinds.ByResource(kind.Deployments)
	case *appsv1.ReplicaSet:
		return kinds.ByResource(kind.ReplicaSets)
	case *autoscalingv2.HorizontalPodAutoscaler:
		return kinds.ByResource(kind.HorizontalPodAutoscalers)
	case *corev1.ReplicationController:
		return kinds.ByResource(kind.ReplicationControllers)
	case *appsv1.StatefulSet:
		return kinds.ByResource(kind.StatefulSets)
	case *appsv1.DaemonSet:
		return kinds.ByResource(kind.DaemonSets)
	case *corev1.PersistentVolumeClaim:
		return kinds.ByResource(kind.PersistentVolumeClaims)
	case *storagev1.StorageClass:
		return kinds.ByResource(kind.StorageClasses)
	}
	t.Errorf("no kind for %T", obj)
	return nil
}

func (b *bundle) namespace(name string) {
	b.create(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}})
}

func (b *bundle) node(name string) {
	b.create(&corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Status: corev1.NodeStatus{
			Allocatable: corev1.ResourceList{corev1.ResourcePods: resource.MustParse("100"), corev1.ResourceCPU: resource.MustParse("2")},
			Conditions:  []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}},
		},
	})
}

func (b *bundle) pods(ns string) []*corev1.Pod {
	var all []*corev1.Pod
	for obj := range b.store.View().List("pods", ns) {
		all = append(all, obj.(*corev1.Pod))
	}
	return all
}

// end plays the node: it ends every active pod.
func (b *bundle) end(ns string, phase corev1.PodPhase) int {
	n := 0
	for _, pod := range b.pods(ns) {
		if pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed {
			continue
		}
		n++
		b.update(b.kinds.ByResource("pods").KeyOf(pod), func(obj change.Object) {
			obj.(*corev1.Pod).Status.Phase = phase
			if obj.GetDeletionTimestamp() != nil {
				obj.SetDeletionGracePeriodSeconds(ptr.To(int64(0)))
			}
		})
	}
	return n
}

func (b *bundle) reasons(name string) []string {
	var all []string
	for obj := range b.store.View().List("events", "") {
		if ev := obj.(*corev1.Event); ev.InvolvedObject.Name == name {
			all = append(all, ev.Reason)
		}
	}
	slices.Sort(all)
	return all
}

func newJob(name string, edit ...func(*batchv1.Job)) *batchv1.Job {
	j := &batchv1.Job{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name},
		Spec: batchv1.JobSpec{Template: corev1.PodTemplateSpec{Spec: corev1.PodSpec{
			RestartPolicy: corev1.RestartPolicyNever,
			Containers:    []corev1.Container{{Name: "c", Image: "i", Command: []string{"true"}}},
		}}},
	}
	for _, e := range edit {
		e(j)
	}
	return j
}

func TestAJobRunsToItsEnd(t *testing.T) {
	bubble(t, func(b *bundle) {
		t := b.t
		b.namespace("default")
		b.node("n")
		b.settle()
		job := b.create(newJob("j", func(j *batchv1.Job) { j.Spec.Completions, j.Spec.Parallelism = ptr.To(int32(3)), ptr.To(int32(2)) }))
		b.settle()
		pods := b.pods("default")
		if len(pods) != 2 {
			t.Fatalf("%d pods, want 2", len(pods))
		}
		for _, p := range pods {
			if p.Spec.NodeName != "n" || p.UID == "" || p.CreationTimestamp.IsZero() || p.Spec.ServiceAccountName != "default" {
				t.Errorf("pod %s: node %q uid %q created %v account %q", p.Name, p.Spec.NodeName, p.UID, p.CreationTimestamp, p.Spec.ServiceAccountName)
			}
			if want := []string{"Scheduled"}; !slices.Equal(b.reasons(p.Name), want) {
				t.Errorf("events of %s: %v, want %v", p.Name, b.reasons(p.Name), want)
			}
		}
		b.end("default", corev1.PodSucceeded)
		b.settle()
		if n := b.end("default", corev1.PodSucceeded); n != 1 {
			t.Fatalf("%d pods in the second round, want 1", n)
		}
		b.settle()
		obj, _ := b.store.View().Get(b.kinds.ByResource("jobs.batch").KeyOf(job))
		status := obj.(*batchv1.Job).Status
		if status.Succeeded != 3 || status.CompletionTime == nil || status.Active != 0 {
			t.Errorf("status %+v", status)
		}
		for _, p := range b.pods("default") {
			if len(p.Finalizers) > 0 {
				t.Errorf("pod %s keeps %v", p.Name, p.Finalizers)
			}
		}
		if want := []string{"Completed", "SuccessfulCreate", "SuccessfulCreate", "SuccessfulCreate"}; !slices.Equal(b.reasons("j"), want) {
			t.Errorf("events %v, want %v", b.reasons("j"), want)
		}
	})
}

func TestPodsWaitForANodeAndForRoom(t *testing.T) {
	bubble(t, func(b *bundle) {
		t := b.t
		b.namespace("default")
		b.create(newJob("j", func(j *batchv1.Job) {
			j.Spec.Completions, j.Spec.Parallelism = ptr.To(int32(2)), ptr.To(int32(2))
			j.Spec.Template.Spec.Containers[0].Resources.Requests = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("1500m")}
		}))
		b.settle()
		bound := func() (n int) {
			for _, p := range b.pods("default") {
				if p.Spec.NodeName != "" {
					n++
				}
			}
			return n
		}
		if bound() != 0 {
			t.Error("bound without a node")
		}
		b.node("n")
		b.settle()
		if bound() != 1 {
			t.Errorf("%d bound, want 1: two do not fit", bound())
		}
		for _, p := range b.pods("default") {
			if p.Spec.NodeName != "" {
				b.update(b.kinds.ByResource("pods").KeyOf(p), func(obj change.Object) { obj.(*corev1.Pod).Status.Phase = corev1.PodSucceeded })
			}
		}
		b.settle()
		if bound() != 2 {
			t.Errorf("%d bound after the first ended, want 2", bound())
		}
	})
}

// TestANodeUnderPressureIsGivenNoPods, and is given those that wait when it has enough
// again.
func TestANodeUnderPressureIsGivenNoPods(t *testing.T) {
	bubble(t, func(b *bundle) {
		t := b.t
		b.namespace("default")
		b.node("n")
		pressure := func(s corev1.ConditionStatus) {
			b.update(change.Key{Resource: "nodes", Name: "n"}, func(obj change.Object) {
				n := obj.(*corev1.Node)
				n.Status.Conditions = append(n.Status.Conditions[:1:1], corev1.NodeCondition{Type: corev1.NodeDiskPressure, Status: s})
			})
			b.settle()
		}
		taints := func() []corev1.Taint {
			obj, _ := b.store.View().Get(change.Key{Resource: "nodes", Name: "n"})
			return obj.(*corev1.Node).Spec.Taints
		}
		pressure(corev1.ConditionTrue)
		if want := []corev1.Taint{{Key: "node.kubernetes.io/disk-pressure", Effect: corev1.TaintEffectNoSchedule}}; !slices.Equal(taints(), want) {
			t.Errorf("taints %+v", taints())
		}
		b.create(newJob("j"))
		b.settle()
		pod := b.pods("default")[0]
		if got, want := pod.Status.Conditions[0].Message, "0/1 nodes are available: 1 node(s) had untolerated taint(s). "+
			"preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling."; got != want || pod.Spec.NodeName != "" {
			t.Errorf("bound to %q: %q", pod.Spec.NodeName, got)
		}
		pressure(corev1.ConditionFalse)
		if got := taints(); len(got) > 0 {
			t.Errorf("taints %+v", got)
		}
		if got := b.pods("default")[0].Spec.NodeName; got != "n" {
			t.Errorf("bound to %q", got)
		}
	})
}

// TestShare: what is bound without a look at other pods cannot overfill a node,
// whatever is decided at the same time.
func TestShare(t *testing.T) {
	t.Parallel()
	for capacity, want := range map[string]int{"110": 0, "10000": 62} {
		t.Run(capacity, func(t *testing.T) {
			bubble(t, func(b *bundle) {
				b.create(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n"}, Status: corev1.NodeStatus{
					Allocatable: corev1.ResourceList{corev1.ResourcePods: resource.MustParse(capacity)},
					Conditions:  []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}},
				}})
				k := b.kinds.ByResource(kind.Pods)
				var set change.Set
				for i := range 200 {
					pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: fmt.Sprint("p", i)}, Spec: newJob("x").Spec.Template.Spec}
					set.Create(k.KeyOf(pod), pod)
				}
				if err := completer(b.kinds, ownSteps())(b.t.Context(), "job", time.Now(), b.store.View(), change.Key{}, &set); err != nil {
					b.t.Fatal(err)
				}
				bound := 0
				for _, w := range set.Writes {
					if w.Object.(*corev1.Pod).Spec.NodeName == "n" {
						bound++
					}
				}
				if bound != want {
					t.Errorf("%d pods are bound at once, want %d", bound, want)
				}
			})
		})
	}
}

func TestAPodThatIsDeletedWithoutANodeIsReplaced(t *testing.T) {
	bubble(t, func(b *bundle) {
		t := b.t
		b.namespace("default")
		job := b.create(newJob("j", func(j *batchv1.Job) { j.Spec.PodReplacementPolicy = ptr.To(batchv1.Failed) }))
		b.settle()
		first := b.pods("default")[0]
		w, _ := b.kinds.ByResource(kind.Pods).Removal(first, change.RevOf(first), time.Now(), nil)
		b.apply(change.Set{Writes: []change.Write{w}})
		time.Sleep(15 * time.Second) // the back-off
		synctest.Wait()
		if all := b.pods("default"); len(all) != 1 || all[0].Name == first.Name {
			t.Errorf("%d pods, the first is still %s", len(all), all[0].Name)
		}
		obj, _ := b.store.View().Get(b.kinds.ByResource(kind.Jobs).KeyOf(job))
		if failed := obj.(*batchv1.Job).Status.Failed; failed != 1 {
			t.Errorf("%d failures are counted, want 1", failed)
		}
	})
}

// TestAStrayPodDoesNotMakeAJobForget: a Job that removes a pod which is not its
// own decides nothing else in that set; it has to look again.
func TestAStrayPodDoesNotMakeAJobForget(t *testing.T) {
	bubble(t, func(b *bundle) {
		t := b.t
		b.namespace("default")
		b.node("n")
		b.create(newJob("j", func(j *batchv1.Job) {
			j.Spec.CompletionMode = ptr.To(batchv1.IndexedCompletion)
			j.Spec.Completions, j.Spec.Parallelism = ptr.To(int32(2)), ptr.To(int32(2))
		}))
		b.settle()
		of := func(index string) *corev1.Pod {
			for _, pod := range b.pods("default") {
				if pod.Labels[batchv1.JobCompletionIndexAnnotation] == index && !kind.PodEnded(pod) {
					return pod
				}
			}
			return nil
		}
		b.update(b.kinds.ByResource(kind.Pods).KeyOf(of("0")), func(obj change.Object) { obj.(*corev1.Pod).Status.Phase = corev1.PodFailed })
		b.settle()
		second := of("1")
		b.create(&corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "stray", Labels: second.Labels, Annotations: second.Annotations},
			Spec:       newJob("x").Spec.Template.Spec,
		})
		time.Sleep(15 * time.Second) // the back-off
		synctest.Wait()
		if of("0") == nil {
			t.Error("the pod that failed is not replaced")
		}
	})
}

// TestClockSetBack: what waits for a time that is further away now is looked at
// when the clock is set, not when that time has come.
func TestClockSetBack(t *testing.T) {
	t.Parallel()
	dir := scratch(t)
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, dir)
		defer w.stop()
		w.make(&batchv1.CronJob{
			ObjectMeta: metav1.ObjectMeta{Namespace: theNamespace, Name: "c"},
			Spec:       batchv1.CronJobSpec{Schedule: "0 * * * *", JobTemplate: batchv1.JobTemplateSpec{Spec: newJob("x").Spec}},
		})
		time.Sleep(90 * time.Minute)
		w.jump(-24 * time.Hour)
		time.Sleep(time.Second)
		synctest.Wait()
		w.audit.mu.Lock()
		defer w.audit.mu.Unlock()
		if w.audit.reasons["ClockSetBack"] != 1 {
			t.Errorf("events %v, want one ClockSetBack", w.audit.reasons)
		}
	})
}

func TestDeadlineNeedsNobodyToLook(t *testing.T) {
	bubble(t, func(b *bundle) {
		t := b.t
		b.namespace("default")
		b.node("n")
		job := b.create(newJob("j", func(j *batchv1.Job) { j.Spec.ActiveDeadlineSeconds = ptr.To(int64(3600)) }))
		time.Sleep(59 * time.Minute)
		synctest.Wait()
		key := b.kinds.ByResource("jobs.batch").KeyOf(job)
		reason := func() string {
			obj, _ := b.store.View().Get(key)
			for _, c := range obj.(*batchv1.Job).Status.Conditions {
				if c.Type == batchv1.JobFailureTarget || c.Type == batchv1.JobFailed {
					return c.Reason
				}
			}
			return ""
		}
		if reason() != "" {
			t.Errorf("failed early: %s", reason())
		}
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if reason() != "DeadlineExceeded" {
			t.Errorf("reason %q after the deadline", reason())
		}
	})
}

func TestCronJobStartsAtItsSlots(t *testing.T) {
	bubble(t, func(b *bundle) {
		t := b.t
		b.namespace("default")
		b.node("n")
		b.create(&batchv1.CronJob{
			ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "c"},
			Spec: batchv1.CronJobSpec{
				Schedule: "0 * * * *", JobTemplate: batchv1.JobTemplateSpec{Spec: newJob("x").Spec},
			},
		})
		for hour := range 24 {
			time.Sleep(time.Until(time.Now().Truncate(time.Hour).Add(time.Hour)) + time.Second)
			synctest.Wait()
			if n := b.end("default", corev1.PodSucceeded); n != 1 {
				t.Fatalf("hour %d: %d pods, want 1", hour, n)
			}
			synctest.Wait()
		}
		if n := b.store.View().Len("jobs.batch"); n != 3 {
			t.Errorf("%d Jobs are kept, want 3", n)
		}
	})
}
