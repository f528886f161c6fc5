package board

import (
	"fmt"
	"slices"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

// ofIndex makes a pod one of an index.
func ofIndex(p *corev1.Pod, index int) *corev1.Pod {
	p.Annotations = map[string]string{batchv1.JobCompletionIndexAnnotation: fmt.Sprint(index)}
	return p
}

// What is told of a pod that has ended: when, how, for the how manieth time, and how much
// it wrote; once, and as soon as its log has ended.
func TestPodsEnded(t *testing.T) {
	t.Parallel()
	j := aJob("j", 2)
	b := New(t0, true)
	b.Add(t0, j)
	b.Pod(after(1), ofIndex(aPod(j, "j-1-a", "137"), 1), false)
	b.Pod(after(1.1), ofIndex(aPod(j, "j-0-a", "succeeded"), 0), false)
	if got := b.PodsEnded(after(1.2), false); len(got) > 0 {
		t.Errorf("before the log has ended: %+v", got[0])
	}
	b.Live("u-j-0-a", "main", 0, Life{Began: after(0.25), Ended: after(1.05)})
	if got := b.PodsEnded(after(1.2), false); len(got) > 0 {
		t.Errorf("before the one that ended first: %+v", got[0])
	}
	b.Live("u-j-1-a", "main", 0, Life{Began: after(0.125), Ended: after(0.9), Bytes: 7, Last: []string{"FATAL"}})
	got := b.PodsEnded(after(1.2), false)
	if len(got) != 2 || got[0].Name != "j-1-a" || got[1].Name != "j-0-a" {
		t.Fatalf("got %+v", got)
	}
	p := got[0]
	if ns, name := p.Work(); ns != "default" || name != "j" {
		t.Errorf("it belongs to %s/%s", ns, name)
	}
	if c := p.Containers[0]; *p.Index != 1 || p.Attempt != 1 || *p.ExitCode != 137 || c.Signal != 9 || c.OutputBytes != 7 ||
		!p.StartTime.Equal(ptr.To(metav1.NewMicroTime(after(0.125)))) || p.Seconds != 0.775 {
		t.Errorf("got %+v", p)
	}
	if again := b.PodsEnded(after(9), true); len(again) > 0 {
		t.Errorf("again: %+v", again[0])
	}

	// A second try, whose log nobody reads.
	b.Pod(after(2), ofIndex(aPod(j, "j-1-b", "succeeded"), 1), false)
	if got := b.PodsEnded(after(2.1), false); len(got) > 0 {
		t.Errorf("at once: %+v", got[0])
	}
	if got := b.PodsEnded(after(2.5), false); len(got) != 1 || got[0].Attempt != 2 || *got[0].ExitCode != 0 {
		t.Errorf("got %+v", got)
	}
}

// Tries are those of what has to be done: an index, or the one pod of a Job. Where any pod
// will do they are its own.
func TestAttempts(t *testing.T) {
	t.Parallel()
	restarted := func(p *corev1.Pod, times int32) *corev1.Pod {
		p.Status.ContainerStatuses[0].RestartCount = times
		return p
	}
	one, many, indexed := aJob("one", 1), aJob("many", 3), aJob("indexed", 3)
	b := New(t0, true)
	for _, j := range []*batchv1.Job{one, many, indexed} {
		b.Add(t0, j)
	}
	for _, c := range []struct {
		pod  *corev1.Pod
		want int
	}{
		{aPod(one, "one-a", "1"), 1},
		{aPod(one, "one-b", "1"), 2},
		{restarted(aPod(one, "one-c", "succeeded"), 2), 5},
		{aPod(many, "many-a", "1"), 1},
		{restarted(aPod(many, "many-b", "1"), 1), 2},
		{aPod(many, "many-c", "succeeded"), 1},
		{ofIndex(aPod(indexed, "indexed-0-a", "1"), 0), 1},
		{ofIndex(aPod(indexed, "indexed-2-a", "1"), 2), 1},
		{ofIndex(aPod(indexed, "indexed-0-b", "1"), 0), 2},
		{ofIndex(aPod(indexed, "indexed-1-a", "succeeded"), 1), 1},
	} {
		b.Pod(after(1), c.pod, false)
		if got := b.PodsEnded(after(1), true); len(got) != 1 || got[0].Attempt != c.want {
			t.Errorf("%s: got %+v, want try %d", c.pod.Name, got[0], c.want)
		}
	}
}

// Of a Job that was there before, an API lists the pods in the order of their names.
func TestResultsOfAJobThatWasThere(t *testing.T) {
	t.Parallel()
	j := aJob("j", 1)
	b := New(after(100), false)
	b.Add(t0, j)
	for i, name := range []string{"j-y", "j-z", "j-x"} {
		p := aPod(j, name, []string{"1", "succeeded", "1"}[i])
		at := &p.Status.ContainerStatuses[0].State.Terminated.FinishedAt
		*at = metav1.NewTime(after([]float64{20, 30, 10}[i]))
		b.Pod(after(101), p, false)
	}
	b.Job(after(30), ended(j, batchv1.JobComplete, "CompletionsReached"), false)
	r := b.Results(after(102))[0]
	var order []string
	for _, p := range r.Pods {
		order = append(order, fmt.Sprint(p.Name, " ", p.Attempt))
	}
	if want := []string{"j-x 1", "j-y 2", "j-z 3"}; !slices.Equal(order, want) {
		t.Errorf("got %q, want %q", order, want)
	}
	if r.Seconds != 30 || !r.StartTime.Time.Equal(t0) || !r.EndTime.Time.Equal(after(30)) {
		t.Errorf("got %+v", r)
	}
}

// Times have milliseconds where they were measured.
func TestTimesAreMeasured(t *testing.T) {
	t.Parallel()
	p := aPod(nil, "p", "running")
	b := New(t0, true)
	b.Add(after(0.1234), p)
	b.Pod(after(1), aPod(nil, "p", "succeeded"), false)
	b.Live("u-p", "main", 0, Life{Began: after(0.2), Ended: after(0.45)})
	r := b.Results(after(2))[0]
	for _, c := range []struct {
		what string
		got  time.Time
		want float64
	}{
		{"start", r.StartTime.Time, 0.123},
		{"end", r.EndTime.Time, 1},
		{"start of the pod", r.Pods[0].StartTime.Time, 0.2},
		{"end of the pod", r.Pods[0].EndTime.Time, 0.45},
		{"end of the container", r.Pods[0].Containers[0].EndTime.Time, 0.45},
	} {
		if !c.got.Equal(after(c.want)) {
			t.Errorf("%s: %s", c.what, c.got)
		}
	}
	if r.Seconds != 0.877 || r.Pods[0].Seconds != 0.25 {
		t.Errorf("got %+v", r)
	}
}
