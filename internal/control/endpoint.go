package control

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/endpoint"
	"github.com/sampan-batch/sampan/internal/kind"
)

// endpointsEvery is how often what stands behind a Service is looked at, at most: one pod that
// becomes ready waits for nothing, and many make for one write.
const endpointsEvery = 100 * time.Millisecond

// endpointController keeps the EndpointSlices and the Endpoints of Services.
func endpointController() Controller {
	return Controller{
		Name:    "endpoint",
		Every:   endpointsEvery,
		Dirties: endpointDirties,
		Decide: func(now time.Time, view change.View, key change.Key, refused error) change.Set {
			s := endpoint.State{Key: key}
			if obj, ok := view.Get(key); ok {
				s.Service = obj.(*corev1.Service)
			}
			switch {
			case s.Service == nil:
			case !open(view, key.Namespace):
				return change.Set{} // all goes, and nothing new may come
			case refused != nil:
				return endpoint.Refused(now, s.Service, refused)
			}
			//lint:ignore SA1019 clients read them
			s.Endpoints = at[*corev1.Endpoints](view, kind.EndpointsOf, key.Namespace, key.Name)
			if s.Service != nil {
				gather(view, &s)
			}
			return endpoint.Decide(s)
		},
	}
}

// open reports whether something may be created in a namespace.
func open(view change.View, namespace string) bool {
	obj, ok := view.Get(kind.Namespaces.Key("", namespace))
	return ok && obj.GetDeletionTimestamp() == nil
}

// gather reads the slices of a Service, and the pods that it is for.
func gather(view change.View, s *endpoint.State) {
	for obj := range view.Index(kind.EndpointSlices, kind.SlicesOf(s.Key.Namespace, s.Key.Name)) {
		s.Slices = append(s.Slices, obj.(*discoveryv1.EndpointSlice))
	}
	if len(s.Service.Spec.Selector) > 0 {
		for obj := range view.List(kind.Pods, s.Key.Namespace) {
			if endpoint.Selects(s.Service, obj.GetLabels()) {
				s.Pods = append(s.Pods, obj.(*corev1.Pod))
			}
		}
	}
	s.Zone = func(name string) (string, bool) {
		node := at[*corev1.Node](view, kind.Nodes, "", name)
		if node == nil {
			return "", false
		}
		return node.Labels[corev1.LabelTopologyZone], true
	}
}

// endpointDirties adds the Services that a write concerns. A pod costs nothing where no
// Service has a selector for it, and nothing at all in a namespace without Services.
func endpointDirties(view change.View, ev change.Event, add func(change.Key)) {
	switch ev.Key.Resource {
	case kind.Services:
		if !isAPI(ev.Key) {
			add(ev.Key)
		}
	case kind.EndpointsOf:
		service := kind.Services.Key(ev.Key.Namespace, ev.Key.Name)
		_, ok := view.Get(service)
		// Endpoints may come before their Service; those that a Service has had go with it.
		if !isAPI(ev.Key) && (ok || ev.Op == change.Create && endpoint.Ours(ev.Object)) {
			add(service)
		}
	case kind.EndpointSlices:
		for _, obj := range []change.Object{ev.Object, ev.Prev} {
			if obj == nil || isAPI(ev.Key) {
				continue
			}
			service := kind.Services.Key(ev.Key.Namespace, obj.GetLabels()[discoveryv1.LabelServiceName])
			if _, ok := view.Get(service); ok {
				add(service)
			}
		}
	case kind.Pods:
		podServices(view, ev, add)
	case kind.Nodes:
		if zoneOf(ev.Object) != zoneOf(ev.Prev) || ev.Op != change.Update {
			for obj := range view.List(kind.Services, "") {
				if len(obj.(*corev1.Service).Spec.Selector) > 0 {
					add(kind.Services.Key(obj.GetNamespace(), obj.GetName()))
				}
			}
		}
	}
}

// podServices adds the Services that see a change of a pod.
func podServices(view change.View, ev change.Event, add func(change.Key)) {
	var old, pod *corev1.Pod
	if ev.Prev != nil {
		old = ev.Prev.(*corev1.Pod)
	}
	pod = ev.Object.(*corev1.Pod)
	if ev.Op == change.Delete {
		if old == nil {
			old = pod
		}
		pod = nil
	}
	changed, seen := false, false
	for obj := range view.List(kind.Services, ev.Key.Namespace) {
		if !seen { // not before there is a Service: most pods of a batch have none
			if changed, seen = endpoint.Concerns(old, pod), true; !changed {
				return
			}
		}
		service := obj.(*corev1.Service)
		if old != nil && endpoint.Selects(service, old.Labels) || pod != nil && endpoint.Selects(service, pod.Labels) {
			add(kind.Services.Key(service.Namespace, service.Name))
		}
	}
}

func zoneOf(obj change.Object) string {
	if obj == nil {
		return ""
	}
	return obj.GetLabels()[corev1.LabelTopologyZone]
}

// isAPI reports whether a key is of the Service kubernetes, or of what belongs to it.
func isAPI(key change.Key) bool {
	return key.Namespace == metav1.NamespaceDefault && key.Name == endpoint.APIName
}

// apiController keeps the Service by which pods find the API, with its endpoints.
func apiController(api endpoint.API) Controller {
	all := api.Keys()
	return Controller{
		Name:  "api",
		Every: time.Second,
		Dirties: func(_ change.View, ev change.Event, add func(change.Key)) {
			if isAPI(ev.Key) || ev.Key == kind.Namespaces.Key("", metav1.NamespaceDefault) {
				add(all[0])
			}
		},
		Decide: func(_ time.Time, view change.View, _ change.Key, _ error) change.Set {
			if !open(view, metav1.NamespaceDefault) {
				return change.Set{}
			}
			return api.Decide(view.Get)
		},
	}
}
