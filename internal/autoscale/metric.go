package autoscale

import (
	"errors"
	"fmt"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/sampan-batch/sampan/internal/reason"
)

// proposal is what one metric asks for.
type proposal struct {
	replicas int32
	metric   string // what it is called
	status   autoscalingv2.MetricStatus
}

// failure is why a metric asks for nothing. told is what the sum of all says of it.
type failure struct {
	reason string
	err    error
	told   string
}

// proposal returns the highest number of replicas that one of the metrics asks for, what that
// metric is called, and how all of them are. Metrics that are not known do not keep others
// from asking for more, but nothing gets smaller on what is known only in part.
func (d *decision) proposal() (replicas int32, metric string, statuses []autoscalingv2.MetricStatus, err error) {
	if err := d.selectable(); err != nil {
		return 0, "", nil, err
	}
	specs := d.next.Spec.Metrics
	statuses = make([]autoscalingv2.MetricStatus, len(specs))
	var failures []failure
	for i := range specs {
		p, f := d.propose(&specs[i])
		if f != nil {
			d.warn(f.reason, f.err.Error())
			failures = append(failures, *f)
			continue
		}
		statuses[i] = p.status
		if replicas == 0 || p.replicas > replicas {
			replicas, metric = p.replicas, p.metric
		}
	}
	if n := len(failures); n == len(specs) && n > 0 || n > 0 && replicas < d.scale.Spec.Replicas {
		f := &failures[0]
		d.condition(autoscalingv2.ScalingActive, corev1.ConditionFalse, f.reason, fmt.Sprintf("the HPA was unable to compute the replica count: %v", f.err))
		return 0, "", statuses, fmt.Errorf("invalid metrics (%v invalid out of %v), first error is: %s", n, len(specs), f.told)
	}
	d.condition(autoscalingv2.ScalingActive, corev1.ConditionTrue, "ValidMetricFound", "the HPA was able to successfully calculate a replica count from "+metric)
	return replicas, metric, statuses, nil
}

// propose asks one metric.
func (d *decision) propose(spec *autoscalingv2.MetricSpec) (proposal, *failure) {
	switch spec.Type {
	case autoscalingv2.ResourceMetricSourceType:
		of := spec.Resource
		p, value, err := d.proposeUsage(of.Name, "", &of.Target, "resource")
		if err != nil {
			return p, &failure{reason.FailedGetResourceMetric, err, fmt.Sprintf("failed to get %s resource metric value: %v", of.Name, err)}
		}
		p.status.Type, p.status.Resource = spec.Type, &autoscalingv2.ResourceMetricStatus{Name: of.Name, Current: value}
		return p, nil
	case autoscalingv2.ContainerResourceMetricSourceType:
		of := spec.ContainerResource
		p, value, err := d.proposeUsage(of.Name, of.Container, &of.Target, "container resource")
		if err != nil {
			return p, &failure{reason.FailedGetContainerResourceMetric, err, fmt.Sprintf("failed to get %s container metric value: %v", of.Container, err)}
		}
		p.status.Type, p.status.ContainerResource = spec.Type, &autoscalingv2.ContainerResourceMetricStatus{Name: of.Name, Container: of.Container, Current: value}
		return p, nil
	}
	return proposal{}, d.unserved(spec)
}

// unserved is what becomes of a metric whose API nobody serves here.
func (d *decision) unserved(spec *autoscalingv2.MetricSpec) *failure {
	const noCustom = "unable to fetch metrics from custom metrics API: no custom metrics API (custom.metrics.k8s.io) registered"
	namespace := d.next.Namespace
	switch spec.Type {
	case autoscalingv2.PodsMetricSourceType:
		err := fmt.Errorf("unable to get metric %s: %s", spec.Pods.Metric.Name, noCustom)
		return &failure{reason.FailedGetPodsMetric, err, fmt.Sprintf("failed to get pods metric value: %v", err)}
	case autoscalingv2.ObjectMetricSourceType:
		name, of := spec.Object.Metric.Name, spec.Object.DescribedObject
		err := fmt.Errorf("unable to get metric %s on %s %s/%s: %s", name, of.Kind, namespace, of.Name, noCustom)
		told := err
		if spec.Object.Target.Type == autoscalingv2.AverageValueMetricType {
			told = fmt.Errorf("failed to get %s object metric: %w", name, err)
		}
		return &failure{reason.FailedGetObjectMetric, err, fmt.Sprintf("failed to get object metric value: %v", told)}
	case autoscalingv2.ExternalMetricSourceType:
		name := spec.External.Metric.Name
		err := fmt.Errorf("unable to get external metric %s/%s/%+v: unable to fetch metrics from external metrics API: the server could not find the requested resource (get %s.external.metrics.k8s.io)",
			namespace, name, spec.External.Metric.Selector, name)
		told := fmt.Errorf("failed to get external metric %s: %w", name, err)
		if spec.External.Target.AverageValue != nil {
			told = fmt.Errorf("failed to get %s external metric: %w", name, err)
		}
		return &failure{reason.FailedGetExternalMetric, err, fmt.Sprintf("failed to get %s external metric value: %v", name, told)}
	}
	err := fmt.Errorf("unknown metric source type %q", string(spec.Type))
	return &failure{reason.InvalidMetricSourceType, err, err.Error()}
}

// proposeUsage asks what the pods use of a resource, or one container of each. The metric's name
// says "resource" of a value, whatever kind it is of.
func (d *decision) proposeUsage(name corev1.ResourceName, container string, target *autoscalingv2.MetricTarget, called string) (p proposal, value autoscalingv2.MetricValueStatus, err error) {
	c := calculation{State: &d.State, now: d.now, resource: name, container: container, current: d.scale.Spec.Replicas, tolerance: tolerances(d.next.Spec.Behavior)}
	switch {
	case target.AverageValue != nil:
		c.target = target.AverageValue.MilliValue()
		replicas, usage, err := c.byValue()
		if err != nil {
			return p, value, fmt.Errorf("failed to get %s usage: %w", name, err)
		}
		value.AverageValue = quantity(name, usage)
		return proposal{replicas: replicas, metric: fmt.Sprintf("%s resource", name)}, value, nil
	case target.AverageUtilization == nil:
		return p, value, errors.New("invalid resource metric source: neither an average utilization target nor an average value (usage) target was set")
	}
	c.target = int64(*target.AverageUtilization)
	replicas, utilization, usage, err := c.byUtilization()
	if err != nil {
		return p, value, fmt.Errorf("failed to get %s utilization: %w", name, err)
	}
	value.AverageUtilization, value.AverageValue = &utilization, quantity(name, usage)
	return proposal{replicas: replicas, metric: fmt.Sprintf("%s %s utilization (percentage of request)", name, called)}, value, nil
}

// quantity writes an amount as metrics-server does.
func quantity(name corev1.ResourceName, milli int64) *resource.Quantity {
	if name == corev1.ResourceMemory {
		return resource.NewMilliQuantity(milli, resource.BinarySI)
	}
	return resource.NewMilliQuantity(milli, resource.DecimalSI)
}
