package agent

import (
	"context"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metricsv1beta1 "k8s.io/metrics/pkg/apis/metrics/v1beta1"
)

// Metrics returns what the node and its pods use, those with a container that runs. Errors are
// those of the API.
func (a *Agent) Metrics(ctx context.Context) (*metricsv1beta1.NodeMetrics, []metricsv1beta1.PodMetrics, error) {
	m, err := a.meter.measure(ctx)
	if err != nil {
		return nil, nil, err
	}
	at, window := metav1.NewTime(m.at), metav1.Duration{Duration: m.window}
	node := &metricsv1beta1.NodeMetrics{
		ObjectMeta: metav1.ObjectMeta{Name: a.services.Node.Name()}, Timestamp: at, Window: window, Usage: m.node,
	}
	pods := make([]metricsv1beta1.PodMetrics, 0, len(m.pods))
	for uid, containers := range m.pods {
		pod := a.pods.object(uid)
		if pod == nil {
			continue
		}
		slices.SortFunc(containers, func(a, b metricsv1beta1.ContainerMetrics) int { return strings.Compare(a.Name, b.Name) })
		pods = append(pods, metricsv1beta1.PodMetrics{
			ObjectMeta: metav1.ObjectMeta{Namespace: pod.Namespace, Name: pod.Name, Labels: pod.Labels},
			Timestamp:  at, Window: window, Containers: containers,
		})
	}
	return node, pods, nil
}
