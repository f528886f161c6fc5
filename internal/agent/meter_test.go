package agent

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metricsv1beta1 "k8s.io/metrics/pkg/apis/metrics/v1beta1"

	"github.com/sampan-batch/sampan/internal/agent/machine"
)

// measurements prints what the node measures: "pod/container=cores,memory".
func (b *bench) measurements() string {
	b.t.Helper()
	node, pods, err := b.agent.Metrics(context.Background())
	if err != nil {
		return err.Error()
	}
	text := func(u corev1.ResourceList) string { return u.Cpu().String() + "," + u.Memory().String() }
	list := []string{fmt.Sprintf("%s=%s in %v", node.Name, text(node.Usage), node.Window.Duration)}
	for _, p := range pods {
		for _, c := range p.Containers {
			list = append(list, fmt.Sprintf("%s/%s=%s", p.Name, c.Name, text(c.Usage)))
		}
	}
	return strings.Join(list, " ")
}

func TestMetrics(t *testing.T) {
	story(t, func(b *bench) {
		began := time.Now()
		// The machine works a tenth of the time, container c half, d a quarter.
		b.device.account = func(list []machine.Container) (machine.Usage, map[string]machine.Usage, error) {
			now := time.Since(began)
			of := map[string]machine.Usage{}
			for _, c := range list {
				share := map[bool]time.Duration{true: 2, false: 4}[strings.Contains(c.ID, "_c_")]
				of[c.ID] = machine.Usage{CPU: now / share, Memory: 4096}
			}
			return machine.Usage{CPU: now / 10, Memory: 1 << 20}, of, nil
		}
		b.put(testPod("p", func(p *corev1.Pod) { p.Labels = map[string]string{"app": "x"} }))
		after(time.Hour)
		if b.device.asked != 0 {
			t.Errorf("measured %d times when nobody has asked", b.device.asked)
		}
		asked := time.Now()
		if got, want := b.measurements(), "n1=100m,1Mi in 1s p/c=500m,4Ki"; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
		if d := time.Since(asked); d != minWindow {
			t.Errorf("took %v", d)
		}
		after(time.Second / 2)
		count := b.device.asked
		if b.measurements(); b.device.asked != count {
			t.Error("measured again at once")
		}
		after(30*time.Second - time.Second/2)
		if got, want := b.measurements(), "n1=100m,1Mi in 30s p/c=500m,4Ki"; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
		_, pods, _ := b.agent.Metrics(context.Background())
		if p := pods[0]; p.Labels["app"] != "x" || p.Namespace != "ns" || p.Timestamp.Time != time.Now() {
			t.Errorf("got %+v", p)
		}
		// One that has begun since is measured from its beginning, and one that is over is not.
		b.device.account = func(list []machine.Container) (machine.Usage, map[string]machine.Usage, error) {
			of := map[string]machine.Usage{}
			for _, c := range list {
				of[c.ID] = machine.Usage{CPU: 2 * time.Second, Memory: 1}
			}
			return machine.Usage{}, of, nil
		}
		b.kill("p", 0)
		b.put(testPod("q", func(p *corev1.Pod) { p.Spec.Containers[0].Name = "d" }))
		after(4 * time.Second)
		if got, want := b.measurements(), "n1=0,0 in 4s q/d=500m,1"; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
		after(time.Hour)
		if got, want := b.measurements(), "n1=0,0 in 1s q/d=0,1"; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	})
}

// Many who ask at once are answered by one measurement; who leaves is not waited for.
func TestMetricsOfMany(t *testing.T) {
	story(t, func(b *bench) {
		b.device.account = func([]machine.Container) (machine.Usage, map[string]machine.Usage, error) {
			return machine.Usage{}, nil, nil
		}
		var all sync.WaitGroup
		for range 100 {
			all.Go(func() {
				if _, _, err := b.agent.Metrics(context.Background()); err != nil {
					t.Error(err)
				}
			})
		}
		ctx, cancel := context.WithTimeout(context.Background(), minWindow/2)
		defer cancel()
		if _, _, err := b.agent.Metrics(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		all.Wait()
		if b.device.asked > 3 {
			t.Errorf("measured %d times", b.device.asked)
		}
		after(2 * time.Minute)
		b.device.account = func([]machine.Container) (machine.Usage, map[string]machine.Usage, error) {
			return machine.Usage{}, nil, errors.New("no /proc")
		}
		if got := b.measurements(); got != "Internal error occurred: no /proc" {
			t.Errorf("got %s", got)
		}
		var list []metricsv1beta1.PodMetrics
		if _, list, _ = b.agent.Metrics(context.Background()); list != nil {
			t.Errorf("got %v", list)
		}
	})
}
