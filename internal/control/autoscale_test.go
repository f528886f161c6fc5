package control

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metricsv1beta1 "k8s.io/metrics/pkg/apis/metrics/v1beta1"
	"k8s.io/utils/ptr"

	"github.com/sampan-batch/sampan/internal/autoscale"
	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/kind"
)

// gauge is what measures the pods: each that runs uses so many thousandths of a processor.
type gauge struct {
	b     *bundle
	milli atomic.Int64
	asked atomic.Int64
	fails atomic.Bool
}

func (g *gauge) usage(ctx context.Context, namespace string) (list []metricsv1beta1.PodMetrics, err error) {
	g.asked.Add(1)
	select { // as long as a node takes that was not asked before
	case <-time.After(time.Second):
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	if g.fails.Load() {
		return nil, errors.New("the node is away")
	}
	for _, p := range g.b.pods(namespace) {
		list = append(list, metricsv1beta1.PodMetrics{
			ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: p.Name}, Timestamp: metav1.Now(), Window: metav1.Duration{Duration: time.Second},
			Containers: []metricsv1beta1.ContainerMetrics{{Name: "c", Usage: corev1.ResourceList{"cpu": *resource.NewMilliQuantity(g.milli.Load(), resource.DecimalSI)}}},
		})
	}
	return list, nil
}

// autoscaled runs a Deployment of 2 with an autoscaler, and has its pods ready as they come.
func autoscaled(t *testing.T, test func(b *bundle, g *gauge, size func() int32)) {
	bubble(t, func(b *bundle) {
		b.namespace("default")
		b.node("n")
		g := &gauge{b: b}
		g.milli.Store(500)
		recorder := NewRecorder(b.store, "node", slog.New(slog.DiscardHandler))
		scaler := NewAutoscaler(AutoscalerOptions{Store: b.store, Kinds: b.kinds, Usage: g.usage, Recorder: recorder, Logger: slog.New(slog.DiscardHandler)})
		ctx, stop := context.WithCancel(b.t.Context())
		done := make(chan error, 2)
		go func() { done <- scaler.Run(ctx) }()
		go func() { done <- recorder.Run(ctx) }()
		defer func() {
			stop()
			<-done
			<-done
		}()
		b.create(&appsv1.Deployment{
			ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "d"},
			Spec: appsv1.DeploymentSpec{
				Replicas: ptr.To[int32](2), Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "d"}},
				Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": "d"}}, Spec: corev1.PodSpec{
					Containers: []corev1.Container{{Name: "c", Image: "i", Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{"cpu": resource.MustParse("1")}}}},
				}},
			},
		})
		b.settle()
		b.ready()
		if g.asked.Load() > 0 {
			b.t.Error("somebody measures, and there is no autoscaler")
		}
		b.create(&autoscalingv2.HorizontalPodAutoscaler{
			ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "h"},
			Spec: autoscalingv2.HorizontalPodAutoscalerSpec{
				ScaleTargetRef: autoscalingv2.CrossVersionObjectReference{APIVersion: "apps/v1", Kind: "Deployment", Name: "d"}, MaxReplicas: 10,
				Metrics: []autoscalingv2.MetricSpec{{Type: autoscalingv2.ResourceMetricSourceType, Resource: &autoscalingv2.ResourceMetricSource{
					Name: "cpu", Target: autoscalingv2.MetricTarget{Type: autoscalingv2.UtilizationMetricType, AverageUtilization: ptr.To[int32](50)},
				}}},
			},
		})
		test(b, g, func() int32 {
			obj, _ := b.store.View().Get(kind.Deployments.Key("default", "d"))
			return *obj.(*appsv1.Deployment).Spec.Replicas
		})
	})
}

// ready has all pods run, since an hour ago.
func (b *bundle) ready() {
	long := metav1.NewTime(time.Now().Add(-time.Hour).Truncate(time.Second))
	for _, p := range b.pods("default") {
		b.update(kind.Pods.Key("default", p.Name), func(obj change.Object) {
			obj.(*corev1.Pod).Status = corev1.PodStatus{Phase: corev1.PodRunning, StartTime: &long, Conditions: []corev1.PodCondition{
				{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: long}}}
		})
	}
	b.settle()
}

// TestAutoscaler: a target grows at the next period, gets smaller five minutes after, and its
// autoscaler says so.
func TestAutoscaler(t *testing.T) {
	autoscaled(t, func(b *bundle, g *gauge, size func() int32) {
		t := b.t
		time.Sleep(3 * time.Second)
		if n := size(); n != 2 || g.asked.Load() != 1 {
			t.Errorf("a load as it should be: %d replicas, measured %d times", n, g.asked.Load())
		}
		g.milli.Store(1000)
		time.Sleep(autoscale.Period)
		if n := size(); n != 4 {
			t.Errorf("twice the load: %d replicas", n)
		}
		if said := b.said("h", "SuccessfulRescale"); !slices.Equal(said, []string{"New size: 4; reason: cpu resource utilization (percentage of request) above target"}) {
			t.Errorf("it said %q", said)
		}
		b.ready()
		g.milli.Store(1)
		time.Sleep(4 * time.Minute)
		if n := size(); n != 4 {
			t.Errorf("four minutes without load: %d replicas", n)
		}
		time.Sleep(time.Minute + 2*autoscale.Period)
		if n := size(); n != 1 {
			t.Errorf("more than five minutes without load: %d replicas", n)
		}
		g.fails.Store(true)
		time.Sleep(2 * autoscale.Period)
		if said := b.said("h", "FailedGetResourceMetric"); len(said) != 1 {
			t.Errorf("when nothing is measured, it says %q", said)
		}
	})
}

// TestAutoscalerAtOnce: a new spec is looked at at once, but not as often as somebody can write
// one; and one that is gone is forgotten.
func TestAutoscalerAtOnce(t *testing.T) {
	autoscaled(t, func(b *bundle, g *gauge, size func() int32) {
		t := b.t
		key := kind.HorizontalPodAutoscalers.Key("default", "h")
		time.Sleep(3 * time.Second)
		most := func(n int32) {
			b.update(key, func(obj change.Object) {
				h := obj.(*autoscalingv2.HorizontalPodAutoscaler)
				h.Spec.MaxReplicas = n
				h.Generation++
			})
		}
		most(1)
		time.Sleep(time.Second)
		if n := size(); n != 1 {
			t.Errorf("with another maximum: %d replicas", n)
		}
		before := g.asked.Load()
		for i := range 1000 {
			most(int32(2 + i%2))
			time.Sleep(time.Millisecond)
		}
		if n := g.asked.Load() - before; n > 3 {
			t.Errorf("measured %d times within a second", n)
		}
		time.Sleep(time.Second / 2) // it decides each second, and is not to write in this very moment
		obj, _ := b.store.View().Get(key)
		var set change.Set
		set.Delete(key, change.RevOf(obj))
		b.apply(set)
		time.Sleep(2 * time.Second)
		before = g.asked.Load()
		time.Sleep(time.Hour)
		if n := g.asked.Load() - before; n > 0 {
			t.Errorf("without an autoscaler, %s", fmt.Sprint(n, " measurements"))
		}
	})
}
