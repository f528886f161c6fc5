package kind

import (
	"bytes"
	"maps"
	"strings"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"
)

func named(name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Name: name, Namespace: "default", ResourceVersion: "1", UID: "u"}
}

func TestUpdates(t *testing.T) {
	t.Parallel()
	timed := corev1.Event{ObjectMeta: named("e"), EventTime: metav1.NewMicroTime(testTime.Time), ReportingController: "kubelet",
		ReportingInstance: "i", Action: "A", Reason: "R", Type: "Normal", InvolvedObject: corev1.ObjectReference{Namespace: "default"}}
	node := corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n", ResourceVersion: "1"},
		Spec: corev1.NodeSpec{PodCIDRs: []string{"10.0.0.0/24"}, ProviderID: "p"}}
	cron := corev1.PodTemplateSpec{Spec: corev1.PodSpec{RestartPolicy: "Never", Containers: []corev1.Container{{Name: "c", Image: "i",
		TerminationMessagePolicy: "File", ImagePullPolicy: "Always"}}, DNSPolicy: "Default", TerminationGracePeriodSeconds: ptr.To[int64](1)}}
	cronJob := batchv1.CronJob{ObjectMeta: named("c"), Spec: batchv1.CronJobSpec{Schedule: "TZ=UTC 0 0 * * *", ConcurrencyPolicy: "Allow",
		TimeZone: ptr.To("Gone/Away"), JobTemplate: batchv1.JobTemplateSpec{Spec: batchv1.JobSpec{Template: cron}}}}
	for _, test := range []struct {
		name     string
		validate func(obj, old Object) field.ErrorList
		old      Object
		change   func(Object)
		want     []string
	}{
		{"config map", ConfigMap().Update.Validate, &corev1.ConfigMap{ObjectMeta: named("c")},
			func(o Object) { o.(*corev1.ConfigMap).Data = map[string]string{"a": "b"} }, nil},
		{"immutable config map", ConfigMap().Update.Validate,
			&corev1.ConfigMap{ObjectMeta: named("c"), Immutable: ptr.To(true), Data: map[string]string{"a": "b"}},
			func(o Object) {
				*o.(*corev1.ConfigMap) = corev1.ConfigMap{ObjectMeta: named("c"), BinaryData: map[string][]byte{"x": nil}}
			},
			[]string{"immutable: Forbidden: field is immutable when `immutable` is set",
				"data: Forbidden: field is immutable when `immutable` is set",
				"binaryData: Forbidden: field is immutable when `immutable` is set"}},
		{"labels of an immutable config map", ConfigMap().Update.Validate, &corev1.ConfigMap{ObjectMeta: named("c"), Immutable: ptr.To(true)},
			func(o Object) {
				o.SetLabels(map[string]string{"a": "b"})
				o.(*corev1.ConfigMap).Data = map[string]string{}
			}, nil},
		{"type of a secret", Secret().Update.Validate, &corev1.Secret{ObjectMeta: named("s"), Type: "Opaque"},
			func(o Object) { o.(*corev1.Secret).Type = "my/type" }, []string{"type: Invalid value: field is immutable"}},
		{"immutable secret", Secret().Update.Validate, &corev1.Secret{ObjectMeta: named("s"), Type: "Opaque", Immutable: ptr.To(true)},
			func(o Object) { o.(*corev1.Secret).Data = map[string][]byte{"a": nil} },
			[]string{"data: Forbidden: field is immutable when `immutable` is set"}},

		{"finalizers of a lease are named as they like", Lease().Update.Validate, &coordinationv1.Lease{ObjectMeta: named("l")},
			func(o Object) { o.SetFinalizers([]string{"mine"}) }, nil},
		{"event as v1", Event().Update.Validate, &timed, func(o Object) { o.(*corev1.Event).Message = "m" }, nil},
		{"event as events.k8s.io/v1", Event().Version(eventsv1.SchemeGroupVersion).Validate, &timed,
			func(o Object) { o.(*corev1.Event).Message, o.(*corev1.Event).Reason = "m", "Other" },
			[]string{"reason: Invalid value: field is immutable", "message: Invalid value: field is immutable",
				"reason: Invalid value: field is immutable"}},
		{"time of an event, a little", Event().Version(eventsv1.SchemeGroupVersion).Validate, &timed, func(o Object) {
			o.(*corev1.Event).EventTime = metav1.NewMicroTime(testTime.Add(999 * time.Nanosecond))
		}, nil},
		{"time of an event", Event().Version(eventsv1.SchemeGroupVersion).Validate, &timed, func(o Object) {
			o.(*corev1.Event).EventTime = metav1.NewMicroTime(testTime.Add(time.Millisecond))
		}, []string{"eventTime: Invalid value: field is immutable"}},
		{"series of an event", Event().Version(eventsv1.SchemeGroupVersion).Validate, &timed, func(o Object) {
			o.(*corev1.Event).Series = &corev1.EventSeries{Count: 1}
		}, []string{"series.count: Invalid value: should be at least 2", "series.lastObservedTime: Required value"}},

		{"node", Node().Update.Validate, &node, func(o Object) {
			spec := &o.(*corev1.Node).Spec
			spec.PodCIDRs, spec.ProviderID, spec.DoNotUseExternalID, spec.Unschedulable = nil, "q", "x", true
		}, []string{
			`spec.podCIDRs: Forbidden: node updates may not change podCIDR except from "" to valid`,
			`spec.providerID: Invalid value: field cannot be modified once set`,
			"spec.externalID: Forbidden: may not be updated",
		}},
		{"addresses of a node", Node().Status.Validate, &node, func(o Object) {
			o.(*corev1.Node).Status.Addresses = []corev1.NodeAddress{{Type: "InternalIP", Address: "a"}, {Type: "InternalIP", Address: "a"}}
		}, []string{"status.addresses[1]: Duplicate value"}},

		{"phase of a namespace", Namespace().Status.Validate, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "n", ResourceVersion: "1"}},
			func(o Object) { o.(*corev1.Namespace).Status.Phase = corev1.NamespaceTerminating },
			[]string{"status.Phase: Invalid value: may only be 'Active' if `deletionTimestamp` is empty"}},
		{"finalizers of a namespace", Namespace().Finalize.Validate, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "n", ResourceVersion: "1"}},
			func(o Object) {
				o.(*corev1.Namespace).Spec.Finalizers = []corev1.FinalizerName{"kubernetes", "a/b", "c"}
			},
			[]string{"spec.finalizers[2]: Invalid value: name is neither a standard finalizer name nor is it fully qualified"}},

		{"what an old cron job may keep", CronJob().Update.Validate, &cronJob, func(o Object) { o.(*batchv1.CronJob).Spec.TimeZone = nil }, nil},
		{"time zone twice", CronJob().Update.Validate, &cronJob, func(Object) {},
			[]string{"spec.schedule: Invalid value: cannot use both timeZone field and TZ or CRON_TZ in schedule"}},
		{"schedule of a cron job", CronJob().Update.Validate, &cronJob, func(o Object) {
			spec := &o.(*batchv1.CronJob).Spec
			spec.Schedule, spec.TimeZone = "0 0 * * *", ptr.To("Local")
		}, []string{"spec.timeZone: Invalid value: timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			obj := test.old.DeepCopyObject().(Object)
			test.change(obj)
			compare(t, test.validate(obj, test.old), test.want)
		})
	}
}

func TestNewEventIsStrict(t *testing.T) {
	t.Parallel()
	validate := Event().Version(eventsv1.SchemeGroupVersion).Validate
	old := &corev1.Event{ObjectMeta: metav1.ObjectMeta{Name: "e", Namespace: "default"}, Count: 1, LastTimestamp: testTime,
		FirstTimestamp: testTime, Source: corev1.EventSource{Component: "c"}, Type: "Odd"}
	compare(t, validate(old, nil), []string{
		"eventTime: Required value",
		"type: Invalid value: has invalid value: Odd",
		"firstTimestamp: Invalid value: needs to be unset",
		"lastTimestamp: Invalid value: needs to be unset",
		"count: Invalid value: needs to be unset",
		"source: Invalid value: needs to be unset",
	})
	timed := &corev1.Event{ObjectMeta: metav1.ObjectMeta{Name: "e", Namespace: "a"}, EventTime: metav1.NewMicroTime(testTime.Time), Type: "Normal",
		ReportingController: "kubelet", ReportingInstance: strings.Repeat("i", 129), Action: "A", Reason: "R", Message: strings.Repeat("m", 1025)}
	compare(t, validate(timed, nil), []string{
		"involvedObject.namespace: Invalid value: does not match event.namespace",
		"reportingInstance: Invalid value: can have at most 128 characters",
		"message: Invalid value: can have at most 1024 characters",
	})
}

// The limit of a config map or secret is one MiB over all its values.
func TestDataLimit(t *testing.T) {
	t.Parallel()
	half := bytes.Repeat([]byte("x"), 512*1024)
	cm := &corev1.ConfigMap{ObjectMeta: named("c"), Data: map[string]string{"a": string(half)}, BinaryData: map[string][]byte{"b": half}}
	secret := &corev1.Secret{ObjectMeta: named("s"), Data: map[string][]byte{"a": half, "b": half}}
	compare(t, ConfigMap().Create.Validate(cm), nil)
	compare(t, Secret().Create.Validate(secret), nil)
	cm.BinaryData["c"], secret.Data["c"] = []byte("!"), []byte("!")
	compare(t, ConfigMap().Create.Validate(cm), []string{"[]: Too long: may not be more than 1048576 bytes"})
	compare(t, Secret().Create.Validate(secret), []string{"data: Too long: may not be more than 1048576 bytes"})
}

// The parts of an object that a write may not reach come over from the old one.
func TestPrepareKeeps(t *testing.T) {
	t.Parallel()
	old := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "n"}, Spec: corev1.NamespaceSpec{Finalizers: []corev1.FinalizerName{"kubernetes"}},
		Status: corev1.NamespaceStatus{Phase: corev1.NamespaceActive}}
	change := func() *corev1.Namespace {
		return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "n"}, Status: corev1.NamespaceStatus{Phase: corev1.NamespaceTerminating}}
	}
	k := Namespace()
	for name, test := range map[string]struct {
		prepare    func(obj, old Object)
		finalizers int
		phase      corev1.NamespacePhase
	}{
		"update":    {k.Update.Prepare, 1, corev1.NamespaceActive},
		"/status":   {k.Status.Prepare, 1, corev1.NamespaceTerminating},
		"/finalize": {k.Finalize.Prepare, 0, corev1.NamespaceActive},
	} {
		ns := change()
		test.prepare(ns, old)
		if len(ns.Spec.Finalizers) != test.finalizers || ns.Status.Phase != test.phase {
			t.Errorf("%s: finalizers %v, phase %s", name, ns.Spec.Finalizers, ns.Status.Phase)
		}
	}

	//lint:ignore SA1019 what Kubernetes no longer reads, clients still send
	node := &corev1.Node{Status: corev1.NodeStatus{Phase: "new"}, Spec: corev1.NodeSpec{Unschedulable: true, ConfigSource: &corev1.NodeConfigSource{}}}
	Node().Update.Prepare(node, &corev1.Node{Status: corev1.NodeStatus{Phase: "old"}})
	//lint:ignore SA1019 what Kubernetes no longer reads, clients still send
	if node.Status.Phase != "old" || !node.Spec.Unschedulable || node.Spec.ConfigSource != nil {
		t.Errorf("node: %+v", node)
	}

	secret := &corev1.Secret{StringData: map[string]string{"a": "b"}}
	Secret().Update.Prepare(secret, &corev1.Secret{Type: "my/type"})
	if secret.Type != "my/type" || string(secret.Data["a"]) != "b" || secret.StringData != nil {
		t.Errorf("secret: %+v", secret)
	}
}

func TestWarnings(t *testing.T) {
	t.Parallel()
	const tz = "cannot use TZ or CRON_TZ in spec.spec.schedule, use timeZone instead, " +
		"see https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/ for more details"
	old := &batchv1.CronJob{Spec: batchv1.CronJobSpec{Schedule: "TZ=UTC 0 0 * * *"}}
	if got := CronJob().Warn(old, old); len(got) != 1 || got[0] != tz {
		t.Errorf("got %q", got)
	}
	annotated := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{enforceMountableSecrets: "true"}}}
	if got := ServiceAccount().Warn(annotated, annotated); got != nil {
		t.Errorf("warned again: %q", got)
	}
	if got := ServiceAccount().Warn(annotated, &corev1.ServiceAccount{}); len(got) != 1 {
		t.Errorf("got %q", got)
	}
	job := created(t, strings.ReplaceAll(baseJob, "name: base", "name: a.b"))
	if got := Job().Warn(job, job); got != nil {
		t.Errorf("an unchanged Job: %q", got)
	}
	node := &corev1.Node{Spec: corev1.NodeSpec{DoNotUseExternalID: "x", PodCIDRs: []string{"10.0.0.1/24"}}}
	if got := Node().Warn(node, nil); len(got) != 2 || got[0] != "spec.externalID: this field is deprecated, and is unused by Kubernetes" {
		t.Errorf("got %q", got)
	}
}

// What a controller keeps in annotations stays when a client writes the whole
// object anew.
func TestControllersKeepTheirAnnotations(t *testing.T) {
	t.Parallel()
	stored := map[string]string{CronJobSchedule: "0 * * * *||", CronJobExplained: "2026-01-31T07:00:00Z", Backoff: "1 2026-01-31T07:00:00Z", "mine": "x"}
	put := map[string]string{CronJobExplained: "2026-01-31T08:00:00Z"}
	want := map[string]string{CronJobSchedule: "0 * * * *||", CronJobExplained: "2026-01-31T08:00:00Z", Backoff: "1 2026-01-31T07:00:00Z"}
	for _, k := range []*Kind{CronJob(), Job()} {
		for _, prepare := range []func(obj, old Object){k.Update.Prepare, k.Status.Prepare} {
			old, obj := k.New(), k.New()
			old.SetAnnotations(stored)
			obj.SetAnnotations(maps.Clone(put))
			if prepare(obj, old); !maps.Equal(obj.GetAnnotations(), want) {
				t.Errorf("%s: got %v, want %v", k.Singular, obj.GetAnnotations(), want)
			}
		}
	}
}

// What is behind a gate that is off is dropped from a new Node, and from one that had none of it.
func TestNodePreemptionPolicy(t *testing.T) {
	t.Parallel()
	with := func() *corev1.Node {
		return &corev1.Node{Spec: corev1.NodeSpec{PodPreemptionPolicy: &corev1.NodePodPreemptionPolicy{}}}
	}
	n := with()
	if Node().Create.Prepare(n); n.Spec.PodPreemptionPolicy != nil {
		t.Error("a new Node has it")
	}
	n = with()
	if Node().Update.Prepare(n, &corev1.Node{}); n.Spec.PodPreemptionPolicy != nil {
		t.Error("a Node gets it")
	}
	n = with()
	if Node().Update.Prepare(n, with()); n.Spec.PodPreemptionPolicy == nil {
		t.Error("a Node loses it")
	}
}
