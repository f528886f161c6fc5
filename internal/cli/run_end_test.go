package cli

import (
	"math"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/sampan-batch/sampan/internal/kind"
)

// A grace period may be longer than what a Duration holds: multiplied it would be one in the past,
// and the pods would be killed at once.
func TestPatience(t *testing.T) {
	t.Parallel()
	pod := func(grace *int64) *corev1.Pod {
		return &corev1.Pod{Spec: corev1.PodSpec{TerminationGracePeriodSeconds: grace}}
	}
	job := &batchv1.Job{}
	job.Spec.Template.Spec.TerminationGracePeriodSeconds = new(int64(60))
	for _, c := range []struct {
		running []kind.Object
		want    time.Duration
	}{
		{nil, 10 * time.Second},
		{[]kind.Object{pod(nil)}, 40 * time.Second},
		{[]kind.Object{pod(new(int64(5))), job}, 70 * time.Second},
		{[]kind.Object{pod(new(int64(math.MaxInt64 / int64(time.Second))))}, kind.Seconds(math.MaxInt64)},
		{[]kind.Object{pod(new(int64(math.MaxInt64)))}, kind.Seconds(math.MaxInt64)},
	} {
		if got := patienceWith(c.running); got != c.want {
			t.Errorf("with %v: %s, want %s", c.running, got, c.want)
		}
	}
}
