package server

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// A PUT creates where Kubernetes lets it, and asks for a revision where it does.
func TestCreateOnUpdate(t *testing.T) {
	t.Parallel()
	const leases = "/apis/coordination.k8s.io/v1/namespaces/default/leases"
	lease := `{"apiVersion":"coordination.k8s.io/v1","kind":"Lease","metadata":{"name":"l"},"spec":{"holderIdentity":"me"}}`
	setup(t).run(t, []probe{
		{name: "put creates", method: "PUT", path: leases + "/l", body: lease, code: 201, has: []string{`"resourceVersion":"2"`, `"uid":"`}},
		{name: "put without revision", method: "PUT", path: leases + "/l", body: lease, code: 422,
			has: []string{"metadata.resourceVersion: Invalid value: 0: must be specified for an update"}},
		{name: "put with it", method: "PUT", path: leases + "/l", code: 200,
			body: `{"apiVersion":"coordination.k8s.io/v1","kind":"Lease","metadata":{"name":"l","resourceVersion":"2"},"spec":{"holderIdentity":"you"}}`},
		{name: "in no namespace", method: "PUT", path: "/apis/coordination.k8s.io/v1/namespaces/none/leases/l", body: lease, code: 404,
			message: `namespaces "none" not found`},
		{name: "for a uid", method: "PUT", path: leases + "/m", code: 409, reason: "Conflict",
			body: `{"apiVersion":"coordination.k8s.io/v1","kind":"Lease","metadata":{"name":"m","uid":"x"},"spec":{}}`},
	})
}

// Events are the same objects in both groups.
func TestEvents(t *testing.T) {
	t.Parallel()
	f := setup(t)
	_, err := f.client.CoreV1().Events("default").Create(t.Context(), &corev1.Event{
		ObjectMeta: metav1.ObjectMeta{Name: "e", Namespace: "default"}, Reason: "Started", Message: "it runs", Type: "Normal",
		InvolvedObject: corev1.ObjectReference{Kind: "Job", Namespace: "default", Name: "pi"},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	found, err := f.client.EventsV1().Events("default").List(t.Context(), metav1.ListOptions{FieldSelector: "regarding.name=pi"})
	if err != nil || len(found.Items) != 1 || found.Items[0].Note != "it runs" {
		t.Fatalf("got %+v, %v", found, err)
	}
	none, err := f.client.CoreV1().Events("default").List(t.Context(), metav1.ListOptions{FieldSelector: "involvedObject.name=other"})
	if err != nil || len(none.Items) != 0 {
		t.Errorf("got %+v, %v", none, err)
	}
	w, err := f.client.EventsV1().Events("default").Watch(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	if e := <-w.ResultChan(); e.Object.(*eventsv1.Event).Regarding.Name != "pi" {
		t.Errorf("got %+v", e)
	}
	f.run(t, []probe{{name: "delete leaves nothing to wait for", method: "DELETE", path: "/api/v1/namespaces/default/events/e?propagationPolicy=Foreground", code: 200},
		{name: "is gone", path: "/apis/events.k8s.io/v1/namespaces/default/events/e", code: 404, message: `events.events.k8s.io "e" not found`}})
}
