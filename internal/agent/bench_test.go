package agent

import (
	"context"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/sampan-batch/sampan/internal/agent/node"
	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/kind"
	"github.com/sampan-batch/sampan/internal/runner"
)

// instant is a runner whose containers end as soon as they are started.
type instant struct{ runner.Runner }

func (instant) Start(_ context.Context, spec *runner.Spec) (runner.Status, error) {
	now := time.Now()
	return runner.Status{ID: spec.ID, Phase: runner.Running, StartedAt: now}, nil
}

func (instant) Wait(_ context.Context, id string) (runner.Status, error) {
	now := time.Now()
	return runner.Status{ID: id, Phase: runner.Exited, StartedAt: now, FinishedAt: now}, nil
}

func (instant) List(context.Context) ([]runner.Status, error) { return nil, nil }
func (instant) Remove(context.Context, string) error          { return nil }
func (instant) Pods(context.Context) ([]string, error)        { return nil, nil }
func (instant) RemovePod(context.Context, string) error       { return nil }
func (instant) Signal(context.Context, string, int) error     { return nil }
func (instant) Losses(context.Context, func(runner.Status))   {}

// sink is an API that only takes statuses and says when they are final.
type sink struct {
	*fakeClient
	done sync.WaitGroup
	pods sync.Map
	hand chan PodChanges
}

func (s *sink) Record(...change.Note) {}

func (s *sink) WatchServices(ctx context.Context, deliver func([]*corev1.Service, []*discoveryv1.EndpointSlice, []string)) error {
	deliver(nil, nil, nil)
	<-ctx.Done()
	return context.Cause(ctx)
}

func (s *sink) WatchPods(ctx context.Context, _ string, deliver func(PodChanges)) error {
	deliver(PodChanges{All: true})
	for {
		select {
		case ch := <-s.hand:
			deliver(ch)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (s *sink) UpdatePodStatus(_ context.Context, ref runner.PodRef, status func(*corev1.Pod) corev1.PodStatus) (*corev1.Pod, error) {
	old, _ := s.pods.Load(types.UID(ref.UID))
	next := *old.(*corev1.Pod)
	next.Status = status(&next)
	if kind.PodEnded(&next) {
		s.done.Done()
	}
	return &next, nil
}

// BenchmarkShortPod is what the node itself costs for a pod of one container
// that ends at once: everything but the store and the process.
func BenchmarkShortPod(b *testing.B) {
	for name, class := range map[string]runner.Class{"sandbox": runner.Sandbox, "sandbox-memory": runner.Sandbox, "host": runner.Host} {
		b.Run(name, func(b *testing.B) {
			runDir := ""
			if name == "sandbox-memory" {
				dir, err := os.MkdirTemp("/dev/shm", "agent-bench")
				if err != nil {
					b.Skip(err)
				}
				defer os.RemoveAll(dir)
				runDir = dir
			}
			t := newBench(b, b.TempDir())
			client := &sink{fakeClient: t.fakeClient, hand: make(chan PodChanges)}
			n, err := node.New(node.Config{Name: "n1", API: client, Log: discard})
			if err != nil {
				b.Fatal(err)
			}
			a, err := New(Options{
				Node: n, Dir: t.dir, RunDir: runDir, Addresses: []string{"192.0.2.1"}, Client: client, Images: t.images, Class: class,
				Runners: map[runner.Class]runner.Runner{class: instant{}}, Log: discard,
			})
			if err != nil {
				b.Fatal(err)
			}
			ctx, cancel := context.WithCancel(context.Background())
			stopped := make(chan struct{})
			go func() { defer close(stopped); a.Run(ctx) }()
			b.ReportAllocs()
			b.ResetTimer()
			const group = 50
			for i := 0; i < b.N; i += group {
				var ch PodChanges
				for j := i; j < min(i+group, b.N); j++ {
					pod := testPod("p", func(p *corev1.Pod) { p.UID = types.UID(fmt.Sprintf("6f1ff5e2-3f0c-4d0e-9d43-%012d", j)) })
					client.pods.Store(pod.UID, pod)
					ch.Pods = append(ch.Pods, pod)
				}
				client.done.Add(len(ch.Pods))
				client.hand <- ch
				client.done.Wait()
			}
			b.StopTimer()
			cancel()
			<-stopped
		})
	}
}
