package autoscale

import (
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metricsv1beta1 "k8s.io/metrics/pkg/apis/metrics/v1beta1"
	"k8s.io/utils/ptr"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/kind"
)

var t0 = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

var rows = sync.OnceValue(func() []*kind.Kind { return kind.Builtin().All() })

// world is what is in the namespace.
type world map[change.Key]change.Object

func (w world) Get(key change.Key) (change.Object, bool) { obj, ok := w[key]; return obj, ok }

func (w world) List(resource change.Resource, _ string) iter.Seq[change.Object] {
	return func(yield func(change.Object) bool) {
		for _, key := range slices.SortedFunc(maps.Keys(w), func(a, b change.Key) int { return strings.Compare(a.Name, b.Name) }) {
			if key.Resource == resource && !yield(w[key]) {
				return
			}
		}
	}
}

// bundle is a Deployment with pods, an autoscaler for it, and a clock.
type bundle struct {
	world  world
	hpa    *autoscalingv2.HorizontalPodAutoscaler
	usage  Usage
	memory Memory
	now    time.Time
	notes  []change.Note
}

// setup makes n ready pods that request 1 processor each, of which they use so many thousandths.
func setup(n int32, used ...int64) *bundle {
	b := &bundle{world: world{}, now: t0}
	b.hpa = &autoscalingv2.HorizontalPodAutoscaler{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "h", ResourceVersion: "7", Generation: 2},
		Spec: autoscalingv2.HorizontalPodAutoscalerSpec{
			ScaleTargetRef: autoscalingv2.CrossVersionObjectReference{APIVersion: "apps/v1", Kind: "Deployment", Name: "d"},
			MinReplicas:    ptr.To[int32](1), MaxReplicas: 1000, Metrics: []autoscalingv2.MetricSpec{utilization("cpu", 50)},
		},
	}
	b.world[kind.HorizontalPodAutoscalers.Key("default", "h")] = b.hpa
	b.world[kind.Deployments.Key("default", "d")] = &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "d", ResourceVersion: "3", Generation: 1},
		Spec:       appsv1.DeploymentSpec{Replicas: &n, Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "d"}}},
		Status:     appsv1.DeploymentStatus{Replicas: n},
	}
	for i := range n {
		b.pod(i)
	}
	b.use(used...)
	return b
}

func (b *bundle) pod(i int32) *corev1.Pod {
	name := fmt.Sprint("p", i)
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, Labels: map[string]string{"app": "d"}},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{"cpu": resource.MustParse("1")}}}}},
		Status: corev1.PodStatus{
			Phase: corev1.PodRunning, StartTime: &metav1.Time{Time: t0.Add(-time.Hour)},
			Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(t0.Add(-time.Hour))}},
		},
	}
	b.world[kind.Pods.Key("default", name)] = pod
	return pod
}

// use says what the pods use, in thousandths of a processor; -1 is not known.
func (b *bundle) use(used ...int64) {
	b.usage.Pods = nil
	for i, milli := range used {
		if milli >= 0 {
			b.usage.Pods = append(b.usage.Pods, metricsv1beta1.PodMetrics{
				ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: fmt.Sprint("p", i)},
				Timestamp:  metav1.NewTime(b.now), Window: metav1.Duration{Duration: 15 * time.Second},
				Containers: []metricsv1beta1.ContainerMetrics{{Name: "c", Usage: corev1.ResourceList{"cpu": *resource.NewMilliQuantity(milli, resource.DecimalSI)}}},
			})
		}
	}
}

// all has every one of n pods use so much.
func (b *bundle) all(n int32, milli int64) {
	b.use(slices.Repeat([]int64{milli}, int(n))...)
}

func (b *bundle) deployment() *appsv1.Deployment {
	return b.world[kind.Deployments.Key("default", "d")].(*appsv1.Deployment)
}

// resize has as many pods as there are to be.
func (b *bundle) resize() {
	for key := range b.world {
		if key.Resource == kind.Pods {
			delete(b.world, key)
		}
	}
	for i := range *b.deployment().Spec.Replicas {
		b.pod(i)
	}
}

// decide decides once, and carries it out.
func (b *bundle) decide() (replicas int32) {
	s := Look(rows(), b.world, b.hpa)
	s.Usage, s.Memory = b.usage, b.memory
	set, memory := Decide(b.now, s)
	b.memory, b.notes = memory, set.Notes
	for _, w := range set.Writes {
		b.world[w.Key] = w.Object
		if w.Key.Resource == kind.HorizontalPodAutoscalers {
			b.hpa = w.Object.(*autoscalingv2.HorizontalPodAutoscaler)
		}
	}
	return *b.deployment().Spec.Replicas
}

func (b *bundle) condition(of autoscalingv2.HorizontalPodAutoscalerConditionType) string {
	for _, c := range b.hpa.Status.Conditions {
		if c.Type == of {
			return fmt.Sprintf("%s %s: %s", c.Status, c.Reason, c.Message)
		}
	}
	return ""
}

func utilization(name corev1.ResourceName, percent int32) autoscalingv2.MetricSpec {
	return autoscalingv2.MetricSpec{Type: autoscalingv2.ResourceMetricSourceType, Resource: &autoscalingv2.ResourceMetricSource{
		Name: name, Target: autoscalingv2.MetricTarget{Type: autoscalingv2.UtilizationMetricType, AverageUtilization: &percent},
	}}
}

func average(name corev1.ResourceName, value string) autoscalingv2.MetricSpec {
	return autoscalingv2.MetricSpec{Type: autoscalingv2.ResourceMetricSourceType, Resource: &autoscalingv2.ResourceMetricSource{
		Name: name, Target: autoscalingv2.MetricTarget{Type: autoscalingv2.AverageValueMetricType, AverageValue: ptr.To(resource.MustParse(value))},
	}}
}

// TestReplicas: how many replicas follow from what the pods use, at once and without limits.
func TestReplicas(t *testing.T) {
	t.Parallel()
	young := func(i int32) func(b *bundle) {
		return func(b *bundle) {
			pod := b.pod(i)
			pod.Status.StartTime = &metav1.Time{Time: t0.Add(-time.Minute)}
			pod.Status.Conditions[0].LastTransitionTime = metav1.NewTime(t0.Add(-10 * time.Second)) // less than a window
		}
	}
	for _, tc := range []struct {
		name string
		n    int32
		used []int64
		edit func(*bundle)
		want int32
		why  string // the SuccessfulRescale, or the metric's failure
	}{
		{name: "as it should be", n: 2, used: []int64{500, 500}, want: 2},
		{name: "within the tolerance", n: 10, used: slices.Repeat([]int64{549}, 10), want: 10},
		{name: "just out of it", n: 10, used: slices.Repeat([]int64{560}, 10), want: 12, why: "cpu resource utilization (percentage of request) above target"},
		{name: "twice as much", n: 3, used: []int64{1000, 1000, 1000}, want: 6, why: "above target"},
		{name: "less", n: 4, used: []int64{100, 100, 100, 100}, want: 1, why: "All metrics below target"},
		{name: "no more than the maximum", n: 3, used: []int64{1000, 1000, 1000}, edit: func(b *bundle) { b.hpa.Spec.MaxReplicas = 4 }, want: 4},
		{name: "no less than the minimum", n: 4, used: []int64{0, 0, 0, 0}, edit: func(b *bundle) { b.hpa.Spec.MinReplicas = ptr.To[int32](3) }, want: 3},
		{name: "above the maximum", n: 4, edit: func(b *bundle) { b.hpa.Spec.MaxReplicas = 2 }, want: 2, why: "Current number of replicas above Spec.MaxReplicas"},
		{name: "below the minimum", n: 1, edit: func(b *bundle) { b.hpa.Spec.MinReplicas = ptr.To[int32](2) }, want: 2, why: "Current number of replicas below Spec.MinReplicas"},
		{name: "of none", n: 0, want: 0},
		{name: "unknown ones use nothing when there are to be more", n: 3, used: []int64{900, 900, -1}, want: 4},
		{name: "and all when there are to be fewer", n: 4, used: []int64{100, 100, 100, -1}, want: 3},
		{name: "but not so much that it is the other way", n: 2, used: []int64{100, -1}, edit: func(b *bundle) { b.hpa.Spec.Metrics[0] = utilization("cpu", 20) }, want: 2},
		{name: "one that is starting does not count", n: 2, used: []int64{400, 900}, edit: young(1), want: 1},
		{name: "one that is starting uses nothing when there are to be more", n: 3, used: []int64{900, 900, 900}, edit: young(2), want: 4},
		{name: "nor one that waits", n: 2, used: []int64{200}, edit: func(b *bundle) { b.pod(1).Status.Phase = corev1.PodPending }, want: 1},
		{name: "nor one that goes", n: 2, used: []int64{250, 5000}, edit: func(b *bundle) { b.pod(1).DeletionTimestamp = &metav1.Time{} }, want: 1},
		{name: "nor one that has failed", n: 2, used: []int64{250, 5000}, edit: func(b *bundle) { b.pod(1).Status.Phase = corev1.PodFailed }, want: 1},
		{name: "one that was ready once does", n: 2, used: []int64{1000, 1000}, edit: func(b *bundle) {
			b.pod(1).Status.Conditions[0] = corev1.PodCondition{Type: corev1.PodReady, Status: corev1.ConditionFalse, LastTransitionTime: metav1.NewTime(t0.Add(-30 * time.Minute))}
		}, want: 4},
		{name: "one that never was does not", n: 2, used: []int64{1000, 1000}, edit: func(b *bundle) {
			b.pod(1).Status.Conditions[0] = corev1.PodCondition{Type: corev1.PodReady, Status: corev1.ConditionFalse, LastTransitionTime: metav1.NewTime(t0.Add(-time.Hour + time.Second))}
		}, want: 2},
		{name: "a value", n: 2, used: []int64{300, 300}, edit: func(b *bundle) { b.hpa.Spec.Metrics[0] = average("cpu", "100m") }, want: 6, why: "cpu resource above target"},
		{name: "a tiny value", n: 1, used: []int64{1e9}, edit: func(b *bundle) { b.hpa.Spec.Metrics[0], b.hpa.Spec.MaxReplicas = average("cpu", "1n"), 9 }, want: 9},
		{name: "the most of all metrics", n: 2, used: []int64{600, 600}, edit: func(b *bundle) {
			b.hpa.Spec.Metrics = append(b.hpa.Spec.Metrics, average("cpu", "200m"))
		}, want: 6},
		{name: "one container", n: 2, used: []int64{500, 500}, edit: func(b *bundle) {
			b.hpa.Spec.Metrics[0] = autoscalingv2.MetricSpec{Type: autoscalingv2.ContainerResourceMetricSourceType, ContainerResource: &autoscalingv2.ContainerResourceMetricSource{
				Name: "cpu", Container: "c", Target: utilization("cpu", 25).Resource.Target,
			}}
		}, want: 4, why: "cpu container resource utilization (percentage of request) above target"},
		{name: "of a container that is not there", n: 2, used: []int64{500, 500}, edit: func(b *bundle) {
			b.hpa.Spec.Metrics[0] = autoscalingv2.MetricSpec{Type: autoscalingv2.ContainerResourceMetricSourceType, ContainerResource: &autoscalingv2.ContainerResourceMetricSource{
				Name: "cpu", Container: "x", Target: utilization("cpu", 25).Resource.Target,
			}}
		}, want: 2, why: "invalid metrics (1 invalid out of 1), first error is: failed to get x container metric value: failed to get cpu utilization: did not receive metrics for targeted pods (pods might be unready)"},
		{name: "without a request", n: 1, used: []int64{500}, edit: func(b *bundle) { b.pod(0).Spec.Containers[0].Resources.Requests = nil }, want: 1,
			why: "invalid metrics (1 invalid out of 1), first error is: failed to get cpu resource metric value: failed to get cpu utilization: missing request for cpu in container c of Pod p0"},
		{name: "nothing measured", n: 1, want: 1, why: "failed to get cpu utilization: unable to get metrics for resource cpu: no metrics returned from resource metrics API"},
		{name: "no node that measures", n: 1, edit: func(b *bundle) { b.usage.Err = fmt.Errorf("the node is away") }, want: 1, why: "unable to fetch metrics from resource metrics API: the node is away"},
		{name: "more on what is known", n: 2, used: []int64{1000, 1000}, edit: func(b *bundle) {
			b.hpa.Spec.Metrics = append(b.hpa.Spec.Metrics, utilization("memory", 10))
		}, want: 4},
		{name: "but not less", n: 4, used: []int64{100, 100, 100, 100}, edit: func(b *bundle) {
			b.hpa.Spec.Metrics = append(b.hpa.Spec.Metrics, utilization("memory", 10))
		}, want: 4, why: "invalid metrics (1 invalid out of 2), first error is: failed to get memory resource metric value"},
		{name: "a custom metric", n: 1, edit: func(b *bundle) {
			b.hpa.Spec.Metrics[0] = autoscalingv2.MetricSpec{Type: autoscalingv2.PodsMetricSourceType, Pods: &autoscalingv2.PodsMetricSource{Metric: autoscalingv2.MetricIdentifier{Name: "qps"}}}
		}, want: 1, why: "failed to get pods metric value: unable to get metric qps: unable to fetch metrics from custom metrics API: no custom metrics API (custom.metrics.k8s.io) registered"},
		{name: "an external metric", n: 1, edit: func(b *bundle) {
			b.hpa.Spec.Metrics[0] = autoscalingv2.MetricSpec{Type: autoscalingv2.ExternalMetricSourceType, External: &autoscalingv2.ExternalMetricSource{Metric: autoscalingv2.MetricIdentifier{Name: "queue"}}}
		}, want: 1, why: "unable to get external metric default/queue/nil: unable to fetch metrics from external metrics API: the server could not find the requested resource (get queue.external.metrics.k8s.io)"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			b := setup(tc.n, tc.used...)
			b.hpa.Spec.Behavior = &autoscalingv2.HorizontalPodAutoscalerBehavior{ScaleUp: rules(0, "Max", percent(100000)), ScaleDown: rules(0, "Max", percent(100))}
			if tc.edit != nil {
				tc.edit(b)
			}
			if got := b.decide(); got != tc.want {
				t.Errorf("%d replicas, want %d", got, tc.want)
			}
			var said []string
			for _, n := range b.notes {
				said = append(said, n.Reason+": "+n.Message)
			}
			if tc.why != "" && !strings.Contains(strings.Join(said, "\n"), tc.why) {
				t.Errorf("it says\n%s\nand not\n%s", strings.Join(said, "\n"), tc.why)
			}
			if st := b.hpa.Status; st.CurrentReplicas != tc.n || *st.ObservedGeneration != 2 {
				t.Errorf("the status: %+v", st)
			}
		})
	}
}

func rules(window int32, choice autoscalingv2.ScalingPolicySelect, policies ...autoscalingv2.HPAScalingPolicy) *autoscalingv2.HPAScalingRules {
	return &autoscalingv2.HPAScalingRules{StabilizationWindowSeconds: &window, SelectPolicy: &choice, Policies: policies}
}

func percent(value int32) autoscalingv2.HPAScalingPolicy {
	return autoscalingv2.HPAScalingPolicy{Type: autoscalingv2.PercentScalingPolicy, Value: value, PeriodSeconds: 60}
}

func podsPolicy(value int32) autoscalingv2.HPAScalingPolicy {
	return autoscalingv2.HPAScalingPolicy{Type: autoscalingv2.PodsScalingPolicy, Value: value, PeriodSeconds: 60}
}

// TestLimits: how the size goes from period to period while the load is the same.
func TestLimits(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name     string
		n        int32
		milli    int64 // what each pod uses, until the third decision
		then     int64 // and from it on
		behavior *autoscalingv2.HorizontalPodAutoscalerBehavior
		want     []int32
		limited  string // ScalingLimited after the first decision
	}{
		{name: "at most twice as many, or four", n: 1, milli: 10000, then: 10000, want: []int32{4, 8, 16, 32},
			limited: "True ScaleUpLimit: the desired replica count is increasing faster than the maximum scale rate"},
		{name: "up at once, down after five minutes", n: 2, milli: 1000, then: 10, want: append([]int32{4, 8}, append(slices.Repeat([]int32{8}, 20), 1, 1)...),
			limited: "False DesiredWithinRange: the desired count is within the acceptable range"},
		{name: "two pods a minute", n: 1, milli: 10000, then: 10000, behavior: &autoscalingv2.HorizontalPodAutoscalerBehavior{ScaleUp: rules(0, "Max", podsPolicy(2)), ScaleDown: rules(0, "Max", percent(100))},
			want: []int32{3, 3, 3, 3, 5, 5, 5, 5, 7}, limited: "True ScaleUpLimit: the desired replica count is increasing faster than the maximum scale rate"},
		{name: "half a minute down", n: 16, milli: 1, then: 1, behavior: &autoscalingv2.HorizontalPodAutoscalerBehavior{ScaleUp: rules(0, "Max", percent(100)), ScaleDown: rules(0, "Max", percent(50))},
			want: []int32{8, 8, 8, 8, 4, 4, 4, 4, 2}, limited: "True ScaleDownLimit: the desired replica count is decreasing faster than the maximum scale rate"},
		{name: "the smaller of two policies", n: 10, milli: 10000, then: 10000, behavior: &autoscalingv2.HorizontalPodAutoscalerBehavior{ScaleUp: rules(0, "Min", podsPolicy(1), percent(100)), ScaleDown: rules(0, "Max", percent(50))},
			want: []int32{11, 11, 11, 11, 12}},
		{name: "never down", n: 8, milli: 1, then: 1, behavior: &autoscalingv2.HorizontalPodAutoscalerBehavior{ScaleUp: rules(0, "Max", percent(100)), ScaleDown: rules(0, "Disabled")},
			want: []int32{8, 8}, limited: "True ScaleDownLimit: the desired replica count is decreasing faster than the maximum scale rate"},
		{name: "up when it has lasted", n: 2, milli: 1000, then: 1000, behavior: &autoscalingv2.HorizontalPodAutoscalerBehavior{ScaleUp: rules(60, "Max", percent(1000)), ScaleDown: rules(0, "Max", percent(100))},
			want: []int32{2, 2, 2, 2, 4}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			b := setup(tc.n)
			b.hpa.Spec.Behavior = tc.behavior
			var got []int32
			for i := range tc.want {
				milli := tc.milli
				if i >= 2 {
					milli = tc.then
				}
				b.all(*b.deployment().Spec.Replicas, milli)
				got = append(got, b.decide())
				if limited := b.condition(autoscalingv2.ScalingLimited); i == 0 && tc.limited != "" && limited != tc.limited {
					t.Errorf("limited: %s, want %s", limited, tc.limited)
				}
				b.resize()
				b.now = b.now.Add(Period)
			}
			if !slices.Equal(got, tc.want) {
				t.Errorf("sizes %v, want %v", got, tc.want)
			}
		})
	}
}

// TestTargets: what cannot be scaled, and why.
func TestTargets(t *testing.T) {
	t.Parallel()
	able := func(why string) string {
		return "False FailedGetScale: the HPA controller was unable to get the target's current scale: " + why
	}
	for _, tc := range []struct {
		name         string
		edit         func(*bundle)
		able, active string
	}{
		{name: "nothing there", edit: func(b *bundle) { b.hpa.Spec.ScaleTargetRef.Name = "x" }, able: able(`deployments.apps "x" not found`)},
		{name: "no such kind", edit: func(b *bundle) { b.hpa.Spec.ScaleTargetRef.Kind = "Fleet" }, able: able(`no matches for kind "Fleet" in group "apps"`)},
		{name: "not to be scaled", edit: func(b *bundle) { b.hpa.Spec.ScaleTargetRef.Kind = "DaemonSet" }, able: able("the server could not find the requested resource")},
		{name: "no version", edit: func(b *bundle) { b.hpa.Spec.ScaleTargetRef.APIVersion = "a/b/c" }, able: able("unexpected GroupVersion string: a/b/c")},
		{name: "of none", edit: func(b *bundle) { b.deployment().Spec.Replicas = ptr.To[int32](0) },
			able:   "True SucceededGetScale: the HPA controller was able to get the target's current scale",
			active: "False ScalingDisabled: scaling is disabled since the replica count of the target is zero"},
		{name: "no selector", edit: func(b *bundle) { b.deployment().Spec.Selector = &metav1.LabelSelector{} },
			able:   "True SucceededGetScale: the HPA controller was able to get the target's current scale",
			active: "False InvalidSelector: the HPA target's scale is missing a selector"},
		{name: "two of one target", edit: func(b *bundle) {
			other := b.hpa.DeepCopy()
			other.Name = "other"
			b.world[kind.HorizontalPodAutoscalers.Key("default", "other")] = other
		}, able: "True SucceededGetScale: the HPA controller was able to get the target's current scale",
			active: "False AmbiguousSelector: pods by selector app=d are controlled by more than one HPA (e.g. [default/h default/other])"},
		{name: "fine", able: "True ReadyForNewScale: recommended size matches current size",
			active: "True ValidMetricFound: the HPA was able to successfully calculate a replica count from cpu resource utilization (percentage of request)"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			b := setup(1, 500)
			if tc.edit != nil {
				tc.edit(b)
			}
			b.decide()
			if got := b.condition(autoscalingv2.AbleToScale); got != tc.able {
				t.Errorf("AbleToScale: %s\nwant %s", got, tc.able)
			}
			if got := b.condition(autoscalingv2.ScalingActive); got != tc.active {
				t.Errorf("ScalingActive: %s\nwant %s", got, tc.active)
			}
		})
	}
}

// TestSteady: nothing is written when nothing has changed, and times of conditions stay.
func TestSteady(t *testing.T) {
	t.Parallel()
	b := setup(2, 500, 500)
	b.decide()
	before := b.hpa
	b.now = b.now.Add(Period)
	b.decide()
	if b.hpa != before {
		t.Errorf("it was written again: %+v", b.hpa.Status)
	}
	for range 1000 {
		b.now = b.now.Add(Period)
		b.decide()
	}
	if n := len(b.memory.recommended); n > int(longest/Period)+2 {
		t.Errorf("%d recommendations are remembered", n)
	}
}
