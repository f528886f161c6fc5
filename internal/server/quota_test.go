package server

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apiresource "k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

func amounts(pairs ...string) corev1.ResourceList {
	list := corev1.ResourceList{}
	for i := 0; i < len(pairs); i += 2 {
		list[corev1.ResourceName(pairs[i])] = apiresource.MustParse(pairs[i+1])
	}
	return list
}

// used returns what the quota says of a limit, "1/5".
func (f *fixture) used(t *testing.T, quota, name string) string {
	t.Helper()
	q, err := f.client.CoreV1().ResourceQuotas("default").Get(t.Context(), quota, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	used, hard := q.Status.Used[corev1.ResourceName(name)], q.Status.Hard[corev1.ResourceName(name)]
	return used.String() + "/" + hard.String()
}

func (f *fixture) quota(t *testing.T, spec corev1.ResourceQuotaSpec) {
	t.Helper()
	q := &corev1.ResourceQuota{ObjectMeta: metav1.ObjectMeta{Name: "q"}, Spec: spec}
	if _, err := f.client.CoreV1().ResourceQuotas("default").Create(t.Context(), q, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
}

func podOf(name string, requests corev1.ResourceList) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: corev1.PodSpec{RestartPolicy: corev1.RestartPolicyNever, Containers: []corev1.Container{{
			Name: "c", Image: "x", Resources: corev1.ResourceRequirements{Requests: requests},
		}}},
	}
}

// A hundred clients at once get what the quota has room for, and nothing more; what they
// delete is free at once.
func TestQuotaIsExact(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.quota(t, corev1.ResourceQuotaSpec{Hard: amounts("count/configmaps", "50", "pods", "10")})
	var made, refused atomic.Int32
	var clients sync.WaitGroup
	for i := range 100 {
		client := kubernetes.NewForConfigOrDie(f.config)
		clients.Go(func() {
			cm := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("c%d", i)}}
			_, err := client.CoreV1().ConfigMaps("default").Create(t.Context(), cm, metav1.CreateOptions{})
			const want = "exceeded quota: q, requested: count/configmaps=1, used: count/configmaps=50, limited: count/configmaps=50"
			switch {
			case err == nil:
				made.Add(1)
			case apierrors.IsForbidden(err) && strings.Contains(err.Error(), want):
				refused.Add(1)
			default:
				t.Error(err)
			}
		})
	}
	clients.Wait()
	if made.Load() != 50 || refused.Load() != 50 {
		t.Errorf("%d were made, %d refused", made.Load(), refused.Load())
	}
	if got := f.used(t, "q", "count/configmaps"); got != "50/50" {
		t.Errorf("used are %s", got)
	}
	if err := f.client.CoreV1().ConfigMaps("default").DeleteCollection(t.Context(), metav1.DeleteOptions{}, metav1.ListOptions{}); err != nil {
		t.Fatal(err)
	}
	if got := f.used(t, "q", "count/configmaps"); got != "0/50" {
		t.Errorf("used are %s when all are deleted", got)
	}
}

// A pod counts from its creation to its end, by what it asks for; one that does not say
// what the quota limits is refused.
func TestQuotaOfPods(t *testing.T) {
	t.Parallel()
	f := setup(t)
	pods := f.client.CoreV1().Pods("default")
	if _, err := pods.Create(t.Context(), podOf("before", amounts("cpu", "100m")), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	f.quota(t, corev1.ResourceQuotaSpec{Hard: amounts("pods", "2", "requests.cpu", "1")})
	if got := f.used(t, "q", "requests.cpu"); got != "100m/1" {
		t.Errorf("what was there before counts %s", got)
	}
	for _, test := range []struct{ name, requests, want string }{
		{"silent", "", `pods "silent" is forbidden: failed quota: q: must specify requests.cpu for: c`},
		{"large", "2", `pods "large" is forbidden: exceeded quota: q, requested: requests.cpu=2, used: requests.cpu=100m, limited: requests.cpu=1`},
		{"second", "200m", ""},
		{"third", "200m", `pods "third" is forbidden: exceeded quota: q, requested: pods=1, used: pods=2, limited: pods=2`},
	} {
		var requests corev1.ResourceList
		if test.requests != "" {
			requests = amounts("cpu", test.requests)
		}
		_, err := pods.Create(t.Context(), podOf(test.name, requests), metav1.CreateOptions{})
		if (err == nil) != (test.want == "") || err != nil && err.Error() != test.want {
			t.Errorf("%s: got  %v\nwant %s", test.name, err, test.want)
		}
	}
	pod, err := pods.Get(t.Context(), "second", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	pod.Status.Phase = corev1.PodSucceeded
	if _, err := pods.UpdateStatus(t.Context(), pod, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	if a, b := f.used(t, "q", "pods"), f.used(t, "q", "requests.cpu"); a != "1/2" || b != "100m/1" {
		t.Errorf("when it has ended, %s pods and %s CPUs are used", a, b)
	}
}

// A quota with scopes counts the pods that are in them.
func TestQuotaScopes(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.quota(t, corev1.ResourceQuotaSpec{Hard: amounts("pods", "1"), ScopeSelector: &corev1.ScopeSelector{
		MatchExpressions: []corev1.ScopedResourceSelectorRequirement{{
			ScopeName: corev1.ResourceQuotaScopePriorityClass, Operator: corev1.ScopeSelectorOpIn, Values: []string{"system-node-critical"},
		}},
	}})
	pods := f.client.CoreV1().Pods("default")
	for _, test := range []struct {
		name, class string
		ok          bool
	}{{"a", "", true}, {"b", "system-node-critical", true}, {"c", "", true}, {"d", "system-node-critical", false}} {
		pod := podOf(test.name, nil)
		pod.Spec.PriorityClassName = test.class
		if _, err := pods.Create(t.Context(), pod, metav1.CreateOptions{}); (err == nil) != test.ok {
			t.Errorf("%s: %v", test.name, err)
		}
	}
	if got := f.used(t, "q", "pods"); got != "1/1" {
		t.Errorf("used are %s", got)
	}
}

// A limit that is lowered below what is used refuses what comes; one that is raised lets
// it in. The status is what is true, whatever a client writes there.
func TestQuotaChanges(t *testing.T) {
	t.Parallel()
	f := setup(t)
	quotas, cms := f.client.CoreV1().ResourceQuotas("default"), f.client.CoreV1().ConfigMaps("default")
	f.quota(t, corev1.ResourceQuotaSpec{Hard: amounts("configmaps", "2")})
	create := func(name string) error {
		_, err := cms.Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
		return err
	}
	if err := create("a"); err != nil {
		t.Fatal(err)
	}
	set := func(hard, used string) {
		t.Helper()
		q, err := quotas.Get(t.Context(), "q", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		q.Spec.Hard = amounts("configmaps", hard)
		if q, err = quotas.Update(t.Context(), q, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
		q.Status.Used = amounts("configmaps", used)
		if _, err = quotas.UpdateStatus(t.Context(), q, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	set("0", "0")
	if got := f.used(t, "q", "configmaps"); got != "1/0" {
		t.Errorf("used are %s", got)
	}
	if err := create("b"); !apierrors.IsForbidden(err) {
		t.Errorf("got %v", err)
	}
	set("2", "7")
	if err := create("b"); err != nil {
		t.Error(err)
	}
}

// LimitRanges give containers what they do not ask for, and refuse what is not within.
func TestLimitRange(t *testing.T) {
	t.Parallel()
	f := setup(t)
	lr := &corev1.LimitRange{ObjectMeta: metav1.ObjectMeta{Name: "l"}, Spec: corev1.LimitRangeSpec{Limits: []corev1.LimitRangeItem{
		{Type: corev1.LimitTypeContainer, Default: amounts("cpu", "500m"), DefaultRequest: amounts("cpu", "100m"), Max: amounts("cpu", "1"), Min: amounts("cpu", "50m")},
		{Type: corev1.LimitTypePersistentVolumeClaim, Max: amounts("storage", "1Gi")},
	}}}
	if _, err := f.client.CoreV1().LimitRanges("default").Create(t.Context(), lr, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	pods := f.client.CoreV1().Pods("default")
	pod, err := pods.Create(t.Context(), podOf("silent", nil), metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	r := pod.Spec.Containers[0].Resources
	if r.Limits.Cpu().String() != "500m" || r.Requests.Cpu().String() != "100m" || pod.Status.QOSClass != corev1.PodQOSBurstable {
		t.Errorf("it got %+v, %s", r, pod.Status.QOSClass)
	}
	if want := "LimitRanger plugin set: cpu request for container c; cpu limit for container c"; pod.Annotations["kubernetes.io/limit-ranger"] != want {
		t.Errorf("annotations are %v", pod.Annotations)
	}
	_, err = pods.Create(t.Context(), podOf("small", amounts("cpu", "10m")), metav1.CreateOptions{})
	if want := `pods "small" is forbidden: minimum cpu usage per Container is 50m, but request is 10m`; err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
	claim := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Name: "data"}, Spec: corev1.PersistentVolumeClaimSpec{
		AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
		Resources:   corev1.VolumeResourceRequirements{Requests: amounts("storage", "2Gi")},
	}}
	_, err = f.client.CoreV1().PersistentVolumeClaims("default").Create(t.Context(), claim, metav1.CreateOptions{})
	if want := `persistentvolumeclaims "data" is forbidden: maximum storage usage per PersistentVolumeClaim is 1Gi, but request is 2Gi`; err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}
