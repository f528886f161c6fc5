package kind

import (
	"fmt"
	"strings"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	certificatesv1 "k8s.io/api/certificates/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	storagemigrationv1 "k8s.io/api/storagemigration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/utils/ptr"
)

// What must be true of every row.
func TestTable(t *testing.T) {
	t.Parallel()
	names := map[string]string{}
	for _, k := range Table() {
		id := k.GR().String()
		for _, name := range append(k.ShortNames, k.Plural(), k.Singular) {
			if other, taken := names[name]; taken && other != id { // endpoints are one thing, too
				t.Errorf("%s and %s are both called %s", other, id, name)
			}
			names[name] = id
		}
		if k.Singular != strings.ToLower(k.GVK.Kind) {
			t.Errorf("%s: singular %s", id, k.Singular)
		}
		for _, c := range k.Table.Columns {
			if c.Name == "" || c.Type == "" || c.Description == "" && id != "runtimeclasses.node.k8s.io" { // Kubernetes looks for it in the wrong place
				t.Errorf("%s: column %+v", id, c)
			}
		}
	}
	if _, err := NewKinds(Table()...); err != nil {
		t.Error(err)
	}
	if _, err := NewScheme(Table()); err != nil {
		t.Error(err)
	}
}

func TestKinds(t *testing.T) {
	t.Parallel()
	kinds := Builtin()
	jobs := kinds.ByResource(Jobs)
	if jobs == nil || jobs.GVK.Kind != "Job" || kinds.ByResource("jobs") != nil {
		t.Error("ByResource wants the key's resource")
	}
	if got := jobs.Key("ns", "pi").String(); got != "jobs.batch/ns/pi" {
		t.Errorf("key %s", got)
	}
	for _, gv := range []schema.GroupVersion{{Version: "v1"}, {Group: "events.k8s.io", Version: "v1"}} {
		if k := kinds.ByGVK(gv.WithKind("Event")); k == nil || k.Resource != Events {
			t.Errorf("%v: %v", gv, k)
		}
	}
	if kinds.ByGVK(schema.GroupVersionKind{Version: "v1", Kind: "Nothing"}) != nil {
		t.Error("found what there is not")
	}
}

func ago(d time.Duration) metav1.Time { return metav1.NewTime(testTime.Add(-d)) }

func TestCells(t *testing.T) {
	t.Parallel()
	meta := metav1.ObjectMeta{Name: "x", CreationTimestamp: ago(90 * time.Second)}
	template := corev1.PodTemplateSpec{Spec: corev1.PodSpec{Containers: []corev1.Container{
		{Name: "a", Image: "busybox"}, {Name: "b", Image: "perl:5"}}}}
	selector := &metav1.LabelSelector{MatchLabels: map[string]string{"u": "1"}}
	for _, test := range []struct {
		k    *Kind
		obj  Object
		want string
	}{
		{Namespace(), &corev1.Namespace{ObjectMeta: meta, Status: corev1.NamespaceStatus{Phase: "Active"}}, "x|Active|90s"},
		{ConfigMap(), &corev1.ConfigMap{ObjectMeta: meta, Data: map[string]string{"a": ""}, BinaryData: map[string][]byte{"b": nil}}, "x|2|90s"},
		{Secret(), &corev1.Secret{ObjectMeta: meta, Type: "Opaque", Data: map[string][]byte{"b": nil}}, "x|Opaque|1|90s"},
		{ServiceAccount(), &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "x"}}, "x|<unknown>"},
		{Lease(), &coordinationv1.Lease{ObjectMeta: meta, Spec: coordinationv1.LeaseSpec{HolderIdentity: ptr.To("me")}}, "x|me|90s"},

		{CertificateSigningRequest(), &certificatesv1.CertificateSigningRequest{ObjectMeta: meta}, "x|90s|<none>||<none>|Pending"},
		{CertificateSigningRequest(), &certificatesv1.CertificateSigningRequest{ObjectMeta: meta,
			Spec: certificatesv1.CertificateSigningRequestSpec{SignerName: "a/b", Username: "jane", ExpirationSeconds: ptr.To[int32](7200)},
			Status: certificatesv1.CertificateSigningRequestStatus{Certificate: []byte("x"), Conditions: []certificatesv1.CertificateSigningRequestCondition{
				{Type: "Failed"}, {Type: "Approved"}}}}, "x|90s|a/b|jane|120m|Approved,Failed,Issued"},
		{CertificateSigningRequest(), &certificatesv1.CertificateSigningRequest{ObjectMeta: meta,
			Status: certificatesv1.CertificateSigningRequestStatus{Conditions: []certificatesv1.CertificateSigningRequestCondition{{Type: "Approved"}, {Type: "Denied"}}}},
			"x|90s|<none>||<none>|Denied"},

		{ClusterTrustBundle(), &certificatesv1.ClusterTrustBundle{ObjectMeta: meta}, "x|<none>"},
		{ClusterTrustBundle(), &certificatesv1.ClusterTrustBundle{ObjectMeta: meta, Spec: certificatesv1.ClusterTrustBundleSpec{SignerName: "a/b"}}, "x|a/b"},
		{PodCertificateRequest(), &certificatesv1.PodCertificateRequest{ObjectMeta: meta, Spec: certificatesv1.PodCertificateRequestSpec{
			PodName: "p", ServiceAccountName: "s", NodeName: "n", SignerName: "a/b"}}, "x|p|s|n|a/b|Pending|<none>"},
		{PodCertificateRequest(), &certificatesv1.PodCertificateRequest{ObjectMeta: meta,
			Spec:   certificatesv1.PodCertificateRequestSpec{UnverifiedUserAnnotations: map[string]string{"a.b/c": "d"}},
			Status: certificatesv1.PodCertificateRequestStatus{Conditions: []metav1.Condition{{Type: "Issued"}}}}, "x|||||Issued|a.b/c=d"},
		{StorageVersionMigration(), &storagemigrationv1.StorageVersionMigration{ObjectMeta: meta,
			Spec: storagemigrationv1.StorageVersionMigrationSpec{Resource: metav1.GroupResource{Group: "g", Resource: "r"}}}, "x|r.g|Unknown"},
		{StorageVersionMigration(), &storagemigrationv1.StorageVersionMigration{ObjectMeta: meta, Status: storagemigrationv1.StorageVersionMigrationStatus{
			Conditions: []metav1.Condition{{Type: "Succeeded", Status: "True"}, {Type: "Running", Status: "False"}}}}, "x||Succeeded"},

		{Node(), &corev1.Node{ObjectMeta: meta}, "x|Unknown|<none>|90s||<none>|<none>|<unknown>|<unknown>|<unknown>"},
		{Node(), &corev1.Node{
			ObjectMeta: metav1.ObjectMeta{Name: "n", CreationTimestamp: ago(time.Hour), Labels: map[string]string{
				"node-role.kubernetes.io/worker": "", "kubernetes.io/role": "edge", "node-role.kubernetes.io/": ""}},
			Spec: corev1.NodeSpec{Unschedulable: true},
			Status: corev1.NodeStatus{
				Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}},
				Addresses:  []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "10.0.0.1"}, {Type: corev1.NodeExternalIP, Address: "8.8.8.8"}},
				NodeInfo: corev1.NodeSystemInfo{KubeletVersion: "v1.37.2", OSImage: "Debian", KernelVersion: "6.1",
					Architecture: "amd64", ContainerRuntimeVersion: "sampan://1"},
			},
		}, "n|Ready,SchedulingDisabled|edge,worker|60m|v1.37.2|10.0.0.1|8.8.8.8|Debian|6.1 (amd64)|sampan://1"},
		{Node(), &corev1.Node{ObjectMeta: meta, Status: corev1.NodeStatus{Conditions: []corev1.NodeCondition{
			{Type: corev1.NodeReady, Status: corev1.ConditionUnknown}}}}, "x|NotReady|<none>|90s||<none>|<none>|<unknown>|<unknown>|<unknown>"},

		{Event(), &corev1.Event{ObjectMeta: meta, Type: "Normal", Reason: "Completed", Message: " Job completed\n", FirstTimestamp: ago(time.Hour),
			LastTimestamp: ago(time.Minute), Count: 3, InvolvedObject: corev1.ObjectReference{Kind: "Job", Name: "pi", FieldPath: "spec"},
			Source: corev1.EventSource{Component: "job-controller", Host: "h"}},
			"60s|Normal|Completed|job/pi|spec|job-controller, h|Job completed|60m|3|x"},
		{Event(), &corev1.Event{ObjectMeta: meta, EventTime: metav1.MicroTime(ago(time.Minute)), ReportingController: "kubelet",
			InvolvedObject: corev1.ObjectReference{Kind: "Pod"}}, "60s|||pod||kubelet||60s|1|x"},
		{Event(), &corev1.Event{ObjectMeta: meta, EventTime: metav1.MicroTime(ago(time.Hour)), Series: &corev1.EventSeries{
			Count: 9, LastObservedTime: metav1.MicroTime(ago(time.Second))}}, "1s||||||" + "|60m|9|x"},

		{CronJob(), &batchv1.CronJob{ObjectMeta: meta, Spec: batchv1.CronJobSpec{Schedule: "@daily"}},
			"x|@daily|<none>|<unset>|0|<none>|90s|||<none>"},
		{CronJob(), &batchv1.CronJob{ObjectMeta: meta,
			Spec: batchv1.CronJobSpec{Schedule: "@daily", TimeZone: ptr.To("UTC"), Suspend: ptr.To(true),
				JobTemplate: batchv1.JobTemplateSpec{Spec: batchv1.JobSpec{Template: template}}},
			Status: batchv1.CronJobStatus{Active: make([]corev1.ObjectReference, 2), LastScheduleTime: ptr.To(ago(time.Hour))}},
			"x|@daily|UTC|True|2|60m|90s|a,b|busybox,perl:5|<none>"},

		{Job(), &batchv1.Job{ObjectMeta: meta, Spec: batchv1.JobSpec{Completions: ptr.To[int32](3), Template: template, Selector: selector}},
			"x|Running|0/3||90s|a,b|busybox,perl:5|u=1"},
	} {
		if got := row(test.k, test.obj); got != test.want {
			t.Errorf("%s:\ngot  %s\nwant %s", test.k.Resource, got, test.want)
		}
	}
}

func row(k *Kind, obj Object) string {
	var cells []string
	for _, cell := range k.Table.Cells(obj, testTime.Time) {
		cells = append(cells, fmt.Sprint(cell))
	}
	return strings.Join(cells, "|")
}

func TestJobCells(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name                          string
		job                           func(*batchv1.Job)
		status, completions, duration string
	}{
		{"new", func(*batchv1.Job) {}, "Running", "0/1", ""},
		{"running", func(job *batchv1.Job) { job.Status.StartTime = ptr.To(ago(5 * time.Minute)) }, "Running", "0/1", "5m"},
		{"succeeded", succeeded, "Complete", "1/1", "60s"},
		{"failed goes on", func(job *batchv1.Job) { failed(job); job.Status.StartTime = ptr.To(ago(time.Hour)) }, "Failed", "0/1", "60m"},
		{"deleted", func(job *batchv1.Job) { job.DeletionTimestamp = &testTime }, "Terminating", "0/1", ""},
		{"deleted when complete", func(job *batchv1.Job) { succeeded(job); job.DeletionTimestamp = &testTime }, "Complete", "1/1", "60s"},
		{"suspended", suspendedLater, "Suspended", "0/1", "0s"},
		{"about to fail", func(job *batchv1.Job) { set(job, batchv1.JobFailureTarget) }, "FailureTarget", "0/1", ""},
		{"about to succeed", func(job *batchv1.Job) { set(job, batchv1.JobSuccessCriteriaMet) }, "SuccessCriteriaMet", "0/1", ""},
		{"a work queue of one", func(job *batchv1.Job) { job.Spec.Completions = nil }, "Running", "0/1", ""},
		{"a work queue of many", func(job *batchv1.Job) {
			job.Spec.Completions, job.Spec.Parallelism = nil, ptr.To[int32](5)
			job.Status.Succeeded = 2
		}, "Running", "2/1 of 5", ""},
	} {
		job := created(t, baseJob)
		test.job(job)
		cells := Job().Table.Cells(job, testTime.Time)
		if cells[1] != test.status || cells[2] != test.completions || cells[3] != test.duration {
			t.Errorf("%s: got %q %q %q, want %q %q %q", test.name, cells[1], cells[2], cells[3],
				test.status, test.completions, test.duration)
		}
	}
}

func TestSelectableFields(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		k           *Kind
		obj         Object
		name, value string
	}{
		{Job(), &batchv1.Job{Status: batchv1.JobStatus{Succeeded: 3}}, "status.successful", "3"},
		{Secret(), &corev1.Secret{Type: "Opaque"}, "type", "Opaque"},
		{Node(), &corev1.Node{}, "spec.unschedulable", "false"},
		{Namespace(), &corev1.Namespace{Status: corev1.NamespaceStatus{Phase: "Active"}}, "status.phase", "Active"},
		{Event(), &corev1.Event{ReportingController: "kubelet"}, "source", "kubelet"},
		{Event(), &corev1.Event{InvolvedObject: corev1.ObjectReference{UID: "1"}}, "involvedObject.uid", "1"},
	} {
		if got := test.k.Select.Fields(test.obj); !got.Has(test.name) || got.Get(test.name) != test.value {
			t.Errorf("%s: %v", test.k.Resource, got)
		}
	}
}
