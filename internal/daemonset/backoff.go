package daemonset

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"

	"github.com/sampan-batch/sampan/internal/kind"
)

// A pod that failed is replaced at once, unless another one on its node has failed shortly
// before: the wait doubles each time, from firstBackoff to maxBackoff, and is forgotten
// when nothing has failed there for twice the longest. A new generation begins anew.
const (
	firstBackoff = time.Second
	maxBackoff   = 15 * time.Minute
)

// BackoffAnnotation keeps the waits on the DaemonSet; Kubernetes keeps them in its
// controller's memory. It holds the generation for which they count, and for each node the
// wait and since when: "3: a 4s 2026-01-31T07:00:00Z, b 1s 2026-01-31T07:00:02Z".
const BackoffAnnotation = kind.Backoff

// backoff is what BackoffAnnotation says.
type backoff struct {
	generation int64
	nodes      map[string]wait
}

type wait struct {
	length time.Duration
	since  time.Time
}

// forgotten is when the wait does not count any more. The set is looked at then, so that it
// does not say for ever what was once the matter.
func (w wait) forgotten() time.Time { return w.since.Add(2 * maxBackoff) }

// readBackoff returns the waits that still count. What cannot be read is no wait.
func readBackoff(ds *appsv1.DaemonSet, now time.Time) backoff {
	b := backoff{ds.Status.ObservedGeneration, map[string]wait{}}
	generation, nodes, _ := strings.Cut(ds.Annotations[BackoffAnnotation], ": ")
	if n, err := strconv.ParseInt(generation, 10, 64); err != nil || n != b.generation {
		return b
	}
	for _, text := range strings.Split(nodes, ", ") {
		fields := strings.Fields(text)
		if len(fields) != 3 {
			continue
		}
		length, err := time.ParseDuration(fields[1])
		since, err2 := time.Parse(time.RFC3339Nano, fields[2])
		if err != nil || err2 != nil || length <= 0 || length > maxBackoff || !now.Before(wait{length, since}.forgotten()) || since.After(now) {
			continue // also of a time to come, which only a clock that was set back explains
		}
		b.nodes[fields[0]] = wait{length, since}
	}
	return b
}

// String is what readBackoff reads; "" when nothing waits.
func (b backoff) String() string {
	if len(b.nodes) == 0 {
		return ""
	}
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(b.nodes)) {
		w := b.nodes[name]
		parts = append(parts, fmt.Sprintf("%s %s %s", name, w.length, w.since.UTC().Format(time.RFC3339Nano)))
	}
	return strconv.FormatInt(b.generation, 10) + ": " + strings.Join(parts, ", ")
}

// until is when a pod that failed on the node may go; it is past if that is now.
func (b backoff) until(node string, now time.Time) time.Time {
	w, ok := b.nodes[node]
	if !ok {
		return now
	}
	return w.since.Add(w.length)
}

// next notes that a pod that failed on the node goes now.
func (b backoff) next(node string, now time.Time) {
	length := firstBackoff
	if w, ok := b.nodes[node]; ok {
		length = min(2*w.length, maxBackoff)
	}
	b.nodes[node] = wait{length, now}
}
