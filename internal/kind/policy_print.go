package kind

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	flowcontrolv1 "k8s.io/api/flowcontrol/v1"
	nodev1 "k8s.io/api/node/v1"
	policyv1 "k8s.io/api/policy/v1"
	resourcev1 "k8s.io/api/resource/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

func resourceQuotaTable(k *Kind) *Kind {
	columns := []metav1.TableColumnDefinition{
		column("Request", "string", "Request represents a minimum amount of cpu/memory that a container may consume."),
		column("Limit", "string", "Limits control the maximum amount of cpu/memory that a container may use independent of contention on the node."),
		ageColumn(),
	}
	return tabled(k, columns, func(q *corev1.ResourceQuota, now time.Time) []any {
		var requests, limits []string
		for _, name := range slices.Sorted(maps.Keys(q.Status.Hard)) {
			used, hard := q.Status.Used[name], q.Status.Hard[name]
			text := fmt.Sprintf("%s: %s/%s", name, used.String(), hard.String())
			if strings.HasPrefix(string(name), "limits.") {
				limits = append(limits, text)
			} else {
				requests = append(requests, text)
			}
		}
		return []any{strings.Join(requests, ", "), strings.Join(limits, ", "), age(q.CreationTimestamp, now)}
	})
}

func podDisruptionBudgetTable(k *Kind) *Kind {
	columns := []metav1.TableColumnDefinition{
		column("Min Available", "string", "The minimum number of pods that must be available."),
		column("Max Unavailable", "string", "The maximum number of pods that may be unavailable."),
		column("Allowed Disruptions", "integer", "Calculated number of pods that may be disrupted at this time."), ageColumn(),
	}
	return tabled(k, columns, func(b *policyv1.PodDisruptionBudget, now time.Time) []any {
		least, most := "N/A", "N/A"
		if b.Spec.MinAvailable != nil {
			least = b.Spec.MinAvailable.String()
		}
		if b.Spec.MaxUnavailable != nil {
			most = b.Spec.MaxUnavailable.String()
		}
		return []any{least, most, int64(b.Status.DisruptionsAllowed), age(b.CreationTimestamp, now)}
	})
}

func priorityClassTable(k *Kind) *Kind {
	doc := schedulingv1.PriorityClass{}.SwaggerDoc()
	columns := []metav1.TableColumnDefinition{
		column("Value", "integer", doc["value"]), column("Global-Default", "boolean", doc["globalDefault"]), ageColumn(), column("PreemptionPolicy", "string", doc["preemptionPolicy"]),
	}
	return tabled(k, columns, func(c *schedulingv1.PriorityClass, now time.Time) []any {
		return []any{int64(c.Value), c.GlobalDefault, age(c.CreationTimestamp, now), string(ptr.Deref(c.PreemptionPolicy, ""))}
	})
}

func runtimeClassTable(k *Kind) *Kind {
	columns := []metav1.TableColumnDefinition{column("Handler", "string", metav1.ObjectMeta{}.SwaggerDoc()["handler"]), ageColumn()}
	return tabled(k, columns, func(c *nodev1.RuntimeClass, now time.Time) []any {
		return []any{c.Handler, age(c.CreationTimestamp, now)}
	})
}

// agedTable shows nothing but the name and the age.
func agedTable(k *Kind) *Kind {
	return tabled(k, []metav1.TableColumnDefinition{ageColumn()}, func(obj Object, now time.Time) []any {
		return []any{age(obj.GetCreationTimestamp(), now)}
	})
}

func resourceClaimTable(k *Kind) *Kind {
	columns := []metav1.TableColumnDefinition{column("State", "string", "A summary of the current state (allocated, pending, reserved, etc.)."), ageColumn()}
	return tabled(k, columns, func(c *resourcev1.ResourceClaim, now time.Time) []any {
		var states []string
		if c.DeletionTimestamp != nil {
			states = append(states, "deleted")
		}
		switch {
		case c.Status.Allocation != nil:
			if states = append(states, "allocated"); len(c.Status.ReservedFor) > 0 {
				states = append(states, "reserved")
			}
		case c.DeletionTimestamp == nil:
			states = append(states, "pending")
		}
		return []any{strings.Join(states, ","), age(c.CreationTimestamp, now)}
	})
}

func deviceTaintRuleTable(k *Kind) *Kind {
	taint := resourcev1.DeviceTaint{}.SwaggerDoc()
	columns := []metav1.TableColumnDefinition{
		column("Key", "string", taint["key"]), column("Value", "string", taint["value"]), column("Effect", "string", taint["effect"]),
		column("TimeAdded", "string", taint["timeAdded"]), ageColumn(),
	}
	return tabled(k, columns, func(r *resourcev1.DeviceTaintRule, now time.Time) []any {
		added := ""
		if at := r.Spec.Taint.TimeAdded; at != nil {
			added = age(*at, now)
		}
		return []any{r.Spec.Taint.Key, r.Spec.Taint.Value, string(r.Spec.Taint.Effect), added, age(r.CreationTimestamp, now)}
	})
}

func resourceSliceTable(k *Kind) *Kind {
	spec := resourcev1.ResourceSliceSpec{}.SwaggerDoc()
	columns := []metav1.TableColumnDefinition{
		column("Node", "string", spec["nodeName"]), column("Driver", "string", spec["driver"]),
		column("Pool", "string", resourcev1.ResourcePool{}.SwaggerDoc()["name"]), ageColumn(),
	}
	return tabled(k, columns, func(s *resourcev1.ResourceSlice, now time.Time) []any {
		return []any{ptr.Deref(s.Spec.NodeName, ""), s.Spec.Driver, s.Spec.Pool.Name, age(s.CreationTimestamp, now)}
	})
}

func flowSchemaTable(k *Kind) *Kind {
	spec := flowcontrolv1.FlowSchemaSpec{}.SwaggerDoc()
	columns := []metav1.TableColumnDefinition{
		column("PriorityLevel", "string", flowcontrolv1.PriorityLevelConfigurationReference{}.SwaggerDoc()["name"]),
		column("MatchingPrecedence", "string", spec["matchingPrecedence"]), column("DistinguisherMethod", "string", spec["distinguisherMethod"]), ageColumn(),
		column("MissingPL", "string", "references a broken or non-existent PriorityLevelConfiguration"),
	}
	return tabled(k, columns, func(s *flowcontrolv1.FlowSchema, now time.Time) []any {
		method, missing := "<none>", "?"
		if m := s.Spec.DistinguisherMethod; m != nil {
			method = string(m.Type)
		}
		for _, c := range s.Status.Conditions {
			if c.Type == flowcontrolv1.FlowSchemaConditionDangling {
				missing = string(c.Status)
				break
			}
		}
		return []any{s.Spec.PriorityLevelConfiguration.Name, int64(s.Spec.MatchingPrecedence), method, age(s.CreationTimestamp, now), missing}
	})
}

func priorityLevelTable(k *Kind) *Kind {
	queuing := flowcontrolv1.QueuingConfiguration{}.SwaggerDoc()
	columns := []metav1.TableColumnDefinition{
		column("Type", "string", flowcontrolv1.PriorityLevelConfigurationSpec{}.SwaggerDoc()["type"]),
		column("NominalConcurrencyShares", "string", flowcontrolv1.LimitedPriorityLevelConfiguration{}.SwaggerDoc()["nominalConcurrencyShares"]),
		column("Queues", "string", queuing["queues"]), column("HandSize", "string", queuing["handSize"]), column("QueueLengthLimit", "string", queuing["queueLengthLimit"]), ageColumn(),
	}
	return tabled(k, columns, func(p *flowcontrolv1.PriorityLevelConfiguration, now time.Time) []any {
		shares, queues, hand, length := any("<none>"), any("<none>"), any("<none>"), any("<none>")
		if limited := p.Spec.Limited; limited != nil {
			shares = ptr.Deref(limited.NominalConcurrencyShares, 0)
			if q := limited.LimitResponse.Queuing; q != nil {
				queues, hand, length = q.Queues, q.HandSize, q.QueueLengthLimit
			}
		}
		return []any{string(p.Spec.Type), shares, queues, hand, length, age(p.CreationTimestamp, now)}
	})
}

func horizontalPodAutoscalerTable(k *Kind) *Kind {
	spec := autoscalingv2.HorizontalPodAutoscalerSpec{}.SwaggerDoc()
	columns := []metav1.TableColumnDefinition{
		column("Reference", "string", spec["scaleTargetRef"]), column("Targets", "string", spec["metrics"]), column("MinPods", "string", spec["minReplicas"]),
		column("MaxPods", "string", spec["maxReplicas"]), column("Replicas", "string", autoscalingv2.HorizontalPodAutoscalerStatus{}.SwaggerDoc()["currentReplicas"]), ageColumn(),
	}
	return tabled(k, columns, func(a *autoscalingv2.HorizontalPodAutoscaler, now time.Time) []any {
		least := "<unset>"
		if a.Spec.MinReplicas != nil {
			least = fmt.Sprint(*a.Spec.MinReplicas)
		}
		return []any{a.Spec.ScaleTargetRef.Kind + "/" + a.Spec.ScaleTargetRef.Name, targets(a), least, int64(a.Spec.MaxReplicas), int64(a.Status.CurrentReplicas), age(a.CreationTimestamp, now)}
	})
}

// targets names the first two metrics that an autoscaler goes by.
func targets(a *autoscalingv2.HorizontalPodAutoscaler) string {
	const shown = 2
	var list []string
	for i := range a.Spec.Metrics {
		var status autoscalingv2.MetricStatus
		if i < len(a.Status.CurrentMetrics) {
			status = a.Status.CurrentMetrics[i]
		}
		list = append(list, metricTarget(&a.Spec.Metrics[i], &status))
	}
	switch n := len(list); {
	case n == 0:
		return "<none>"
	case n > shown:
		return fmt.Sprintf("%s + %d more...", strings.Join(list[:shown], ", "), n-shown)
	}
	return strings.Join(list, ", ")
}

// metricTarget is what a metric is, and what it is to be.
func metricTarget(m *autoscalingv2.MetricSpec, s *autoscalingv2.MetricStatus) string {
	switch m.Type {
	case autoscalingv2.ExternalMetricSourceType:
		return valueTarget(m.External.Target, currentOf(s.External, func(e *autoscalingv2.ExternalMetricStatus) *autoscalingv2.MetricValueStatus { return &e.Current }))
	case autoscalingv2.ObjectMetricSourceType:
		return valueTarget(m.Object.Target, currentOf(s.Object, func(o *autoscalingv2.ObjectMetricStatus) *autoscalingv2.MetricValueStatus { return &o.Current }))
	case autoscalingv2.PodsMetricSourceType:
		current := currentOf(s.Pods, func(p *autoscalingv2.PodsMetricStatus) *autoscalingv2.MetricValueStatus { return &p.Current })
		return averageOf(current) + "/" + quantityText(m.Pods.Target.AverageValue)
	case autoscalingv2.ResourceMetricSourceType:
		current := currentOf(s.Resource, func(r *autoscalingv2.ResourceMetricStatus) *autoscalingv2.MetricValueStatus { return &r.Current })
		return usageTarget(m.Resource.Name, m.Resource.Target, current)
	case autoscalingv2.ContainerResourceMetricSourceType:
		current := currentOf(s.ContainerResource, func(r *autoscalingv2.ContainerResourceMetricStatus) *autoscalingv2.MetricValueStatus {
			return &r.Current
		})
		return usageTarget(m.ContainerResource.Name, m.ContainerResource.Target, current)
	}
	return "<unknown type>"
}

func currentOf[S any](status *S, current func(*S) *autoscalingv2.MetricValueStatus) *autoscalingv2.MetricValueStatus {
	if status == nil {
		return nil
	}
	return current(status)
}

func averageOf(current *autoscalingv2.MetricValueStatus) string {
	if current == nil {
		return "<unknown>"
	}
	return quantityText(current.AverageValue)
}

func quantityText(q *resource.Quantity) string { return cmp.Or(q, &resource.Quantity{}).String() }

func valueTarget(target autoscalingv2.MetricTarget, current *autoscalingv2.MetricValueStatus) string {
	now := "<unknown>"
	if target.AverageValue != nil {
		if current != nil && current.AverageValue != nil {
			now = current.AverageValue.String()
		}
		return fmt.Sprintf("%s/%s (avg)", now, target.AverageValue.String())
	}
	if current != nil {
		now = quantityText(current.Value)
	}
	return now + "/" + quantityText(target.Value)
}

func usageTarget(name corev1.ResourceName, target autoscalingv2.MetricTarget, current *autoscalingv2.MetricValueStatus) string {
	if target.AverageValue != nil {
		return fmt.Sprintf("%s: %s/%s", name, averageOf(current), target.AverageValue.String())
	}
	percent := func(n *int32, instead string) string {
		if n == nil {
			return instead
		}
		return fmt.Sprintf("%d%%", *n)
	}
	now := "<unknown>"
	if current != nil {
		now = percent(current.AverageUtilization, now)
	}
	return fmt.Sprintf("%s: %s/%s", name, now, percent(target.AverageUtilization, "<auto>"))
}
