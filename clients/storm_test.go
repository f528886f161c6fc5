package clients

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/utils/ptr"
)

// turnedAway counts the answers that tell a client to come again. It does not change them:
// client-go comes again by itself.
type turnedAway struct {
	next  http.RoundTripper
	count *atomic.Int64
}

func (a turnedAway) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := a.next.RoundTrip(r)
	if err == nil && resp.StatusCode == http.StatusTooManyRequests && resp.Header.Get("Retry-After") != "" {
		a.count.Add(1)
	}
	return resp, err
}

// TestStorm creates thousands of Jobs at the same moment, as template expansion with a shell's
// loop does, in a namespace whose quota has room for some of them. Who asks for too much at a time
// is told to come again (429), and client-go does; exactly as many Jobs as there is room for are
// created, the others are refused by quota; and another user hardly waits for all that.
func TestStorm(t *testing.T) {
	t.Parallel()
	const asked, room = 4000, 1500
	e := newEngine(t)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	if _, err := e.api().CoreV1().ResourceQuotas("default").Create(ctx, &corev1.ResourceQuota{
		ObjectMeta: metav1.ObjectMeta{Name: "jobs"},
		Spec: corev1.ResourceQuotaSpec{Hard: corev1.ResourceList{
			"count/jobs.batch": *resource.NewQuantity(room, resource.DecimalSI),
		}},
	}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := e.api().RbacV1().ClusterRoleBindings().Create(ctx, &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "other"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "view"},
		Subjects:   []rbacv1.Subject{{Kind: rbacv1.UserKind, APIGroup: rbacv1.GroupName, Name: "other"}},
	}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}

	var away, created, refused atomic.Int64
	clients := flood(t, e, &away)
	calm := make(chan time.Duration)
	storm, ended := context.WithCancel(ctx)
	go func() { calm <- other(storm, t, e) }()
	var all sync.WaitGroup
	for i := range asked {
		all.Go(func() {
			jobs := clients[i%len(clients)].BatchV1().Jobs("default")
			var err error
			for again := true; again; again = apierrors.IsTooManyRequests(err) { // client-go gives up after ten times
				_, err = jobs.Create(ctx, suspended(fmt.Sprint("item-", i)), metav1.CreateOptions{})
			}
			switch {
			case err == nil:
				created.Add(1)
			case apierrors.IsForbidden(err) && strings.Contains(err.Error(), "exceeded quota: jobs, requested: count/jobs.batch=1, used: count/jobs.batch=1500, limited: count/jobs.batch=1500"):
				refused.Add(1)
			default:
				t.Errorf("item-%d: %v", i, err)
			}
		})
	}
	all.Wait()
	ended()
	longest := <-calm
	t.Logf("%d created, %d refused, %d times told to come again; the other user waited %v at most", created.Load(), refused.Load(), away.Load(), longest)
	if created.Load() != room || refused.Load() != asked-room {
		t.Errorf("%d created, want %d; %d refused, want %d", created.Load(), room, refused.Load(), asked-room)
	}
	if away.Load() == 0 {
		t.Error("nobody was told to come again: too small a storm")
	}
	if longest > 10*time.Second {
		t.Errorf("another user waited %v", longest)
	}
	list, err := e.api().BatchV1().Jobs("default").List(ctx, metav1.ListOptions{})
	if err != nil || len(list.Items) != room {
		t.Errorf("%d Jobs are there: %v", len(list.Items), err)
	}
}

// flood returns clients of one user whose answers are counted, with as many connections as it takes
// to have thousands of requests under way.
func flood(t *testing.T, e *engine, away *atomic.Int64) (clients []kubernetes.Interface) {
	t.Helper()
	for range 32 {
		config, err := clientcmd.BuildConfigFromFlags("", e.kubeconfig)
		if err != nil {
			t.Fatal(err)
		}
		config.QPS = -1
		config.Dial = (&net.Dialer{}).DialContext // one of its own: else all would share a connection
		config.Wrap(func(next http.RoundTripper) http.RoundTripper { return turnedAway{next, away} })
		client, err := kubernetes.NewForConfig(config)
		if err != nil {
			t.Fatal(err)
		}
		clients = append(clients, client)
	}
	return clients
}

// other asks, as somebody else, again and again what there is, until the storm is over. It returns how long it
// waited at most for an answer.
func other(storm context.Context, t *testing.T, e *engine) (longest time.Duration) {
	config, err := clientcmd.BuildConfigFromFlags("", e.kubeconfig)
	if err != nil {
		t.Error(err)
		return 0
	}
	config.Impersonate.UserName = "other"
	config.Dial = (&net.Dialer{}).DialContext
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Error(err)
		return 0
	}
	for storm.Err() == nil {
		began := time.Now()
		if _, err := client.CoreV1().ConfigMaps("default").List(context.WithoutCancel(storm), metav1.ListOptions{}); err != nil {
			t.Errorf("the other user: %v", err)
		}
		longest = max(longest, time.Since(began))
		time.Sleep(20 * time.Millisecond)
	}
	return longest
}

func suspended(name string) *batchv1.Job {
	return &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: batchv1.JobSpec{
		Suspend: ptr.To(true),
		Template: corev1.PodTemplateSpec{Spec: corev1.PodSpec{
			RestartPolicy: corev1.RestartPolicyNever,
			Containers:    []corev1.Container{{Name: "main", Image: "busybox", Command: []string{"true"}}},
		}},
	}}
}
