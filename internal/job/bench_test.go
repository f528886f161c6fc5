package job

import (
	"fmt"
	"strconv"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/kind"
)

// BenchmarkDecide is the price of one look at a Job with so many pods: when
// there is nothing to do, and when one pod has succeeded and is replaced.
func BenchmarkDecide(b *testing.B) {
	for _, mode := range []string{"plain", "indexed"} {
		for _, n := range []int{1, 100, 10000} {
			edits := []func(*batchv1.Job){pods(int32(n), int32(2*n)), started(int32(n))}
			if mode == "indexed" {
				edits = append(edits, indexedJob)
			}
			j := newJob(edits...)
			live := make([]*corev1.Pod, n)
			for i := range live {
				live[i] = indexPod(i)
			}
			s := state(j, live...)
			b.Run(fmt.Sprintf("idle/%s/pods=%d", mode, n), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if set := Decide(t0, s); !set.Empty() {
						b.Fatal(summary(set))
					}
				}
			})
			live[n/2] = indexPod(n/2, exited(0, 0))
			b.Run(fmt.Sprintf("one-ended/%s/pods=%d", mode, n), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if set := Decide(t0, s); len(set.Writes) != 3 {
						b.Fatal(summary(set))
					}
				}
			})
		}
	}
}

// BenchmarkOnePodJob is all the decisions of a Job of one pod: create it, see
// it run, count it.
func BenchmarkOnePodJob(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		fresh := newJob()
		set := Decide(t0, State{Job: fresh, PodKind: kind.Pod()})
		pod := set.Writes[0].Object.(*corev1.Pod)
		running := set.Writes[1].Object.(*batchv1.Job)
		running.ResourceVersion, pod.ResourceVersion = "12", "11"
		pod.Status.Phase = corev1.PodRunning
		s := State{Job: running, Pods: []*corev1.Pod{pod}, PodKind: kind.Pod()}
		Decide(t0, s)
		pod.Status.Phase = corev1.PodSucceeded
		if set = Decide(t0, s); len(set.Writes) != 2 {
			b.Fatal(summary(set))
		}
	}
}

// BenchmarkIndexes is one look at a Job of 100,000 indexes of which every other
// one has succeeded, the worst that status.completedIndexes can look like.
func BenchmarkIndexes(b *testing.B) {
	const n = 100_000
	for _, c := range []struct {
		name string
		step int32
		a, z int // two indexes that have not succeeded
	}{{"in-order", 1, n/2 + 1, n/2 + 3}, {"every-other", 2, n - 1, n - 3}} {
		var set Indexes
		for i := int32(0); i < n/2; i++ {
			set = append(set, span{i * c.step, i * c.step})
		}
		set = Indexes{}.union(set).union(Indexes{{0, 0}})
		j := newJob(indexedJob, pods(2, n), started(2), done(set.String(), ""))
		s := state(j, indexPod(c.a), indexPod(c.z, exited(0, 0)))
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			b.ReportMetric(float64(len(j.Status.CompletedIndexes)), "B-of-status")
			for b.Loop() {
				if set := Decide(t0, s); len(set.Writes) != 3 {
					b.Fatal(summary(set))
				}
			}
		})
	}
}

// BenchmarkBigJob lives through a whole Job of 10,000 pods, 100 at a time, with
// one look for every pod that ends.
func BenchmarkBigJob(b *testing.B) {
	for b.Loop() {
		const n = 10_000
		j := newJob(pods(100, n))
		live := make(map[change.Key]*corev1.Pod)
		rev, looks := uint64(100), 0
		for !finished(j) {
			var list []*corev1.Pod
			for _, pod := range live {
				list = append(list, pod)
			}
			set := Decide(t0.Add(time.Second), State{Job: j, Pods: list, PodKind: kind.Pod()})
			looks++
			for _, w := range set.Writes {
				rev++
				w.Object.SetResourceVersion(strconv.FormatUint(rev, 10))
				switch obj := w.Object.(type) {
				case *batchv1.Job:
					j = obj
				case *corev1.Pod:
					if w.Op == change.Create {
						obj.Name = fmt.Sprint(obj.GenerateName, rev)
						w.Key.Name = obj.Name
					}
					if live[w.Key] = obj; !inIndex(obj) {
						delete(live, w.Key)
					}
				}
			}
			for _, pod := range live {
				pod.Status.Phase = corev1.PodSucceeded
				break
			}
		}
		b.ReportMetric(float64(looks), "looks")
	}
}
