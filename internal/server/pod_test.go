package server

import (
	"bufio"
	"context"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	quantity "k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestPodAdmission(t *testing.T) {
	t.Parallel()
	setup(t).run(t, []probe{
		{name: "create", method: "POST", path: pods, body: podBody, code: 201, has: []string{
			`"serviceAccountName":"default"`, `"serviceAccount":"default"`, `"priority":0`, `"preemptionPolicy":"PreemptLowerPriority"`,
			`"key":"node.kubernetes.io/not-ready","operator":"Exists","effect":"NoExecute","tolerationSeconds":300`,
			`"phase":"Pending"`, `"qosClass":"BestEffort"`, `"imagePullPolicy":"Always"`}},
		{name: "no such account", method: "POST", path: pods, code: 403,
			body:    `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"q"},"spec":{"serviceAccountName":"sa","containers":[{"name":"m","image":"i"}]}}`,
			message: `pods "q" is forbidden: error looking up service account default/sa: serviceaccount "sa" not found`},
		{name: "no such priority", method: "POST", path: pods, code: 403,
			body:    `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"q"},"spec":{"priorityClassName":"high","containers":[{"name":"m","image":"i"}]}}`,
			message: `pods "q" is forbidden: no PriorityClass with name high was found`},
		{name: "status", method: "PATCH", path: pods + "/p/status", header: map[string]string{"Content-Type": "application/strategic-merge-patch+json"}, code: 200,
			body: `{"status":{"phase":"Running"}}`, has: []string{`"phase":"Running"`}},
	})
}

func TestEphemeralContainers(t *testing.T) {
	t.Parallel()
	const e = pods + "/p/ephemeralcontainers"
	strategic := map[string]string{"Content-Type": "application/strategic-merge-patch+json"}
	add := func(fields string) string {
		return `{"metadata":{"labels":{"a":"b"}},"spec":{"activeDeadlineSeconds":5,"ephemeralContainers":[{` + fields + `}]}}`
	}
	setup(t).run(t, []probe{
		{name: "create with one", method: "POST", path: pods, code: 422, has: []string{`spec.ephemeralContainers: Forbidden: cannot be set on create`},
			body: strings.Replace(podBody, `"containers"`, `"ephemeralContainers":[{"name":"d","image":"i"}],"containers"`, 1)},
		{name: "create", method: "POST", path: pods, body: podBody, code: 201},
		{name: "get", path: e, code: 200, has: []string{`"kind":"Pod"`, `"name":"p"`}},
		{name: "none", path: pods + "/none/ephemeralcontainers", code: 404, message: `pods "none" not found`},
		{name: "add", method: "PATCH", path: e, header: strategic, code: 200, body: add(`"name":"d","image":"i","targetContainerName":"main"`),
			has: []string{`"generation":2`, `"targetContainerName":"main"`, `"terminationMessagePolicy":"File"`, `"imagePullPolicy":"Always"`}},
		{name: "nothing else is changed", path: pods + "/p", code: 200, has: []string{`"name":"d"`}, not: []string{`activeDeadlineSeconds`, `"a":"b"`}},
		{name: "nothing new", method: "PATCH", path: e, header: strategic, code: 200, body: `{}`, has: []string{`"generation":2`}},
		{name: "change", method: "PATCH", path: e, header: strategic, code: 422, body: add(`"name":"d","image":"j"`),
			has: []string{`existing ephemeral containers \"d\" may not be changed`}},
		{name: "remove", method: "PATCH", path: e, header: map[string]string{"Content-Type": "application/json-patch+json"}, code: 422,
			body: `[{"op":"remove","path":"/spec/ephemeralContainers"}]`, has: []string{`existing ephemeral containers \"d\" may not be removed`}},
		{name: "the name of another", method: "PATCH", path: e, header: strategic, code: 422, body: add(`"name":"main","image":"i"`),
			has: []string{`spec.ephemeralContainers[0].name: Duplicate value: \"main\"`}},
		{name: "no such target", method: "PATCH", path: e, header: strategic, code: 422, body: add(`"name":"f","image":"i","targetContainerName":"x"`),
			has: []string{`spec.ephemeralContainers[0].targetContainerName: Not found: \"x\"`}},
		{name: "what it may not have", method: "PATCH", path: e, header: strategic, code: 422, has: []string{
			`spec.ephemeralContainers[0].resources: Forbidden: cannot be set for an Ephemeral Container`,
			`spec.ephemeralContainers[0].ports: Forbidden: cannot be set for an Ephemeral Container`},
			body: add(`"name":"f","image":"i","ports":[{"containerPort":80}],"resources":{"limits":{"cpu":"1"}}`)},
		{name: "through the pod", method: "PATCH", path: pods + "/p", header: strategic, code: 422, body: `{"spec":{"ephemeralContainers":[{"name":"g","image":"i"}]}}`,
			has: []string{`pod updates may not change fields other than`}},
		{name: "no such field", method: "PATCH", path: e + "?fieldValidation=Strict", header: strategic, code: 422, has: []string{`unknown field \"spec.ephemeralContainers[0].nonsense\"`}, body: add(`"name":"f","nonsense":1`)},
		{name: "a new revision", method: "PATCH", path: e, header: strategic, code: 409, body: `{"metadata":{"resourceVersion":"1"},"spec":{}}`},
		{name: "create through it", method: "POST", path: e, body: podBody, code: 405},
		{name: "apply", method: "PATCH", path: e + "?fieldManager=me", header: map[string]string{"Content-Type": "application/apply-patch+yaml"}, code: 200,
			body: `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"p"},"spec":{"ephemeralContainers":[{"name":"k","image":"i"}]}}`,
			has:  []string{`"name":"d"`, `"name":"k"`, `"subresource":"ephemeralcontainers"`}},
		{name: "discovery", path: "/api/v1", code: 200, has: []string{`"name":"pods/ephemeralcontainers","singularName":"","namespaced":true,"kind":"Pod","verbs":["get","patch","update"]`}},
	})
}

func TestResize(t *testing.T) {
	t.Parallel()
	const r = pods + "/p/resize"
	strategic := map[string]string{"Content-Type": "application/strategic-merge-patch+json"}
	f := setup(t)
	f.put(t, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n"}, Status: corev1.NodeStatus{Allocatable: corev1.ResourceList{
		"cpu": quantity.MustParse("4"), "memory": quantity.MustParse("8Gi")}}})
	size := func(requests, limits string) string {
		return `{"metadata":{"labels":{"a":"b"}},"spec":{"activeDeadlineSeconds":5,"containers":[{"name":"main","image":"other","resources":{"requests":{` + requests + `},"limits":{` + limits + `}}}]}}`
	}
	body := strings.Replace(podBody, `"image":"busybox"`, `"image":"busybox","resources":{"requests":{"cpu":"1","memory":"1Gi"},"limits":{"cpu":"2"}}`, 1)
	f.run(t, []probe{
		{name: "create", method: "POST", path: pods, code: 201, body: strings.Replace(body, `"containers"`, `"nodeName":"n","containers"`, 1)},
		{name: "get", path: r, code: 200, has: []string{`"kind":"Pod"`}},
		{name: "resize", method: "PATCH", path: r, header: strategic, code: 200, body: size(`"cpu":"1500m"`, `"cpu":"3"`),
			has: []string{`"limits":{"cpu":"3"},"requests":{"cpu":"1500m","memory":"1Gi"}`, `"generation":2`}, not: []string{`activeDeadlineSeconds`, `"a":"b"`, `"other"`}},
		{name: "through the pod", method: "PATCH", path: pods + "/p", header: strategic, code: 422, body: `{"spec":{"containers":[{"name":"main","resources":{"requests":{"cpu":"2"}}}]}}`,
			has: []string{`pod updates may not change fields other than`}},
		{name: "another quality of service", method: "PATCH", path: r, header: strategic, code: 422, body: size(`"cpu":"3"`, `"cpu":"3","memory":"1Gi"`),
			has: []string{`Pod QOS Class may not change as a result of resizing`}},
		{name: "no more request", method: "PATCH", path: r, header: map[string]string{"Content-Type": "application/json-patch+json"}, code: 422,
			body: `[{"op":"remove","path":"/spec/containers/0/resources/requests/memory"}]`, has: []string{`resource requests cannot be removed`}},
		{name: "what cannot be resized", method: "PATCH", path: r, header: strategic, code: 422, body: size(`"ephemeral-storage":"1Gi"`, ``),
			has: []string{`only cpu and memory resources are mutable`}},
		{name: "less than nothing", method: "PATCH", path: r, header: strategic, code: 422, body: size(`"cpu":"-1"`, ``),
			has: []string{`spec.containers[0].resources.requests[cpu]`, `must be greater than or equal to 0`}},
		{name: "more than the limit", method: "PATCH", path: r, header: strategic, code: 422, body: size(`"cpu":"4"`, ``), has: []string{`must be less than or equal to cpu limit of 3`}},
		{name: "more than the node has", method: "PATCH", path: r, header: strategic, code: 403, body: size(`"cpu":"5","memory":"9Gi"`, `"cpu":"6"`), reason: "Forbidden",
			message: `pods "p" is forbidden: node didn't have enough allocatable resources: cpu, requested: 5000, allocatable: 4000; memory, requested: 9663676416, allocatable: 8589934592`},
		{name: "another container", method: "PATCH", path: r, header: map[string]string{"Content-Type": "application/merge-patch+json"}, code: 422,
			body: `{"spec":{"containers":[{"name":"main","image":"busybox"},{"name":"more","image":"i"}]}}`},
		{name: "dry run", method: "PATCH", path: r + "?dryRun=All", header: strategic, code: 200, body: size(`"cpu":"2"`, `"cpu":"3"`), has: []string{`"cpu":"2"`}},
		{name: "is as it was", path: pods + "/p", code: 200, has: []string{`"cpu":"1500m"`}},
		{name: "apply", method: "PATCH", path: r + "?fieldManager=me&force=true", header: map[string]string{"Content-Type": "application/apply-patch+yaml"}, code: 200,
			body: `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"p"},"spec":{"containers":[{"name":"main","resources":{"requests":{"cpu":"1750m"}}}]}}`,
			has:  []string{`"cpu":"1750m"`, `"subresource":"resize"`}},
	})
	f.put(t, &corev1.LimitRange{ObjectMeta: metav1.ObjectMeta{Name: "l", Namespace: "default"}, Spec: corev1.LimitRangeSpec{
		Limits: []corev1.LimitRangeItem{{Type: corev1.LimitTypeContainer, Max: corev1.ResourceList{"cpu": quantity.MustParse("3500m")}}}}})
	f.run(t, []probe{
		{name: "more than a LimitRange allows", method: "PATCH", path: r, header: strategic, code: 403, body: size(`"cpu":"2"`, `"cpu":"4"`),
			message: `pods "p" is forbidden: maximum cpu usage per Container is 3500m, but limit is 4`},
	})
}

func TestBinding(t *testing.T) {
	t.Parallel()
	f := setup(t)
	binding := func(name, node string) string {
		return `{"apiVersion":"v1","kind":"Binding","metadata":{"name":"` + name + `","annotations":{"by":"me"}},"target":{"kind":"Node","name":"` + node + `"}}`
	}
	f.run(t, []probe{
		{name: "create", method: "POST", path: pods, body: podBody, code: 201},
		{name: "bind without node", method: "POST", path: pods + "/p/binding", body: binding("p", ""), code: 500, has: []string{"target.name: Required value"}},
		{name: "bind another", method: "POST", path: pods + "/p/binding", body: binding("q", "n"), code: 400},
		{name: "bind for another uid", method: "POST", path: pods + "/p/binding", body: strings.Replace(binding("p", "n"), `"name"`, `"uid":"x","name"`, 1), code: 409},
		{name: "dry run", method: "POST", path: pods + "/p/binding?dryRun=All", body: binding("p", "n"), code: 201},
		{name: "bind", method: "POST", path: pods + "/p/binding", body: binding("p", "n"), code: 201, has: []string{`"status":"Success"`}},
		{name: "is bound", path: pods + "/p", code: 200, has: []string{`"nodeName":"n"`, `"by":"me"`, `"type":"PodScheduled","status":"True"`}},
		{name: "bind again", method: "POST", path: pods + "/p/binding", body: binding("p", "m"), code: 409, reason: "Conflict",
			message: `Operation cannot be fulfilled on pods/binding "p": pod p is already assigned to node "n"`},
		{name: "bind what is not there", method: "POST", path: pods + "/none/binding", body: binding("none", "m"), code: 404, message: `pods "none" not found`},
		{name: "another pod", method: "POST", path: pods, body: strings.Replace(podBody, `"p"`, `"q"`, 1), code: 201},
		{name: "the old way", method: "POST", path: "/api/v1/namespaces/default/bindings", body: binding("q", "n"), code: 201},
		{name: "is bound too", path: pods + "/q", code: 200, has: []string{`"nodeName":"n"`}},
	})
}

func TestEviction(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.put(t, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p", Namespace: "default", UID: "u"},
		Spec: corev1.PodSpec{NodeName: "n", TerminationGracePeriodSeconds: new(int64(30)), Containers: []corev1.Container{{Name: "m", Image: "i"}}}})
	evict := func(o *metav1.DeleteOptions) error {
		return f.client.PolicyV1().Evictions("default").Evict(t.Context(), &policyv1.Eviction{
			ObjectMeta: metav1.ObjectMeta{Name: "p", Namespace: "default"}, DeleteOptions: o})
	}
	const another = `Operation cannot be fulfilled on Pod "p": the UID in the precondition (x) does not match the UID in record (`
	if err := evict(&metav1.DeleteOptions{Preconditions: metav1.NewUIDPreconditions("x")}); err == nil || !strings.HasPrefix(err.Error(), another) {
		t.Errorf("the pod of another uid was evicted: %v", err)
	}
	if err := evict(&metav1.DeleteOptions{DryRun: []string{"All"}}); err != nil {
		t.Error(err)
	}
	pod, err := f.client.CoreV1().Pods("default").Get(t.Context(), "p", metav1.GetOptions{})
	if err != nil || pod.DeletionTimestamp != nil || len(pod.Status.Conditions) > 0 {
		t.Fatalf("got %+v, %v", pod, err)
	}
	if err := evict(nil); err != nil {
		t.Fatal(err)
	}
	pod, err = f.client.CoreV1().Pods("default").Get(t.Context(), "p", metav1.GetOptions{})
	if err != nil || pod.DeletionTimestamp == nil || pod.Status.Conditions[0].Reason != "EvictionByEvictionAPI" {
		t.Errorf("got %+v, %v", pod, err)
	}
	f.run(t, []probe{{name: "of nothing", method: "POST", path: pods + "/none/eviction", code: 404,
		body: `{"apiVersion":"policy/v1","kind":"Eviction","metadata":{"name":"none"}}`}})
}

func TestLogErrors(t *testing.T) {
	t.Parallel()
	waiting := apierrors.NewBadRequest(`container "a" in pod "two" is waiting to start: ContainerCreating`)
	f := setup(t, func(o *Options) { o.Node = only("n", &fakePods{err: waiting}) })
	two := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "two", Namespace: "default", UID: "u"}, Spec: corev1.PodSpec{
		NodeName: "n", InitContainers: []corev1.Container{{Name: "init"}}, Containers: []corev1.Container{{Name: "a"}, {Name: "b"}}}}
	nowhere := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "nowhere", Namespace: "default", UID: "v"},
		Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "a"}}}}
	away := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "away", Namespace: "default", UID: "w"},
		Spec: corev1.PodSpec{NodeName: "m", Containers: []corev1.Container{{Name: "a"}}}}
	f.put(t, two, nowhere, away)
	f.run(t, []probe{
		{name: "no pod", path: pods + "/none/log", code: 404, message: `pods "none" not found`},
		{name: "no container", path: pods + "/two/log", code: 400, reason: "BadRequest",
			message: `a container name must be specified for pod two, choose one of: [init a b]`},
		{name: "no such container", path: pods + "/two/log?container=x", code: 400, message: `container x is not valid for pod two`},
		{name: "what the node says", path: pods + "/two/log?container=a", code: 400, message: waiting.Error()},
		{name: "nowhere yet", path: pods + "/nowhere/log", code: 204},
		{name: "on another node", path: pods + "/away/log", code: 500, has: []string{`node \"m\" is not connected`}},
		{name: "a negative tail", path: pods + "/two/log?container=a&tailLines=-1", code: 422, has: []string{"tailLines: Invalid value: -1: must be greater than or equal to 0"}},
		{name: "no bytes", path: pods + "/two/log?container=a&limitBytes=0", code: 422, has: []string{"limitBytes: Invalid value: 0: must be greater than 0"}},
		{name: "since twice", path: pods + "/two/log?container=a&sinceSeconds=1&sinceTime=2026-01-02T03:04:05Z", code: 422,
			has: []string{"at most one of `sinceTime` or `sinceSeconds` may be specified"}},
		{name: "no number", path: pods + "/two/log?container=a&tailLines=x", code: 400},
		{name: "one stream and a tail", path: pods + "/two/log?container=a&stream=Stdout&tailLines=1", code: 422},
	})
}

func TestLogStream(t *testing.T) {
	t.Parallel()
	fake := &fakePods{log: "one\ntwo\n", asked: make(chan corev1.PodLogOptions, 1)}
	f := setup(t, func(o *Options) { o.Node = only("n", fake) })
	f.put(t, &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "p", Namespace: "default", UID: "u"},
		Spec:       corev1.PodSpec{NodeName: "n", Containers: []corev1.Container{{Name: "c"}}},
		Status: corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{
			{Name: "c", State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}}}},
	})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	stream, err := f.client.CoreV1().Pods("default").GetLogs("p", &corev1.PodLogOptions{Follow: true, Timestamps: true, TailLines: new(int64(2))}).Stream(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	lines := bufio.NewScanner(stream) // they come before the stream ends
	for _, want := range []string{"one", "two"} {
		if !lines.Scan() || lines.Text() != want {
			t.Fatalf("got %q, %v", lines.Text(), lines.Err())
		}
	}
	if asked := <-fake.asked; asked.Container != "c" || !asked.Follow || !asked.Timestamps || *asked.TailLines != 2 {
		t.Errorf("got %+v", asked)
	}
}
