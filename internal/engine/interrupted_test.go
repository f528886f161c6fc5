package engine

import (
	"fmt"
	"path/filepath"
	"testing"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/kind"
	"github.com/sampan-batch/sampan/internal/store"
)

// What a private engine left unfinished rests; what has ended stays as it is.
func TestInterrupted(t *testing.T) {
	t.Parallel()
	const many = 600 // more than one Set takes
	kinds := kind.Builtin()
	s, err := store.Open(store.Options{Path: filepath.Join(t.TempDir(), "store.db"), Codec: kind.NewCodec(kinds), Index: kinds.Index})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	meta := func(name string) metav1.ObjectMeta {
		return metav1.ObjectMeta{Namespace: "ns", Name: name, Generation: 1, Finalizers: []string{batchv1.JobTrackingFinalizer}}
	}
	var set change.Set
	job := func(name string, suspend bool, conditions ...batchv1.JobCondition) {
		set.Create(kind.Jobs.Key("ns", name), &batchv1.Job{
			ObjectMeta: meta(name), Spec: batchv1.JobSpec{Suspend: &suspend},
			Status: batchv1.JobStatus{Conditions: conditions, Succeeded: 3},
		})
	}
	pod := func(name string, phase corev1.PodPhase) {
		set.Create(kind.Pods.Key("ns", name), &corev1.Pod{ObjectMeta: meta(name), Status: corev1.PodStatus{Phase: phase}})
	}
	job("complete", false, batchv1.JobCondition{Type: batchv1.JobComplete, Status: corev1.ConditionTrue})
	job("rests", true)
	job("runs", false)
	pod("failed", corev1.PodFailed)
	pod("succeeded", corev1.PodSucceeded)
	for i := range many {
		pod(fmt.Sprint("running-", i), corev1.PodRunning)
		pod(fmt.Sprint("pending-", i), corev1.PodPending)
		job(fmt.Sprint("runs-", i), false)
	}
	if _, err := s.Apply(t.Context(), set); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time there is nothing to do
		if err := interrupted(t.Context(), s, kinds); err != nil {
			t.Fatal(err)
		}
		pods, jobs := "", map[string]int{}
		for obj := range s.View().List(kind.Pods, "") {
			pods += obj.GetName() + " "
		}
		for obj := range s.View().List(kind.Jobs, "") {
			j := obj.(*batchv1.Job)
			jobs[fmt.Sprint(ptr.Deref(j.Spec.Suspend, false), " ", j.Generation, " ", j.Status.Succeeded)]++
		}
		if want := "failed succeeded "; pods != want {
			t.Errorf("pods are %s, want %s", pods, want)
		}
		if got, want := fmt.Sprint(jobs), fmt.Sprintf("map[false 1 3:1 true 1 3:1 true 2 3:%d]", many+1); got != want {
			t.Errorf("Jobs (suspended, generation, succeeded) are %s, want %s", got, want)
		}
	}
}
