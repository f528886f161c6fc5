package server

import (
	"context"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	quantity "k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metricsv1beta1 "k8s.io/metrics/pkg/apis/metrics/v1beta1"
)

// meteredPods are those of a node that measures what it is told.
type meteredPods struct {
	PodStreams
	err error
}

func (p *meteredPods) Metrics(context.Context) (*metricsv1beta1.NodeMetrics, []metricsv1beta1.PodMetrics, error) {
	if p.err != nil {
		return nil, nil, p.err
	}
	use := func(cpu, memory string) corev1.ResourceList {
		return corev1.ResourceList{"cpu": quantity.MustParse(cpu), "memory": quantity.MustParse(memory)}
	}
	at, window := metav1.NewTime(time.Unix(1e9, 0)), metav1.Duration{Duration: 15 * time.Second}
	pod := func(namespace, name, app string) metricsv1beta1.PodMetrics {
		return metricsv1beta1.PodMetrics{
			ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: map[string]string{"app": app}}, Timestamp: at, Window: window,
			Containers: []metricsv1beta1.ContainerMetrics{{Name: "c", Usage: use("250m", "64Mi")}, {Name: "d", Usage: use("1", "1Mi")}},
		}
	}
	node := &metricsv1beta1.NodeMetrics{ObjectMeta: metav1.ObjectMeta{Name: "n"}, Timestamp: at, Window: window, Usage: use("1500m", "2Gi")}
	return node, []metricsv1beta1.PodMetrics{pod("default", "q", "x"), pod("other", "a", "x"), pod("default", "p", "y")}, nil
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	node := &meteredPods{}
	f := setup(t, func(o *Options) { o.Node = only("n", node) })
	for _, name := range []string{"n", "away"} {
		f.put(t, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"disk": "fast"}}})
	}
	for _, name := range []string{"p", "q", "new"} {
		f.put(t, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}, Spec: corev1.PodSpec{NodeName: "n"}})
	}
	f.put(t, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "waiting"}})
	const m = "/apis/metrics.k8s.io/v1beta1"
	table := map[string]string{"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io"}
	f.run(t, []probe{
		{name: "all groups", path: "/apis", code: 200, has: []string{`"name":"metrics.k8s.io"`}},
		{name: "resources", path: m, code: 200, has: []string{
			`"name":"nodes","singularName":"node","namespaced":false,"kind":"NodeMetrics","verbs":["get","list"]`,
			`"name":"pods","singularName":"pod","namespaced":true,"kind":"PodMetrics","verbs":["get","list"]`}},
		{name: "nodes", path: m + "/nodes", code: 200, has: []string{`"kind":"NodeMetricsList"`, `"name":"n"`, `"disk":"fast"`,
			`"timestamp":"2001-09-09T01:46:40Z","window":"15s","usage":{"cpu":"1500m","memory":"2Gi"}`}, not: []string{"away"}},
		{name: "a node", path: m + "/nodes/n", code: 200, has: []string{`"kind":"NodeMetrics"`}},
		{name: "a node that is not there", path: m + "/nodes/x", code: 404, message: `nodemetrics.metrics.k8s.io "x" not found`},
		{name: "a node that is not connected", path: m + "/nodes/away", code: 404, message: `nodemetrics.metrics.k8s.io "away" not found`},
		{name: "nodes by label", path: m + "/nodes?labelSelector=disk%3Dslow", code: 200, has: []string{`"items":[]`}},
		{name: "pods of a namespace", path: m + "/namespaces/default/pods", code: 200, has: []string{`"kind":"PodMetricsList"`, `"name":"p"`, `"name":"q"`,
			`"containers":[{"name":"c","usage":{"cpu":"250m","memory":"64Mi"}},{"name":"d","usage":{"cpu":"1","memory":"1Mi"}}]`}, not: []string{`"name":"a"`}},
		{name: "all pods", path: m + "/pods", code: 200, has: []string{`"name":"a","namespace":"other"`}},
		{name: "pods by label", path: m + "/pods?labelSelector=app%3Dy", code: 200, has: []string{`"name":"p"`}, not: []string{`"name":"q"`, `"name":"a"`}},
		{name: "pods by field", path: m + "/pods?fieldSelector=metadata.namespace%3Dother", code: 200, has: []string{`"name":"a"`}, not: []string{`"name":"p"`}},
		{name: "pods by no field", path: m + "/pods?fieldSelector=spec.nodeName%3Dn", code: 400},
		{name: "a pod", path: m + "/namespaces/default/pods/p", code: 200, has: []string{`"kind":"PodMetrics"`, `"name":"p"`, `"app":"y"`}},
		{name: "a pod that does not run", path: m + "/namespaces/default/pods/new", code: 404, message: `podmetrics.metrics.k8s.io "default/new" not found`},
		{name: "a pod without a node", path: m + "/namespaces/default/pods/waiting", code: 404, message: `podmetrics.metrics.k8s.io "default/waiting" not found`},
		{name: "a pod that is not there", path: m + "/namespaces/default/pods/x", code: 404, message: `podmetrics.metrics.k8s.io "default/x" not found`},
		{name: "a table", path: m + "/namespaces/default/pods", header: table, code: 200, has: []string{
			`{"name":"Name","type":"string","format":"name"`, `{"name":"cpu","type":"string","format":"quantity"`, `{"name":"Window","type":"string","format":"duration"`,
			`"cells":["p","1250m","65Mi","15s"]`, `"cells":["q","1250m","65Mi","15s"]`}},
		{name: "a table of one", path: m + "/nodes/n", header: table, code: 200, has: []string{`"cells":["n","1500m","2Gi","15s"]`}},
		{name: "create", method: "POST", path: m + "/nodes", body: `{}`, code: 405},
		{name: "delete", method: "DELETE", path: m + "/nodes/n", code: 405},
		{name: "its document", path: "/openapi/v3/apis/metrics.k8s.io/v1beta1", code: 200, has: []string{"NodeMetricsList"}},
		{name: "all documents", path: "/openapi/v2", code: 200},
	})
	node.err = apierrors.NewServiceUnavailable("not now")
	f.run(t, []probe{{name: "a node that fails", path: m + "/pods", code: 503, message: "not now"}})
}
