package autoscale

import (
	"errors"
	"fmt"
	"math"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	resourcehelpers "k8s.io/component-helpers/resource"
	metricsv1beta1 "k8s.io/metrics/pkg/apis/metrics/v1beta1"

	"github.com/sampan-batch/sampan/internal/kind"
)

// The defaults of kube-controller-manager.
const (
	tolerance             = 0.1
	initialReadinessDelay = 30 * time.Second
	cpuInitialization     = 5 * time.Minute
)

// Usage is what the pods of a namespace use, or why that is not known.
type Usage struct {
	Pods []metricsv1beta1.PodMetrics
	Err  error
}

// tolerated is how far usage may be from its target until something is done: shares of it.
type tolerated struct{ down, up float64 }

func tolerances(b *autoscalingv2.HorizontalPodAutoscalerBehavior) tolerated {
	t := tolerated{tolerance, tolerance}
	if b != nil && b.ScaleDown != nil && b.ScaleDown.Tolerance != nil {
		t.down = b.ScaleDown.Tolerance.AsApproximateFloat64()
	}
	if b != nil && b.ScaleUp != nil && b.ScaleUp.Tolerance != nil {
		t.up = b.ScaleUp.Tolerance.AsApproximateFloat64()
	}
	return t
}

func (t tolerated) within(ratio float64) bool { return 1-t.down <= ratio && ratio <= 1+t.up }

// calculation is how many replicas would use target of a resource each: in percent of their
// requests, or in thousandths.
type calculation struct {
	*State
	now       time.Time
	resource  corev1.ResourceName
	container string // "": the whole pod
	current   int32
	target    int64
	tolerance tolerated
}

// measurement is what one pod uses, in thousandths.
type measurement struct {
	value  int64
	at     time.Time
	window time.Duration
}

// byValue returns the number for a target of so much each, and what they use on average now.
func (c *calculation) byValue() (replicas int32, usage int64, err error) {
	metrics, err := c.metrics()
	if err != nil {
		return 0, 0, err
	}
	g, err := c.group(metrics)
	if err != nil {
		return 0, 0, err
	}
	average := func() int64 {
		var total int64
		for _, m := range metrics {
			total += m.value
		}
		return total / int64(len(metrics))
	}
	usage = average()
	ratio := func() (float64, error) { return float64(average()) / float64(c.target), nil }
	replicas, err = c.replicas(g, metrics, ratio, func(string) int64 { return c.target })
	return replicas, usage, err
}

// byUtilization returns the number for a target in percent of what they request, what share of
// it they use now, and how much that is on average.
func (c *calculation) byUtilization() (replicas, utilization int32, usage int64, err error) {
	metrics, err := c.metrics()
	if err != nil {
		return 0, 0, 0, err
	}
	g, err := c.group(metrics)
	if err != nil {
		return 0, 0, 0, err
	}
	requests := make(map[string]int64, len(c.Pods))
	for _, pod := range c.Pods {
		if requests[pod.Name], err = c.request(pod); err != nil {
			return 0, 0, 0, err
		}
	}
	ratio := func() (float64, int32, int64, error) {
		var used, requested, n int64
		for name, m := range metrics {
			if request, known := requests[name]; known {
				used, requested, n = used+m.value, requested+request, n+1
			}
		}
		if requested == 0 {
			return 0, 0, 0, errors.New("no metrics returned matched known pods")
		}
		percent := int32(used * 100 / requested)
		return float64(percent) / float64(c.target), percent, used / n, nil
	}
	if _, utilization, usage, err = ratio(); err != nil {
		return 0, 0, 0, err
	}
	replicas, err = c.replicas(g, metrics, func() (float64, error) {
		r, _, _, err := ratio()
		return r, err
	}, func(pod string) int64 { return requests[pod] * max(100, c.target) / 100 })
	return replicas, utilization, usage, err
}

// replicas returns the number at which ratio, of the use to what it should be, is about 1. Pods
// whose use is not known count against what is about to be done: as using all they may when
// there are to be fewer, and nothing when there are to be more.
func (c *calculation) replicas(g groups, metrics map[string]measurement, ratio func() (float64, error), all func(pod string) int64) (int32, error) {
	first, err := ratio()
	if err != nil {
		return 0, err
	}
	upWithUnready := len(g.unready) > 0 && first > 1
	if !upWithUnready && len(g.missing) == 0 {
		if c.tolerance.within(first) {
			return c.current, nil
		}
		return ceil(first * float64(g.ready)), nil
	}
	for _, name := range g.missing {
		switch {
		case first < 1:
			metrics[name] = measurement{value: all(name)}
		case first > 1:
			metrics[name] = measurement{}
		}
	}
	if upWithUnready {
		for _, name := range g.unready {
			metrics[name] = measurement{}
		}
	}
	second, err := ratio()
	if err != nil {
		return 0, err
	}
	if c.tolerance.within(second) || first < 1 && second > 1 || first > 1 && second < 1 {
		return c.current, nil
	}
	replicas := ceil(second * float64(len(metrics)))
	if second < 1 && replicas > c.current || second > 1 && replicas < c.current {
		return c.current, nil
	}
	return replicas, nil
}

// ceil rounds up to a number of replicas; what is more than there can be is the most.
func ceil(n float64) int32 {
	if n = math.Ceil(n); n < math.MaxInt32 {
		return int32(n)
	}
	return math.MaxInt32
}

// metrics returns what each of the pods uses, of those of which that is known.
func (c *calculation) metrics() (map[string]measurement, error) {
	fail := func(err error) error { return fmt.Errorf("unable to get metrics for resource %s: %w", c.resource, err) }
	if c.Usage.Err != nil {
		return nil, fail(fmt.Errorf("unable to fetch metrics from resource metrics API: %w", c.Usage.Err))
	}
	ours := make(map[string]bool, len(c.Pods))
	for _, pod := range c.Pods {
		ours[pod.Name] = true
	}
	measured := 0
	metrics := map[string]measurement{}
	for i := range c.Usage.Pods {
		m := &c.Usage.Pods[i]
		if !ours[m.Name] {
			continue
		}
		measured++
		if value, known := c.used(m); known {
			metrics[m.Name] = measurement{value, m.Timestamp.Time, m.Window.Duration}
		}
	}
	if measured == 0 {
		return nil, fail(errors.New("no metrics returned from resource metrics API"))
	}
	return metrics, nil
}

// used is what a pod uses, or the container of it that is asked for.
func (c *calculation) used(m *metricsv1beta1.PodMetrics) (sum int64, known bool) {
	for i := range m.Containers {
		if c.container != "" && m.Containers[i].Name != c.container {
			continue
		}
		q, ok := m.Containers[i].Usage[c.resource]
		if !ok {
			return 0, false
		}
		sum, known = sum+q.MilliValue(), true
	}
	return sum, known
}

// groups are the pods by whether they are counted.
type groups struct {
	ready            int
	unready, missing []string
}

// group tells which pods count, and takes the others out of metrics: those that end, that have
// not begun, and, of processors, those that are just starting and use more than they will.
func (c *calculation) group(metrics map[string]measurement) (g groups, err error) {
	if len(c.Pods) == 0 {
		return g, errors.New("no pods returned by selector while calculating replica count")
	}
	for _, pod := range c.Pods {
		m, measured := metrics[pod.Name]
		switch {
		case pod.DeletionTimestamp != nil || pod.Status.Phase == corev1.PodFailed:
			delete(metrics, pod.Name)
		case pod.Status.Phase == corev1.PodPending:
			g.unready = append(g.unready, pod.Name)
			delete(metrics, pod.Name)
		case !measured:
			g.missing = append(g.missing, pod.Name)
		case c.resource == corev1.ResourceCPU && c.starting(pod, m):
			g.unready = append(g.unready, pod.Name)
			delete(metrics, pod.Name)
		default:
			g.ready++
		}
	}
	if len(metrics) == 0 {
		return g, errors.New("did not receive metrics for targeted pods (pods might be unready)")
	}
	return g, nil
}

// starting reports whether what a pod uses says nothing yet of what it is going to use.
func (c *calculation) starting(pod *corev1.Pod, m measurement) bool {
	ready := kind.PodCondition(pod, corev1.PodReady)
	if ready == nil || pod.Status.StartTime == nil {
		return true
	}
	began := pod.Status.StartTime.Time
	unready := ready.Status == corev1.ConditionFalse
	if began.Add(cpuInitialization).After(c.now) {
		return unready || m.at.Before(ready.LastTransitionTime.Add(m.window))
	}
	return unready && began.Add(initialReadinessDelay).After(ready.LastTransitionTime.Time) // it has never been ready
}

// request is what a pod requests, in thousandths, or the container of it that is asked for.
func (c *calculation) request(pod *corev1.Pod) (int64, error) {
	if c.container == "" && resourcehelpers.IsPodLevelRequestsSet(pod) {
		q, ok := resourcehelpers.PodRequests(pod, resourcehelpers.PodResourcesOptions{})[c.resource]
		if !ok {
			return 0, fmt.Errorf("missing pod-level request for %s in Pod %s", c.resource, pod.Name)
		}
		return q.MilliValue(), nil
	}
	var sum int64
	found := c.container == ""
	for container := range lasting(pod) {
		if c.container != "" && c.container != container.Name {
			continue
		}
		found = true
		q, ok := container.Resources.Requests[c.resource]
		if !ok {
			return 0, fmt.Errorf("missing request for %s in container %s of Pod %s", c.resource, container.Name, pod.Name)
		}
		sum += q.MilliValue()
	}
	if !found {
		return 0, fmt.Errorf("container %s not found in Pod %s", c.container, pod.Name)
	}
	return sum, nil
}

// lasting yields the containers that run as long as the pod does.
func lasting(pod *corev1.Pod) func(func(*corev1.Container) bool) {
	return func(yield func(*corev1.Container) bool) {
		for i := range pod.Spec.Containers {
			if !yield(&pod.Spec.Containers[i]) {
				return
			}
		}
		for i := range pod.Spec.InitContainers {
			c := &pod.Spec.InitContainers[i]
			if c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways && !yield(c) {
				return
			}
		}
	}
}
