package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/utils/ptr"
)

// logServer is an API that has logs only.
type logServer struct {
	log   func(pod string) string
	open  atomic.Int32
	most  atomic.Int32
	fails string // the pod whose log cannot be read
}

// RoundTrip implements http.RoundTripper.
func (s *logServer) RoundTrip(req *http.Request) (*http.Response, error) {
	pod := strings.Split(req.URL.Path, "/")[6]
	if pod == s.fails {
		return nil, errors.New("no answer")
	}
	now := s.open.Add(1)
	for most := s.most.Load(); now > most && !s.most.CompareAndSwap(most, now); most = s.most.Load() {
	}
	time.Sleep(10 * time.Millisecond)
	return &http.Response{StatusCode: http.StatusOK, Body: &logBody{strings.NewReader(s.log(pod)), s}, Header: http.Header{}}, nil
}

type logBody struct {
	io.Reader
	server *logServer
}

func (b *logBody) Close() error {
	b.server.open.Add(-1)
	return nil
}

func (s *logServer) client(t *testing.T) kubernetes.Interface {
	client, err := kubernetes.NewForConfig(&rest.Config{Host: "http://x", Transport: s, QPS: -1})
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// Logs come in their order, whole, and no more than some are read at a time.
func TestLogsInOrder(t *testing.T) {
	t.Parallel()
	synctest.Test(t, logsInOrder)
}

func logsInOrder(t *testing.T) {
	began := time.Now()
	long := strings.Repeat("a long line\n", readAhead/4)
	s := &logServer{fails: "p-7", log: func(pod string) string {
		if pod == "p-3" {
			return long
		}
		return "I am " + pod
	}}
	var out bytes.Buffer
	r := &logReport{logsOptions: &logsOptions{tail: -1}, client: s.client(t), console: &console{lines: &out, notes: &out}, shown: map[string]bool{}}
	var logs []podLog
	var want strings.Builder
	for i := range 500 {
		pod := resultPod("ns", "j", fmt.Sprint("p-", i), "", "c")
		logs = append(logs, podLog{pod: pod, container: "c", id: pod.Name})
		switch i {
		case 3:
			want.WriteString(strings.ReplaceAll(long, "a long", "p-3 | a long"))
		case 7:
		default:
			fmt.Fprintf(&want, "p-%d | I am p-%[1]d\n", i)
		}
	}
	err := r.inOrder(t.Context(), logs)
	if err == nil || !strings.HasPrefix(err.Error(), "log of p-7: ") || !strings.HasSuffix(err.Error(), "no answer") {
		t.Errorf("got %v", err)
	}
	if out.String() != want.String() {
		t.Errorf("got %d bytes, want %d", out.Len(), want.Len())
	}
	if most := s.most.Load(); most > logsAtOnce+2 || s.open.Load() != 0 {
		t.Errorf("%d were read at a time, and %d are open", most, s.open.Load())
	}
	if took := time.Since(began); took > 500*10*time.Millisecond/logsAtOnce {
		t.Errorf("it took %s", took)
	}
}

// A reader that goes away ends the reading.
func TestLogsEndWithTheirReader(t *testing.T) {
	t.Parallel()
	s := &logServer{log: func(string) string { return strings.Repeat("text\n", readAhead) }}
	r := &logReport{logsOptions: &logsOptions{tail: -1}, client: s.client(t), console: &console{lines: brokenPipe{}, notes: io.Discard}, shown: map[string]bool{}}
	var logs []podLog
	for i := range 1000 {
		logs = append(logs, podLog{pod: resultPod("ns", "j", fmt.Sprint("p-", i), "", "c"), container: "c"})
	}
	if err := r.inOrder(t.Context(), logs); !errors.Is(err, io.ErrClosedPipe) || len(r.shown) > 1 {
		t.Errorf("got %v after %d logs", err, len(r.shown))
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r.console = &console{lines: io.Discard, notes: io.Discard}
	if err := r.inOrder(ctx, logs); err != nil {
		t.Errorf("got %v", err)
	}
}

type brokenPipe struct{}

func (brokenPipe) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

func TestLogSelection(t *testing.T) {
	t.Parallel()
	ended := func(id string, code int32) corev1.ContainerState {
		return corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ContainerID: id, ExitCode: code}}
	}
	pod := func(index string, phase corev1.PodPhase, statuses ...corev1.ContainerStatus) *corev1.Pod {
		p := resultPod("ns", "j", "j-"+index, index)
		p.Spec.InitContainers = []corev1.Container{{Name: "helper", RestartPolicy: ptr.To(corev1.ContainerRestartPolicyAlways)}}
		p.Status.Phase, p.Status.ContainerStatuses = phase, statuses
		return p
	}
	pods := []*corev1.Pod{
		pod("0", corev1.PodSucceeded, corev1.ContainerStatus{Name: "c", ContainerID: "ok", State: ended("ok", 0)},
			corev1.ContainerStatus{Name: "helper", ContainerID: "told to end", State: ended("told to end", 143)}),
		pod("1", corev1.PodFailed, corev1.ContainerStatus{Name: "c", ContainerID: "bad", State: ended("bad", 1)}),
		pod("2", corev1.PodRunning, corev1.ContainerStatus{Name: "c", ContainerID: "now", State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}},
			LastTerminationState: ended("before", 2)}),
		pod("3", corev1.PodRunning, corev1.ContainerStatus{Name: "c", ContainerID: "crashed", State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{}},
			LastTerminationState: ended("crashed", 3)}),
		pod("4", corev1.PodPending, corev1.ContainerStatus{Name: "c", State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{}}}),
	}
	for _, c := range []struct {
		selection logSelection
		want      string
	}{
		{logSelection{}, "ok, told to end, bad, now, crashed"},
		{logSelection{failed: true}, "bad, crashed"},
		{logSelection{previous: true}, "before, crashed"},
		{logSelection{previous: true, failed: true, indexes: "2"}, "before"},
		{logSelection{container: "helper"}, "told to end"},
		{logSelection{indexes: "3,0-1", container: "c"}, "ok, bad, crashed"},
		{logSelection{indexes: "7"}, ""},
	} {
		if err := c.selection.check(); err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, l := range c.selection.of(pods) {
			got = append(got, l.id)
		}
		if strings.Join(got, ", ") != c.want {
			t.Errorf("%+v: got %q, want %q", c.selection, got, c.want)
		}
	}
	for _, wrong := range []string{"a", "1-", "-1", "3-1", "1,,2", "1-2-3", ",", "99999999999999999999"} {
		if err := (&logSelection{indexes: wrong}).check(); err == nil {
			t.Errorf("%q is taken", wrong)
		}
	}
}

// An API lists pods by their names; what they wrote is told by index, and by try.
func TestPodsOfAJobAreInOrder(t *testing.T) {
	t.Parallel()
	job := &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "j", UID: "u"}}
	job.Spec.Selector = &metav1.LabelSelector{MatchLabels: map[string]string{"a": "b"}}
	client := history(t, nil)
	if err := client.Tracker().Add(job); err != nil {
		t.Fatal(err)
	}
	for i, index := range []string{"10", "2", "2", "1"} {
		pod := resultPod("ns", "j", fmt.Sprintf("j-%d", 9-i), index, "c")
		pod.Labels, pod.OwnerReferences[0].UID = job.Spec.Selector.MatchLabels, job.UID
		pod.CreationTimestamp = metav1.NewTime(time.Unix(int64(1000*i), 0))
		if err := client.Tracker().Add(pod); err != nil {
			t.Fatal(err)
		}
	}
	pods, _, err := podsOf(t.Context(), client, "ns", target{kind: kindJob, name: "j"})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, p := range pods {
		got = append(got, p.Name)
	}
	if want := []string{"j-6", "j-8", "j-7", "j-9"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
