package control

import (
	"fmt"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/sampan-batch/sampan/internal/address"
	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/endpoint"
	"github.com/sampan-batch/sampan/internal/kind"
)

//lint:file-ignore SA1019 Endpoints are tested, too

func (b *bundle) slices(namespace, service string) (all []*discoveryv1.EndpointSlice) {
	for obj := range b.store.View().Index(kind.EndpointSlices, kind.SlicesOf(namespace, service)) {
		all = append(all, obj.(*discoveryv1.EndpointSlice))
	}
	return all
}

// put creates an object as it is, status included.
func (b *bundle) put(resource change.Resource, obj change.Object) {
	b.t.Helper()
	obj.SetUID(types.UID("uid-" + obj.GetName()))
	var set change.Set
	set.Create(resource.Key(obj.GetNamespace(), obj.GetName()), obj)
	b.apply(set)
}

func servicePod(i int, ready bool) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: fmt.Sprintf("p%04d", i), Labels: map[string]string{"app": "web"}}}
	p.Spec.NodeName = "n"
	p.Spec.Containers = []corev1.Container{{Name: "c", Image: "i"}}
	p.Status.PodIP = fmt.Sprintf("10.1.%d.%d", i/250, i%250+1)
	p.Status.PodIPs = []corev1.PodIP{{IP: p.Status.PodIP}}
	p.Status.Phase = corev1.PodRunning
	if ready {
		p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
	}
	return p
}

func webService() *corev1.Service {
	s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web"}}
	s.Spec = corev1.ServiceSpec{
		Type: corev1.ServiceTypeClusterIP, ClusterIP: "10.96.0.9", ClusterIPs: []string{"10.96.0.9"}, IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol},
		Selector: map[string]string{"app": "web"}, Ports: []corev1.ServicePort{{Port: 80, Protocol: corev1.ProtocolTCP}},
	}
	return s
}

// TestEndpointsFollowPods: many pods that come at once are a few writes, and what becomes of
// them is seen.
func TestEndpointsFollowPods(t *testing.T) {
	bubble(t, func(b *bundle) {
		t := b.t
		b.namespace("default")
		b.node("n")
		b.put(kind.Services, webService())
		b.settle()
		if s := b.slices("default", "web"); len(s) != 1 || len(s[0].Endpoints) != 0 || len(s[0].Name) != len("web-12345") {
			t.Fatalf("a service without pods has %v", s)
		}
		synctest.Wait()
		from := b.store.View().Rev()
		for i := range 300 {
			b.put(kind.Pods, servicePod(i, true))
		}
		b.settle()
		writes := b.store.View().Rev() - from - 300
		ready := 0
		for _, s := range b.slices("default", "web") {
			ready += len(s.Endpoints)
		}
		if ready != 300 || writes > 12 {
			t.Errorf("300 pods are %d endpoints, in %d writes", ready, writes)
		}
		key := kind.Pods.Key("default", "p0007")
		obj, _ := b.store.View().Get(key)
		gone := obj.DeepCopyObject().(*corev1.Pod)
		gone.Labels = nil
		b.apply(change.Set{Writes: []change.Write{{Op: change.Update, Key: key, Rev: change.RevOf(obj), Object: gone}}})
		b.settle()
		ready = 0
		for _, s := range b.slices("default", "web") {
			ready += len(s.Endpoints)
		}
		if ready != 299 {
			t.Errorf("a pod that lost its label: %d endpoints", ready)
		}
		from = b.store.View().Rev()
		b.settle()
		if now := b.store.View().Rev(); now != from {
			t.Errorf("at rest %d revisions were written", now-from)
		}
		// What somebody deletes comes back, and all goes with the Service.
		s := b.slices("default", "web")[0]
		b.apply(change.Set{Writes: []change.Write{{Op: change.Delete, Key: kind.EndpointSlices.Key("default", s.Name), Rev: change.RevOf(s)}}})
		b.settle()
		ready = 0
		for _, s := range b.slices("default", "web") {
			ready += len(s.Endpoints)
		}
		if ready != 299 {
			t.Errorf("after a slice was deleted: %d endpoints", ready)
		}
		service, _ := b.store.View().Get(kind.Services.Key("default", "web"))
		b.apply(change.Set{Writes: []change.Write{{Op: change.Delete, Key: kind.Services.Key("default", "web"), Rev: change.RevOf(service)}}})
		b.settle()
		_, left := b.store.View().Get(kind.EndpointsOf.Key("default", "web"))
		if n := len(b.slices("default", "web")); n != 0 || left {
			t.Errorf("without the service there are %d slices, endpoints: %v", n, left)
		}
	})
}

// TestOldServicesGetAddresses: those that were stored before there were any.
func TestOldServicesGetAddresses(t *testing.T) {
	bubble(t, func(b *bundle) {
		b.namespace("default")
		b.node("n")
		old := webService()
		old.Spec.ClusterIP, old.Spec.ClusterIPs, old.Spec.IPFamilies = "", nil, nil
		old.Spec.Type = corev1.ServiceTypeNodePort
		// A store without that core has written it.
		given, err := address.Account(b.store.View(), []change.Write{{Op: change.Create, Key: kind.Services.Key("default", "web"), Object: old.DeepCopy()}})
		if err != nil || len(given) != 1 || old.Spec.ClusterIP != "" {
			b.t.Fatalf("%v %v", given, err)
		}
		bare := endpoint.State{Key: kind.Services.Key("default", "web"), Service: old}
		set := endpoint.Decide(bare)
		if len(set.Writes) != 1 || set.Writes[0].Op != change.Update {
			b.t.Fatalf("%+v", set)
		}
		b.put(kind.Services, set.Writes[0].Object)
		b.settle()
		obj, _ := b.store.View().Get(kind.Services.Key("default", "web"))
		if s := obj.(*corev1.Service).Spec; s.ClusterIP == "" || s.Ports[0].NodePort == 0 || len(b.slices("default", "web")) != 1 {
			b.t.Errorf("got %+v", s)
		}
	})
}

// TestNoServiceNoWork: where no Service is, a pod makes nothing dirty.
func TestNoServiceNoWork(t *testing.T) {
	bubble(t, func(b *bundle) {
		b.namespace("default")
		b.node("n")
		b.namespace("other")
		web := webService()
		web.Namespace = "other"
		b.put(kind.Services, web)
		b.settle()
		view := b.store.View()
		look := func(ev change.Event) (keys []change.Key) {
			endpointDirties(view, ev, func(key change.Key) { keys = append(keys, key) })
			return keys
		}
		pod := servicePod(1, true)
		if keys := look(change.Event{Op: change.Create, Key: kind.Pods.Key("default", pod.Name), Object: pod}); len(keys) != 0 {
			b.t.Errorf("a pod of another namespace than the service's makes dirty %v", keys)
		}
		pod.Namespace = "other"
		if keys := look(change.Event{Op: change.Create, Key: kind.Pods.Key("other", pod.Name), Object: pod}); len(keys) != 1 {
			b.t.Errorf("a pod of the service makes dirty %v", keys)
		}
		same := pod.DeepCopy()
		same.Annotations = map[string]string{"a": "b"}
		if keys := look(change.Event{Op: change.Update, Key: kind.Pods.Key("other", pod.Name), Object: same, Prev: pod}); len(keys) != 0 {
			b.t.Errorf("a change that no service sees makes dirty %v", keys)
		}
	})
}

// TestAPIService: what belongs to the Service kubernetes comes back, as it has to be.
func TestAPIService(t *testing.T) {
	bubble(t, func(b *bundle) {
		t := b.t
		b.namespace("default")
		b.settle()
		api := endpoint.API{At: netip.MustParseAddrPort("192.0.2.1:6443")}
		b.apply(api.Decide(b.store.View().Get))
		if again := api.Decide(b.store.View().Get); len(again.Writes) != 0 {
			t.Errorf("a second look writes %+v", again.Writes)
		}
		for _, key := range api.Keys() {
			obj, ok := b.store.View().Get(key)
			if !ok {
				t.Fatalf("no %s", key)
			}
			if errs := b.kinds.ByResource(key.Resource).Create.Check(obj); len(errs) > 0 {
				t.Errorf("the API would refuse %s: %v", key, errs)
			}
		}
		moved := endpoint.API{At: netip.MustParseAddrPort("192.0.2.2:7443")}
		c := apiController(moved)
		var dirty []change.Key
		c.Dirties(b.store.View(), change.Event{Op: change.Delete, Key: api.Keys()[2]}, func(key change.Key) { dirty = append(dirty, key) })
		if len(dirty) != 1 {
			t.Errorf("a slice that is deleted makes dirty %v", dirty)
		}
		set := c.Decide(time.Now(), b.store.View(), api.Keys()[0], nil)
		b.apply(set)
		slice, _ := b.store.View().Get(api.Keys()[2])
		if s := slice.(*discoveryv1.EndpointSlice); len(set.Writes) != 3 || s.Endpoints[0].Addresses[0] != "192.0.2.2" || *s.Ports[0].Port != 7443 {
			t.Errorf("an API elsewhere: %d writes, %+v", len(set.Writes), s)
		}
		b.settle()
		if n := len(b.slices("default", endpoint.APIName)); n != 1 {
			t.Errorf("the service kubernetes has %d slices", n)
		}
	})
}
