package server

import (
	"bufio"
	"context"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sampan-batch/sampan/internal/change"
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
	if err := evict(&metav1.DeleteOptions{Preconditions: metav1.NewUIDPreconditions("x")}); err == nil {
		t.Error("the pod of another uid was evicted")
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
	f := setup(t, func(o *Options) { o.Pods = &fakePods{log: "line\n", asked: make(chan corev1.PodLogOptions, 100)} })
	ran := corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ContainerID: "sampan://1"}}
	waits := func(reason string) corev1.ContainerState {
		return corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason}}
	}
	pod := func(name, node string, statuses ...corev1.ContainerStatus) change.Object {
		p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default", UID: "u"}, Spec: corev1.PodSpec{NodeName: node}}
		for _, s := range statuses {
			p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: s.Name})
		}
		p.Status.ContainerStatuses = statuses
		return p
	}
	two := pod("two", "n", corev1.ContainerStatus{Name: "a", State: ran}, corev1.ContainerStatus{Name: "b", State: waits("CrashLoopBackOff"), LastTerminationState: ran}).(*corev1.Pod)
	two.Spec.InitContainers = []corev1.Container{{Name: "init"}}
	f.put(t, two,
		pod("nowhere", "", corev1.ContainerStatus{Name: "c"}),
		pod("creating", "n", corev1.ContainerStatus{Name: "c", State: waits("ContainerCreating")}),
		pod("pulling", "n", corev1.ContainerStatus{Name: "c", State: waits("ImagePullBackOff")}),
		pod("failing", "n", corev1.ContainerStatus{Name: "c", State: waits("ErrImagePull")}),
		pod("fresh", "n", corev1.ContainerStatus{Name: "c"}),
		pod("never", "n", corev1.ContainerStatus{Name: "c", State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{}}}),
	)
	refused := func(name, query, message string) probe {
		return probe{name: message, path: pods + "/" + name + "/log?" + query, code: 400, reason: "BadRequest", message: message}
	}
	f.run(t, []probe{
		{name: "no pod", path: pods + "/none/log", code: 404, message: `pods "none" not found`},
		refused("two", "", `a container name must be specified for pod two, choose one of: [init a b]`),
		refused("two", "container=x", `container x is not valid for pod two`),
		refused("two", "container=init", `container "init" in pod "two" is not available`),
		refused("two", "container=a&previous=true", `previous terminated container "a" in pod "two" not found`),
		refused("creating", "", `container "c" in pod "creating" is waiting to start: ContainerCreating`),
		refused("pulling", "", `container "c" in pod "pulling" is waiting to start: trying and failing to pull image`),
		refused("failing", "", `container "c" in pod "failing" is waiting to start: image can't be pulled`),
		refused("fresh", "", `container "c" in pod "fresh" is waiting to start - no logs yet`),
		refused("never", "", `container "c" in pod "never" is terminated`),
		{name: "nowhere yet", path: pods + "/nowhere/log", code: 204},
		{name: "ended", path: pods + "/two/log?container=a", code: 200, has: []string{"line\n"}},
		{name: "of the one before", path: pods + "/two/log?container=b", code: 200, has: []string{"line\n"}},
		{name: "previous", path: pods + "/two/log?container=b&previous=true", code: 200, has: []string{"line\n"}},
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
	f := setup(t, func(o *Options) { o.Pods = fake })
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
