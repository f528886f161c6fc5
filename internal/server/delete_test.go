package server

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/kind"
)

func TestDelete(t *testing.T) {
	t.Parallel()
	f := setup(t)
	held := func(name string, finalizers ...string) *corev1.ConfigMap {
		return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default", UID: "u", Finalizers: finalizers}}
	}
	f.put(t, held("a"), held("b"), held("held", "example.com/f"), held("both", "example.com/f"))
	const orphanWarning = "child pods are preserved by default when jobs are deleted"
	merge := map[string]string{"Content-Type": "application/merge-patch+json"}
	f.run(t, []probe{
		{name: "what is not there", method: "DELETE", path: cms + "/none", code: 404, message: `configmaps "none" not found`},
		{name: "another uid", method: "DELETE", path: cms + "/a", body: `{"preconditions":{"uid":"other"}}`, code: 409, reason: "Conflict",
			message: `Operation cannot be fulfilled on ConfigMap "a": the UID in the precondition (other) does not match the UID in record (u). The object might have been deleted and then recreated`},
		{name: "another revision", method: "DELETE", path: cms + "/a", body: `{"preconditions":{"resourceVersion":"1"}}`, code: 409, reason: "Conflict",
			has: []string{"the ResourceVersion in the precondition (1) does not match the ResourceVersion in record (2)"}},
		{name: "a wrong policy", method: "DELETE", path: cms + "/a?propagationPolicy=Maybe", code: 422, reason: "Invalid"},
		{name: "dry run", method: "DELETE", path: cms + "/a?dryRun=All", code: 200},
		{name: "after which it is there", path: cms + "/a", code: 200},
		{name: "at once", method: "DELETE", path: cms + "/a", code: 200, has: []string{`"kind":"Status"`, `"status":"Success"`, `"name":"a"`, `"kind":"configmaps"`, `"uid":"u"`}},
		{name: "after which it is gone", path: cms + "/a", code: 404},

		{name: "held by a finalizer", method: "DELETE", path: cms + "/held", code: 200, has: []string{`"deletionTimestamp":"`, `"deletionGracePeriodSeconds":0`}},
		{name: "is still there", path: cms + "/held", code: 200, has: []string{`"deletionTimestamp":"`}},
		{name: "delete again", method: "DELETE", path: cms + "/held", code: 200, has: []string{`"deletionTimestamp":"`}},
		{name: "creating it anew", method: "POST", path: cms, body: cmBody("held", "1"), code: 409, message: `object is being deleted: configmaps "held" already exists`},
		{name: "no new finalizers", method: "PATCH", path: cms + "/held", header: merge, body: `{"metadata":{"finalizers":["example.com/f","example.com/g"]}}`, code: 422,
			has: []string{"no new finalizers can be added if the object is being deleted"}},
		{name: "releasing it", method: "PATCH", path: cms + "/held", header: merge, body: `{"metadata":{"finalizers":null}}`, code: 200},
		{name: "lets it go", path: cms + "/held", code: 404},

		{name: "foreground", method: "DELETE", path: cms + "/b?propagationPolicy=Foreground", code: 200, has: []string{`"finalizers":["foregroundDeletion"]`, `"deletionTimestamp":"`}},
		{name: "then background", method: "DELETE", path: cms + "/b?propagationPolicy=Background", code: 200, has: []string{`"status":"Success"`}},
		{name: "orphan", method: "DELETE", path: cms + "/both?propagationPolicy=Orphan", code: 200, has: []string{`"finalizers":["example.com/f","orphan"]`}},
		{name: "then foreground", method: "DELETE", path: cms + "/both?propagationPolicy=Foreground", code: 200, has: []string{`"finalizers":["example.com/f","foregroundDeletion"]`}},

		{name: "a Job", method: "POST", path: jobs, body: jobBody, code: 201},
		{name: "orphans by default, and says so", method: "DELETE", path: jobs + "/pi?dryRun=All", code: 200, has: []string{`"orphan"`}, warning: orphanWarning},
		{name: "as a collection too", method: "DELETE", path: jobs + "?dryRun=All", code: 200, has: []string{`"kind":"JobList"`}, warning: orphanWarning},
		{name: "not when it is told", method: "DELETE", path: jobs + "/pi?propagationPolicy=Background", code: 200, not: []string{"orphan"}},
	})
}

func TestDeleteCollection(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.put(t, configMaps("default", "a", "b", "c")...)
	f.put(t, configMaps("other", "a")...)
	cms := f.client.CoreV1().ConfigMaps("default")
	if err := cms.DeleteCollection(t.Context(), metav1.DeleteOptions{}, metav1.ListOptions{LabelSelector: "name!=b"}); err != nil {
		t.Fatal(err)
	}
	left, err := f.client.CoreV1().ConfigMaps("").List(t.Context(), metav1.ListOptions{})
	if err != nil || listed(left) != "default/b other/a" {
		t.Errorf("got %s, %v", listed(left), err)
	}
}

// A running pod is deleted when its node says that it has ended.
func TestGracefulDelete(t *testing.T) {
	t.Parallel()
	f := setup(t)
	pod := func(name, node string) *corev1.Pod {
		return &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default", UID: "u", Generation: 1},
			Spec:       corev1.PodSpec{NodeName: node, TerminationGracePeriodSeconds: ptr.To[int64](30), Containers: []corev1.Container{{Name: "main", Image: "i"}}},
		}
	}
	f.put(t, pod("running", "n"), pod("waiting", ""))
	f.run(t, []probe{
		{name: "a pod that runs nowhere", method: "DELETE", path: pods + "/waiting", code: 200, has: []string{`"kind":"Pod"`}},
		{name: "is gone", path: pods + "/waiting", code: 404},
		{name: "a running pod", method: "DELETE", path: pods + "/running", code: 200, has: []string{`"deletionGracePeriodSeconds":30`, `"generation":2`}},
		{name: "again", method: "DELETE", path: pods + "/running", code: 200, has: []string{`"deletionGracePeriodSeconds":30`}},
		{name: "with more grace", method: "DELETE", path: pods + "/running", body: `{"gracePeriodSeconds":60}`, code: 200, has: []string{`"deletionGracePeriodSeconds":30`}},
		{name: "with less", method: "DELETE", path: pods + "/running", body: `{"gracePeriodSeconds":5}`, code: 200, has: []string{`"deletionGracePeriodSeconds":5`, `"generation":2`}},
		{name: "is still there", path: pods + "/running", code: 200},
		{name: "by force", method: "DELETE", path: pods + "/running", body: `{"gracePeriodSeconds":0}`, code: 200},
		{name: "is gone too", path: pods + "/running", code: 404},
	})
}

func TestNamespaceLifecycle(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.namespace(t, "x")
	f.define(t, "example.com", "boats", "Boat", "")
	f.put(t, configMaps("x", "old")...)
	f.put(t, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "x", Name: "p", UID: "u"}, Spec: corev1.PodSpec{NodeName: "n"}},
		&corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "x", Name: "sa", UID: "u"}})
	const in = "/api/v1/namespaces/x"
	const boats = "/apis/example.com/v1/namespaces/x/boats"
	const boat = `{"apiVersion":"example.com/v1","kind":"Boat","metadata":{"name":"a"}}`
	apply := map[string]string{"Content-Type": "application/apply-patch+yaml"}
	refused := func(name, method, path, body, what string) probe {
		return probe{name: name, method: method, path: path, body: body, code: 403, reason: "Forbidden",
			message: what + " is forbidden: unable to create new content in namespace x because it is being terminated",
			causes:  []string{"metadata.namespace: namespace x is being terminated"}}
	}
	applied := func(name, path, body, what string) probe {
		p := refused(name, "PATCH", path+"?fieldManager=m", body, what)
		p.header = apply
		return p
	}
	f.run(t, []probe{
		{name: "immortal", method: "DELETE", path: "/api/v1/namespaces/default", code: 403, message: `namespaces "default" is forbidden: this namespace may not be deleted`},
		{name: "delete", method: "DELETE", path: in, code: 200, has: []string{`"phase":"Terminating"`, `"finalizers":["kubernetes"]`}},
		refused("create in it", "POST", in+"/configmaps", cmBody("a", "1"), `configmaps "a"`),
		refused("what is there already", "POST", in+"/configmaps", cmBody("old", "1"), `configmaps "old"`),
		refused("without a name", "POST", in+"/configmaps", `{"metadata":{"generateName":"a-"}}`, `configmaps "a-"`),
		refused("dry run", "POST", in+"/configmaps?dryRun=All", cmBody("a", "1"), `configmaps "a"`),
		refused("an event", "POST", "/apis/events.k8s.io/v1/namespaces/x/events", `{"metadata":{"name":"e"}}`, `events.events.k8s.io "e"`),
		refused("evict", "POST", in+"/pods/p/eviction", `{"apiVersion":"policy/v1","kind":"Eviction","metadata":{"name":"p"}}`, `pods "p"`),
		refused("bind", "POST", in+"/pods/p/binding", `{"apiVersion":"v1","kind":"Binding","metadata":{"name":"p"},"target":{"name":"n"}}`, `pods "p"`),
		refused("a token", "POST", in+"/serviceaccounts/sa/token", `{"apiVersion":"authentication.k8s.io/v1","kind":"TokenRequest","spec":{"audiences":[]}}`, `serviceaccounts "sa"`),
		applied("apply", in+"/configmaps/a", cmBody("a", "1"), `configmaps "a"`),
		refused("of a definition", "POST", boats, boat, `boats.example.com "a"`),
		refused("of a definition, dry run", "POST", boats+"?dryRun=All", boat, `boats.example.com "a"`),
		applied("of a definition, apply", boats+"/a", boat, `boats.example.com "a"`),
		{name: "what there is may change", method: "PUT", path: in + "/configmaps/old", body: cmBody("old", "2"), code: 200},
		{name: "and go", method: "DELETE", path: in + "/configmaps/old", code: 200},
		{name: "who asks for rights is answered", method: "POST", path: "/apis/authorization.k8s.io/v1/namespaces/x/localsubjectaccessreviews", code: 201,
			body: `{"apiVersion":"authorization.k8s.io/v1","kind":"LocalSubjectAccessReview","metadata":{"namespace":"x"},"spec":{"user":"ann","resourceAttributes":{"namespace":"x","verb":"get","resource":"pods"}}}`},
		{name: "finalize", method: "PUT", path: in + "/finalize", code: 200,
			body: `{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"x"},"spec":{"finalizers":[]}}`},
		{name: "is gone", path: in, code: 404},
		{name: "create in what is gone", method: "POST", path: in + "/configmaps", body: cmBody("a", "1"), code: 404, message: `namespaces "x" not found`},
		{name: "of a definition, too", method: "POST", path: boats, body: boat, code: 404, message: `namespaces "x" not found`},
	})
}

// Whoever creates something while the namespace is being deleted, is before that or is refused, whether an
// admission has seen it or not.
func TestNobodyEntersLate(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.namespace(t, "x")
	cms := f.client.CoreV1().ConfigMaps("x")
	var creating sync.WaitGroup
	var last [8]uint64 // the revision of what each has created last
	begun := make(chan struct{}, len(last))
	for i := range last {
		creating.Go(func() {
			for n := 0; ; n++ {
				obj, err := cms.Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("c-%d-%d", i, n)}}, metav1.CreateOptions{})
				if err != nil {
					if !kind.NamespaceTerminates(err) {
						t.Error(err)
					}
					return
				}
				if last[i] = change.RevOf(obj); n == 0 {
					begun <- struct{}{}
				}
			}
		})
	}
	for range last {
		<-begun
	}
	if err := f.client.CoreV1().Namespaces().Delete(t.Context(), "x", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	creating.Wait()
	ns, ok := f.store.View().Get(kind.Namespaces.Key("", "x"))
	if !ok || ns.GetDeletionTimestamp() == nil {
		t.Fatalf("the namespace: %v", ns)
	}
	for _, rev := range last {
		if rev > change.RevOf(ns) {
			t.Errorf("something was created at %d, the namespace was deleted at %d", rev, change.RevOf(ns))
		}
	}
}

// Generated names that are taken are tried again.
func TestGenerateNameRetries(t *testing.T) {
	t.Parallel()
	f := setup(t)
	r := newResource(newShared(f.Server), f.kinds.ByResource("configmaps"), corev1.SchemeGroupVersion)
	names := &scripted{names: []string{"a", "a", "b"}}
	r.strategy.NameGenerator = names
	ctx := inNamespace(t, "default")
	for _, want := range []string{"gen-a", "gen-b"} {
		obj, err := r.Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{GenerateName: "gen-", Namespace: "default"}}, nil, &metav1.CreateOptions{})
		if err != nil || obj.(*corev1.ConfigMap).Name != want {
			t.Fatalf("got %v, %v, want %s", obj, err, want)
		}
	}
	names.names = []string{"a"} // for ever
	_, err := r.Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{GenerateName: "gen-", Namespace: "default"}}, nil, &metav1.CreateOptions{})
	if !apierrors.IsAlreadyExists(err) || !strings.Contains(err.Error(), "the server was not able to generate a unique name") {
		t.Errorf("got %v", err)
	}
}

// An old version is another form of the same objects.
func TestSecondVersion(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.put(t, &batchv1.CronJob{ObjectMeta: metav1.ObjectMeta{Name: "c", Namespace: "default", UID: "u"}, Spec: batchv1.CronJobSpec{Schedule: "* * * * *"}})
	const deprecated = "batch/v1beta1 CronJob is deprecated"
	f.run(t, []probe{
		{name: "get", path: "/apis/batch/v1beta1/namespaces/default/cronjobs/c", code: 200, warning: deprecated, has: []string{`"apiVersion":"batch/v1beta1"`, `"kind":"CronJob"`}},
		{name: "list", path: "/apis/batch/v1beta1/namespaces/default/cronjobs", code: 200, warning: deprecated, has: []string{`"apiVersion":"batch/v1beta1"`, `"kind":"CronJobList"`}},
		{name: "in v1", path: "/apis/batch/v1/namespaces/default/cronjobs/c", code: 200, has: []string{`"apiVersion":"batch/v1"`}},
	})
}
