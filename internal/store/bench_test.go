package store

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sampan-batch/sampan/internal/change"
)

// protoCodec is what a real codec costs, without a scheme.
type protoCodec struct{}

func (protoCodec) Encode(obj change.Object) ([]byte, error) { return obj.(*corev1.Pod).Marshal() }

func (protoCodec) Knows(change.Resource) bool { return true }

func (protoCodec) Decode(_ change.Resource, data []byte) (change.Object, error) {
	obj := &corev1.Pod{}
	return obj, obj.Unmarshal(data)
}

// pod is an object of about 1.5 KB.
func pod(k change.Key, phase corev1.PodPhase) *corev1.Pod {
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: k.Namespace, Name: k.Name, Finalizers: []string{"batch.kubernetes.io/job-tracking"},
			Labels:          map[string]string{"job-name": k.Name, "controller-uid": k.Name},
			OwnerReferences: []metav1.OwnerReference{{Kind: "Job", Name: k.Name, UID: "0b0f6c0e-1f4a-4f0e-8f5e-" + "000000000000"}},
		},
		Spec: corev1.PodSpec{NodeName: "node", Containers: []corev1.Container{{
			Name: "main", Image: "registry.example/app:1", Command: []string{"sh", "-c", strings.Repeat("echo hello; ", 20)},
		}}},
		Status: corev1.PodStatus{Phase: phase, PodIP: "10.0.0.1"},
	}
	for i := range 10 {
		p.Spec.Containers[0].Env = append(p.Spec.Containers[0].Env, corev1.EnvVar{Name: fmt.Sprint("VARIABLE_", i), Value: strings.Repeat("x", 60)})
	}
	return p
}

func phaseIndex(_ change.Resource, obj change.Object) []string {
	p := obj.(*corev1.Pod)
	return []string{"node/" + p.Spec.NodeName, "phase/" + string(p.Status.Phase)}
}

func benchStore(b *testing.B, preload int) *Store {
	s, err := Open(Options{Path: filepath.Join(b.TempDir(), "store.db"), Codec: protoCodec{}, Index: phaseIndex})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { s.Close() })
	fillStore(b, s, preload)
	return s
}

func fillStore(b *testing.B, s *Store, n int) {
	for i := 0; i < n; {
		var set change.Set
		for ; len(set.Writes) < 500 && i < n; i++ {
			k := key("pods", fmt.Sprintf("stored-%08x", uint32(i)*2654435761))
			set.Create(k, pod(k, corev1.PodSucceeded))
		}
		if _, err := s.Apply(context.Background(), set); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkApply commits sets of one pod each: created, updated three times,
// deleted. One iteration is one set.
func BenchmarkApply(b *testing.B) {
	s := benchStore(b, 10000)
	for _, writers := range []int{1, 4, 16, 64} {
		b.Run(fmt.Sprint("writers=", writers), func(b *testing.B) { benchApply(b, s, writers, false) })
	}
	s.file.db.NoSync = true
	b.Run("volatile", func(b *testing.B) { benchApply(b, s, 4, false) })
	s.file.db.NoSync = false
	b.Run("lazy", func(b *testing.B) { benchApply(b, s, 4, true) })
	b.Run("lazy/watchers=10", func(b *testing.B) {
		ctx, cancel := context.WithCancel(context.Background())
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() { follow(ctx, s) })
		}
		benchApply(b, s, 4, true)
		cancel()
		wg.Wait()
	})
}

// BenchmarkApplyBesideCopy is Apply with 16 writers while one copy of 10,000
// pods after the other is encoded, as a backup does it.
func BenchmarkApplyBesideCopy(b *testing.B) {
	s := benchStore(b, 10000)
	stop, done := make(chan struct{}), make(chan struct{})
	copies := 0
	go func() {
		defer close(done)
		for ; ; copies++ {
			err := s.Copy().Each(func(Record) error {
				select {
				case <-stop:
					return ErrClosed
				default:
					return nil
				}
			})
			if err != nil {
				return
			}
		}
	}()
	benchApply(b, s, 16, false)
	b.ReportMetric(float64(copies)/b.Elapsed().Seconds(), "copies/s")
	close(stop)
	<-done
}

// follow reads every write, as fast as it can, and starts again when cut.
func follow(ctx context.Context, s *Store) {
	for ctx.Err() == nil {
		w, err := s.Watch("pods", s.View().Rev())
		for err == nil {
			_, _, err = w.Next(ctx)
		}
	}
}

func benchApply(b *testing.B, s *Store, writers int, lazy bool) {
	run := s.View().Rev() // tells the names of one run from those of another
	var left atomic.Int64
	left.Store(int64(b.N))
	b.ReportAllocs()
	b.ResetTimer()
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			var rev uint64
			var k change.Key
			for i := 0; left.Add(-1) >= 0; i++ {
				set := change.Set{Lazy: lazy}
				switch i % 5 { // an object that is left over at the end stays
				case 0:
					k = key("pods", fmt.Sprintf("pod-%08x-%d-%d", uint32(i)*2654435761, w, run))
					set.Create(k, pod(k, corev1.PodPending))
				case 4:
					set.Delete(k, rev)
				default:
					set.Update(k, rev, pod(k, corev1.PodRunning))
				}
				res, err := s.Apply(context.Background(), set)
				if err != nil {
					b.Error(err)
					return
				}
				rev = res.Rev
			}
		})
	}
	wg.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "sets/s")
}

// BenchmarkFsync is the machine's own limit, to read the others beside: 8 KiB
// written and synced, over and over.
func BenchmarkFsync(b *testing.B) {
	f, err := os.Create(filepath.Join(b.TempDir(), "file"))
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	buf := make([]byte, 8192)
	for i := 0; b.Loop(); i++ {
		if _, err := f.WriteAt(buf, int64(i%1000)*8192); err != nil {
			b.Fatal(err)
		}
		if err := syscall.Fdatasync(int(f.Fd())); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "syncs/s")
}

// BenchmarkOpen opens a store of 10,000 or 100,000 pods, and tells what it
// takes to hold them: Go's heap, and the part of the file that stays mapped.
func BenchmarkOpen(b *testing.B) {
	for _, n := range []int{10000, 100000} {
		b.Run(fmt.Sprint("objects=", n), func(b *testing.B) {
			s := benchStore(b, n)
			if err := s.Close(); err != nil {
				b.Fatal(err)
			}
			o := s.opts
			s = nil
			heap, mapped := memory(b)
			for b.Loop() {
				b.StopTimer()
				if s != nil {
					s.Close()
					s = nil
				}
				b.StartTimer()
				var err error
				if s, err = Open(o); err != nil {
					b.Fatal(err)
				}
			}
			heapNow, mappedNow := memory(b)
			s.Close()
			b.ReportMetric(float64(heapNow-heap)/float64(n), "heapB/object")
			b.ReportMetric(float64(mappedNow-mapped)/float64(n), "mappedB/object")
		})
	}
}

// memory returns the bytes of live heap and of resident mapped files.
func memory(b *testing.B) (heap, mapped int) {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		b.Skip(err)
	}
	_, line, _ := strings.Cut(string(status), "RssFile:")
	fmt.Sscan(line, &mapped)
	return int(m.HeapAlloc), mapped << 10
}
