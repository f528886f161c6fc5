package kubediff

import (
	"context"
	"fmt"
	"iter"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/kubernetes/pkg/controller/podautoscaler"
	metricsclient "k8s.io/kubernetes/pkg/controller/podautoscaler/metrics"
	metricsv1beta1 "k8s.io/metrics/pkg/apis/metrics/v1beta1"
	"k8s.io/utils/ptr"

	"github.com/sampan-batch/sampan/internal/autoscale"
	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/kind"
)

// measured answers Kubernetes' calculator with what our core is given.
type measured struct {
	metricsclient.MetricsClient
	pods []metricsv1beta1.PodMetrics
}

func (m measured) GetResourceMetric(_ context.Context, name corev1.ResourceName, _ string, _ labels.Selector, _ string) (metricsclient.PodMetricsInfo, time.Time, error) {
	if len(m.pods) == 0 {
		return nil, time.Time{}, fmt.Errorf("no metrics returned from resource metrics API")
	}
	info := metricsclient.PodMetricsInfo{}
	for _, p := range m.pods {
		q := p.Containers[0].Usage[name]
		info[p.Name] = metricsclient.PodMetric{Timestamp: p.Timestamp.Time, Window: p.Window.Duration, Value: q.MilliValue()}
	}
	return info, time.Time{}, nil
}

// crowd is a target with its pods.
type crowd struct {
	target *appsv1.Deployment
	pods   []*corev1.Pod
}

func (c crowd) Get(change.Key) (change.Object, bool) { return c.target, true }

func (c crowd) List(resource change.Resource, _ string) iter.Seq[change.Object] {
	return func(yield func(change.Object) bool) {
		for _, pod := range c.pods {
			if resource == kind.Pods && !yield(pod) {
				return
			}
		}
	}
}

// somePods returns pods in any state, and what is measured of them.
func somePods(rnd *rand.Rand, n int, now time.Time) (pods []*corev1.Pod, usage []metricsv1beta1.PodMetrics) {
	load := rnd.Int64N(2000)
	for i := range n {
		pod := &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: fmt.Sprint("p", i), Labels: map[string]string{"app": "d"}},
			Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{"cpu": *resource.NewMilliQuantity(1+rnd.Int64N(2000), resource.DecimalSI)}}}}},
			Status:     corev1.PodStatus{Phase: corev1.PodRunning, StartTime: &metav1.Time{Time: now.Add(-time.Duration(rnd.IntN(600)) * time.Second)}},
		}
		if rnd.IntN(4) > 0 {
			pod.Status.StartTime = &metav1.Time{Time: now.Add(-time.Hour)}
		}
		ready := corev1.PodCondition{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(pod.Status.StartTime.Add(time.Duration(rnd.IntN(60)) * time.Second))}
		switch rnd.IntN(12) {
		case 0:
			ready.Status = corev1.ConditionFalse
		case 1:
			pod.Status.Phase = corev1.PodPending
		case 2:
			pod.Status.Phase = corev1.PodFailed
		case 3:
			pod.DeletionTimestamp = &metav1.Time{Time: now}
		case 4:
			pod.Status.StartTime = nil
		}
		pod.Status.Conditions = []corev1.PodCondition{ready}
		pods = append(pods, pod)
		if rnd.IntN(8) > 0 {
			usage = append(usage, metricsv1beta1.PodMetrics{
				ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: pod.Name},
				Timestamp:  metav1.NewTime(now.Add(-time.Duration(rnd.IntN(20)) * time.Second)), Window: metav1.Duration{Duration: 15 * time.Second},
				Containers: []metricsv1beta1.ContainerMetrics{{Name: "c", Usage: corev1.ResourceList{"cpu": *resource.NewMilliQuantity(rnd.Int64N(load+1), resource.DecimalSI)}}},
			})
		}
	}
	return pods, usage
}

// TestAutoscale: as many replicas as Kubernetes' calculator finds, of pods in any state.
func TestAutoscale(t *testing.T) {
	t.Parallel()
	rows := kind.Builtin().All()
	synctest.Test(t, func(t *testing.T) {
		for seed := range uint64(20000) {
			rnd := rand.New(rand.NewPCG(seed, 0))
			now := time.Now()
			n := 1 + rnd.IntN(12)
			pods, usage := somePods(rnd, n, now)
			hpa, target := anAutoscaler(rnd, int32(n))
			want, failed := theirReplicas(t, hpa, pods, usage, int32(n))
			s := autoscale.Look(rows, crowd{target, pods}, hpa)
			s.Usage = autoscale.Usage{Pods: usage}
			set, _ := autoscale.Decide(now, s)
			got := int32(n)
			for _, w := range set.Writes {
				if d, ok := w.Object.(*appsv1.Deployment); ok {
					got = *d.Spec.Replicas
				}
			}
			if want = min(max(want, 1), hpa.Spec.MaxReplicas); failed != nil {
				want = int32(n)
			}
			if got != want {
				t.Fatalf("seed %d: %d replicas of %d, Kubernetes says %d, %v\nnotes %+v", seed, got, n, want, failed, set.Notes)
			}
		}
	})
}

// anAutoscaler returns one that nothing limits, and its target.
func anAutoscaler(rnd *rand.Rand, n int32) (*autoscalingv2.HorizontalPodAutoscaler, *appsv1.Deployment) {
	metric := autoscalingv2.MetricTarget{Type: autoscalingv2.UtilizationMetricType, AverageUtilization: ptr.To(1 + rnd.Int32N(200))}
	if rnd.IntN(2) == 0 {
		metric = autoscalingv2.MetricTarget{Type: autoscalingv2.AverageValueMetricType, AverageValue: resource.NewMilliQuantity(1+rnd.Int64N(1500), resource.DecimalSI)}
	}
	free := &autoscalingv2.HPAScalingRules{
		StabilizationWindowSeconds: ptr.To[int32](0), SelectPolicy: ptr.To(autoscalingv2.MaxChangePolicySelect), Tolerance: resource.NewQuantity(0, resource.DecimalSI),
		Policies: []autoscalingv2.HPAScalingPolicy{{Type: autoscalingv2.PodsScalingPolicy, Value: 1 << 30, PeriodSeconds: 15}},
	}
	hpa := &autoscalingv2.HorizontalPodAutoscaler{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "h"},
		Spec: autoscalingv2.HorizontalPodAutoscalerSpec{
			ScaleTargetRef: autoscalingv2.CrossVersionObjectReference{APIVersion: "apps/v1", Kind: "Deployment", Name: "d"},
			MaxReplicas:    1 << 20, Behavior: &autoscalingv2.HorizontalPodAutoscalerBehavior{ScaleUp: free, ScaleDown: free},
			Metrics: []autoscalingv2.MetricSpec{{Type: autoscalingv2.ResourceMetricSourceType, Resource: &autoscalingv2.ResourceMetricSource{Name: "cpu", Target: metric}}},
		},
	}
	return hpa, &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "d"},
		Spec:       appsv1.DeploymentSpec{Replicas: &n, Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "d"}}},
	}
}

// theirReplicas is what Kubernetes' calculator says.
func theirReplicas(t *testing.T, hpa *autoscalingv2.HorizontalPodAutoscaler, pods []*corev1.Pod, usage []metricsv1beta1.PodMetrics, n int32) (int32, error) {
	store := cache.NewIndexer(cache.MetaNamespaceKeyFunc, cache.Indexers{cache.NamespaceIndex: cache.MetaNamespaceIndexFunc})
	for _, pod := range pods {
		if err := store.Add(pod); err != nil {
			t.Fatal(err)
		}
	}
	c := podautoscaler.NewReplicaCalculator(measured{pods: usage}, corelisters.NewPodLister(store), 5*time.Minute, 30*time.Second)
	selector := labels.SelectorFromSet(labels.Set{"app": "d"})
	target := hpa.Spec.Metrics[0].Resource.Target
	if target.AverageValue != nil {
		replicas, _, _, err := c.GetRawResourceReplicas(t.Context(), n, target.AverageValue.MilliValue(), "cpu", podautoscaler.Tolerances{}, "default", selector, "")
		return replicas, err
	}
	replicas, _, _, _, err := c.GetResourceReplicas(t.Context(), n, *target.AverageUtilization, "cpu", podautoscaler.Tolerances{}, "default", selector, "")
	return replicas, err
}
