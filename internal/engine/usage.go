package engine

import (
	"context"

	metricsv1beta1 "k8s.io/metrics/pkg/apis/metrics/v1beta1"
)

// usage returns what the pods of a namespace use, as its nodes measure it. A node that does not
// run says nothing, as one that metrics-server does not reach.
func (e *Engine) usage(ctx context.Context, namespace string) ([]metricsv1beta1.PodMetrics, error) {
	var list []metricsv1beta1.PodMetrics
	for _, m := range e.nodes {
		worker := m.worker()
		if worker == nil {
			continue
		}
		_, pods, err := worker.Metrics(ctx)
		if err != nil {
			return nil, err
		}
		for i := range pods {
			if pods[i].Namespace == namespace {
				list = append(list, pods[i])
			}
		}
	}
	return list, nil
}
