package server

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metainternalversion "k8s.io/apimachinery/pkg/apis/meta/internalversion"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	genericapirequest "k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/rest"
	metricsv1beta1 "k8s.io/metrics/pkg/apis/metrics/v1beta1"

	"github.com/sampan-batch/sampan/internal/kind"
)

// measurements are the resources of metrics.k8s.io: what nodes and pods use now, as
// metrics-server tells it. Nothing is stored: a question is put to the nodes.
func (sh *shared) measurements() map[string]rest.Storage {
	return map[string]rest.Storage{
		string(kind.Nodes): &measured[metricsv1beta1.NodeMetrics, *metricsv1beta1.NodeMetrics]{
			kind: "NodeMetrics", singular: "node", of: sh.nodeMetrics,
			newList: func(list []metricsv1beta1.NodeMetrics) runtime.Object {
				return &metricsv1beta1.NodeMetricsList{Items: list}
			},
			items: func(list runtime.Object) []metricsv1beta1.NodeMetrics {
				return list.(*metricsv1beta1.NodeMetricsList).Items
			},
			usage: func(m *metricsv1beta1.NodeMetrics) (corev1.ResourceList, metav1.Duration) { return m.Usage, m.Window },
		},
		string(kind.Pods): &measured[metricsv1beta1.PodMetrics, *metricsv1beta1.PodMetrics]{
			kind: "PodMetrics", singular: "pod", namespaced: true, of: sh.podMetrics,
			newList: func(list []metricsv1beta1.PodMetrics) runtime.Object {
				return &metricsv1beta1.PodMetricsList{Items: list}
			},
			items: func(list runtime.Object) []metricsv1beta1.PodMetrics {
				return list.(*metricsv1beta1.PodMetricsList).Items
			},
			usage: func(m *metricsv1beta1.PodMetrics) (corev1.ResourceList, metav1.Duration) {
				sum := corev1.ResourceList{}
				for i := range m.Containers {
					for name, q := range m.Containers[i].Usage {
						total := sum[name]
						total.Add(q)
						sum[name] = total
					}
				}
				return sum, m.Window
			},
		},
	}
}

// nodeMetrics asks the nodes that are connected; name "" is all.
func (sh *shared) nodeMetrics(ctx context.Context, _, name string) ([]metricsv1beta1.NodeMetrics, error) {
	var list []metricsv1beta1.NodeMetrics
	err := sh.askNodes(ctx, name, func(node *corev1.Node, m *metricsv1beta1.NodeMetrics, _ []metricsv1beta1.PodMetrics) {
		m.Labels = node.Labels
		list = append(list, *m)
	})
	return list, err
}

// podMetrics asks the node that has the pod of a name, or all of them.
func (sh *shared) podMetrics(ctx context.Context, namespace, name string) ([]metricsv1beta1.PodMetrics, error) {
	node := ""
	if name != "" {
		obj, ok := sh.store.View().Get(kind.Pods.Key(namespace, name))
		if !ok || obj.(*corev1.Pod).Spec.NodeName == "" {
			return nil, nil
		}
		node = obj.(*corev1.Pod).Spec.NodeName
	}
	var list []metricsv1beta1.PodMetrics
	err := sh.askNodes(ctx, node, func(_ *corev1.Node, _ *metricsv1beta1.NodeMetrics, pods []metricsv1beta1.PodMetrics) {
		for _, m := range pods {
			if (namespace == "" || m.Namespace == namespace) && (name == "" || m.Name == name) {
				list = append(list, m)
			}
		}
	})
	return list, err
}

// askNodes asks a node, or all if name is "", one after the other: they are of one machine.
func (sh *shared) askNodes(ctx context.Context, name string, answer func(*corev1.Node, *metricsv1beta1.NodeMetrics, []metricsv1beta1.PodMetrics)) error {
	for obj := range sh.store.View().List(kind.Nodes, "") {
		node := obj.(*corev1.Node)
		if name != "" && node.Name != name || sh.nodes == nil {
			continue
		}
		connected := sh.nodes(node.Name)
		if connected == nil {
			continue // it has nothing to say, as one that metrics-server does not reach
		}
		m, pods, err := connected.Metrics(ctx)
		if err != nil {
			return err
		}
		answer(node, m, pods)
	}
	return nil
}

// measured is the storage of a kind of measurements.
type measured[T any, P interface {
	*T
	runtime.Object
	metav1.Object
}] struct {
	kind, singular string
	namespaced     bool
	of             func(ctx context.Context, namespace, name string) ([]T, error)
	newList        func([]T) runtime.Object
	items          func(runtime.Object) []T
	usage          func(P) (corev1.ResourceList, metav1.Duration)
}

var _ interface {
	rest.KindProvider
	rest.Storage
	rest.Scoper
	rest.Getter
	rest.Lister
	rest.SingularNameProvider
} = &measured[metricsv1beta1.NodeMetrics, *metricsv1beta1.NodeMetrics]{}

// New and the following tell the library about the resource.

func (m *measured[T, P]) New() runtime.Object     { return P(new(T)) }
func (m *measured[T, P]) NewList() runtime.Object { return m.newList(nil) }
func (m *measured[T, P]) Destroy()                {}
func (m *measured[T, P]) Kind() string            { return m.kind }
func (m *measured[T, P]) NamespaceScoped() bool   { return m.namespaced }
func (m *measured[T, P]) GetSingularName() string { return m.singular }

// Get measures one.
func (m *measured[T, P]) Get(ctx context.Context, name string, _ *metav1.GetOptions) (runtime.Object, error) {
	namespace := genericapirequest.NamespaceValue(ctx)
	list, err := m.of(ctx, namespace, name)
	if err != nil {
		return nil, err
	}
	if len(list) == 0 {
		if m.namespaced {
			name = namespace + "/" + name
		}
		return nil, apierrors.NewNotFound(schema.GroupResource{Group: metricsv1beta1.GroupName, Resource: strings.ToLower(m.kind)}, name)
	}
	return m.born(&list[0]), nil
}

// List measures all that the selectors choose, in the order of their names.
func (m *measured[T, P]) List(ctx context.Context, options *metainternalversion.ListOptions) (runtime.Object, error) {
	list, err := m.of(ctx, genericapirequest.NamespaceValue(ctx), "")
	if err != nil {
		return nil, err
	}
	chosen := make([]T, 0, len(list))
	for i := range list {
		if obj := m.born(&list[i]); chooses(options, obj) {
			chosen = append(chosen, list[i])
		}
	}
	slices.SortFunc(chosen, func(a, b T) int {
		return cmp.Or(strings.Compare(P(&a).GetNamespace(), P(&b).GetNamespace()), strings.Compare(P(&a).GetName(), P(&b).GetName()))
	})
	return m.newList(chosen), nil
}

// born gives a measurement its time, as metrics-server does.
func (m *measured[T, P]) born(obj P) P {
	obj.SetCreationTimestamp(metav1.Now())
	return obj
}

func chooses(options *metainternalversion.ListOptions, obj metav1.Object) bool {
	if options == nil {
		return true
	}
	if s := options.LabelSelector; s != nil && !s.Matches(labels.Set(obj.GetLabels())) {
		return false
	}
	s := options.FieldSelector
	return s == nil || s.Matches(fields.Set{"metadata.name": obj.GetName(), "metadata.namespace": obj.GetNamespace()})
}

// ConvertToTable prints measurements: a column for each thing that was measured.
func (m *measured[T, P]) ConvertToTable(_ context.Context, obj, _ runtime.Object) (*metav1.Table, error) {
	var list []P
	switch o := obj.(type) {
	case P:
		list = append(list, o)
	default:
		items := m.items(obj)
		for i := range items {
			list = append(list, &items[i])
		}
	}
	table := &metav1.Table{}
	var names []corev1.ResourceName
	for _, o := range list {
		usage, window := m.usage(o)
		if names == nil {
			names = slices.Sorted(maps.Keys(usage))
			table.ColumnDefinitions = measuredColumns(names)
		}
		cells := []any{o.GetName()}
		for _, name := range names {
			q := usage[name]
			cells = append(cells, q.String())
		}
		table.Rows = append(table.Rows, metav1.TableRow{Cells: append(cells, window.Duration.String()), Object: runtime.RawExtension{Object: o}})
	}
	return table, nil
}

func measuredColumns(names []corev1.ResourceName) []metav1.TableColumnDefinition {
	columns := []metav1.TableColumnDefinition{{Name: "Name", Type: "string", Format: "name", Description: "Name of the resource"}}
	for _, name := range names {
		columns = append(columns, metav1.TableColumnDefinition{Name: string(name), Type: "string", Format: "quantity"})
	}
	return append(columns, metav1.TableColumnDefinition{Name: "Window", Type: "string", Format: "duration"})
}
