package control

import (
	"bytes"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/kind"
)

// TestReporter: a run has a line when it has started and one when it has ended, with how it was
// and what comes next; and nobody's text makes another line.
func TestReporter(t *testing.T) {
	bubble(t, func(b *bundle) {
		t := b.t
		var mu sync.Mutex
		var text bytes.Buffer
		log := slog.New(slog.NewTextHandler(lockedWriter{&mu, &text}, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey || a.Key == "next" {
				return slog.Attr{}
			}
			return a
		}}))
		go (&Reporter{Store: b.store, Log: log}).Run(t.Context()) //nolint:errcheck // it ends with the test
		b.namespace("default")
		b.node("n")
		b.settle()
		lines := func() []string {
			b.settle()
			mu.Lock()
			defer mu.Unlock()
			said := strings.Split(strings.TrimSuffix(text.String(), "\n"), "\n")
			text.Reset()
			return said
		}
		expect := func(want ...string) {
			t.Helper()
			got := lines()
			if strings.Join(got, "\n") != strings.Join(want, "\n") {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
		}
		cron := &batchv1.CronJob{
			ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "nightly"},
			Spec:       batchv1.CronJobSpec{Schedule: "30 4 * * *", JobTemplate: batchv1.JobTemplateSpec{Spec: newJob("x").Spec}},
		}
		b.create(cron)
		owned := newJob("nightly-1")
		owned.OwnerReferences = []metav1.OwnerReference{*metav1.NewControllerRef(cron, batchv1.SchemeGroupVersion.WithKind("CronJob"))}
		b.create(owned)
		expect(`level=INFO msg="job/nightly-1 started" ns=default run=started`)
		next := time.Now().Truncate(24 * time.Hour).Add(4*time.Hour + 30*time.Minute)
		if !next.After(time.Now()) {
			next = next.Add(24 * time.Hour)
		}
		b.end("default", corev1.PodSucceeded)
		got := lines()
		if want := "job/nightly-1 complete after 2s; next " + clock(next, time.Now()); len(got) != 1 || !strings.Contains(got[0], want) {
			t.Errorf("got %q, want %q", got, want)
		}

		job := newJob("x")
		job.Spec.BackoffLimit = new(int32)
		b.create(job)
		expect(`level=INFO msg="job/x started" ns=default run=started`)
		for _, p := range b.pods("default") {
			if p.Labels["job-name"] == "x" {
				b.update(kind.Pods.Key("default", p.Name), func(obj change.Object) {
					pod := obj.(*corev1.Pod)
					pod.Status.Phase = corev1.PodFailed
					pod.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "main", State: corev1.ContainerState{
						Terminated: &corev1.ContainerStateTerminated{ExitCode: 3, FinishedAt: metav1.Now()},
					}}}
				})
			}
		}
		expect(`level=WARN msg="job/x FAILED: main exited with 3 (BackoffLimitExceeded)" ns=default run=failed reason=BackoffLimitExceeded exitCode=3`)

		forged := newJob("forged")
		b.create(forged)
		lines()
		b.update(kind.Jobs.Key("default", "forged"), func(obj change.Object) {
			s := &obj.(*batchv1.Job).Status
			s.Conditions = []batchv1.JobCondition{{Type: batchv1.JobFailed, Status: corev1.ConditionTrue, Reason: "Mine", Message: "a\nlevel=ERROR msg=forged\x1b[2J"}}
		})
		expect(`level=WARN msg="job/forged FAILED: a\nlevel=ERROR msg=forged\x1b[2J (Mine)" ns=default run=failed reason=Mine`)
	})
}

type lockedWriter struct {
	mu *sync.Mutex
	w  *bytes.Buffer
}

func (l lockedWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}
