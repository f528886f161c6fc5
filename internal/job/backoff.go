package job

import (
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/sampan-batch/sampan/internal/kind"
)

// A failed pod is not replaced at once: the wait doubles with every failure in
// a row, from firstBackoff to maxBackoff, and counts from the end of the last
// one that failed. A success ends the row.
const (
	firstBackoff = 10 * time.Second
	maxBackoff   = 10 * time.Minute
)

// BackoffAnnotation keeps a row of failures on the Job while it lasts, because
// the pods that failed may be gone when the wait is over. Kubernetes keeps it
// in its controller's memory.
//
// Without backoffLimitPerIndex it holds how many pods failed in a row and when
// the last one ended, and " waiting" when an event has told that the next one
// waits: "2 2026-01-31T07:00:00Z waiting". With backoffLimitPerIndex, where
// each index's last failed pod keeps the row, it holds the indexes whose wait
// an event has told: "3,7-9".
const BackoffAnnotation = kind.Backoff

// streak is a row of failures since the last success.
type streak struct {
	failures int32
	last     time.Time // when the last of them ended
	told     bool      // an event has told that the next pod waits
}

func parseStreak(s string) streak {
	n, rest, _ := strings.Cut(s, " ")
	at, told, _ := strings.Cut(rest, " ")
	failures, err := strconv.ParseInt(n, 10, 32)
	last, err2 := time.Parse(time.RFC3339Nano, at)
	if err != nil || err2 != nil || failures <= 0 {
		return streak{}
	}
	return streak{int32(failures), last, told == "waiting"}
}

// String is what parseStreak reads; "" when there is no failure.
func (s streak) String() string {
	if s.failures == 0 {
		return ""
	}
	text := strconv.Itoa(int(s.failures)) + " " + s.last.UTC().Format(time.RFC3339Nano)
	if s.told {
		text += " waiting"
	}
	return text
}

// after returns the streak when these pods have ended too: any success ends the
// row, and only what failed later than the last success starts a new one. What
// ended in the future, because a clock was set back, has ended now.
func (s streak) after(succeeded, failed []*corev1.Pod, now time.Time) streak {
	var success time.Time
	if len(succeeded) > 0 {
		s = streak{}
		for _, pod := range succeeded {
			if t := endOf(pod); t.After(success) {
				success = t
			}
		}
	}
	for _, pod := range failed {
		t := endOf(pod)
		if len(succeeded) > 0 && !t.After(success) {
			continue
		}
		s.failures++
		s.told = false
		if t.After(s.last) {
			s.last = t
		}
	}
	if s.last.After(now) {
		s.last = now
	}
	return s
}

// until is when the next pod may start: the zero time after a success.
func (s streak) until() time.Time {
	if s.failures == 0 {
		return time.Time{}
	}
	return s.last.Add(backoff(s.failures))
}

// backoff is how long to wait after so many failures in a row.
func backoff(failures int32) time.Duration {
	wait := firstBackoff
	for i := int32(1); i < failures && wait < maxBackoff; i++ {
		wait *= 2
	}
	return min(wait, maxBackoff)
}

// retryAt is when an index may be tried again after this pod of it failed: at
// once if that was in a future that only a clock that was set back explains.
func retryAt(pod *corev1.Pod, now time.Time) time.Time {
	end := endOf(pod)
	if end.Sub(now) > maxBackoff {
		return now
	}
	return end.Add(backoff(earlierFailures(pod) + earlierIgnored(pod) + 1))
}
