// Package explain puts into words why a Job, a CronJob or a pod is (not)
// running, what happened so far, and what happens next and when. It goes by
// the objects and their events alone, as any cluster's API has them: marks that
// only Sampan leaves on objects make it more exact, and are not needed.
//
// It is pure, and it never promises: "next" is what the rules of Kubernetes
// say, if nobody changes anything.
package explain

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/duration"

	"github.com/sampan-batch/sampan/internal/kind"
)

// Answer is what there is to say about one object.
type Answer struct {
	// Subject names the object: "job/pi".
	Subject string
	// Now says in one phrase what it does: "is suspended".
	Now string
	// Why gives the reasons of that, SoFar what happened, Next what will; one
	// line each.
	Why, SoFar, Next []string
}

// String is the answer in a few lines.
func (a Answer) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s\n", a.Subject, a.Now)
	for _, part := range []struct {
		head  string
		lines []string
	}{{"Why:", a.Why}, {"So far:", a.SoFar}, {"Next:", a.Next}} {
		head := part.head
		for _, line := range part.lines {
			fmt.Fprintf(&b, "  %-8s %s\n", head, line)
			head = ""
		}
	}
	return b.String()
}

func (a *Answer) why(format string, args ...any) { a.Why = append(a.Why, fmt.Sprintf(format, args...)) }
func (a *Answer) soFar(format string, args ...any) {
	a.SoFar = append(a.SoFar, fmt.Sprintf(format, args...))
}
func (a *Answer) next(format string, args ...any) {
	a.Next = append(a.Next, fmt.Sprintf(format, args...))
}

// clock tells times as somebody at now would, in now's time zone.
type clock struct{ now time.Time }

// at is the adverbial of a moment: "at 12:04:13 (in 17s)".
func (c clock) at(t time.Time) string {
	if c.today(t) {
		return "at " + c.span(t)
	}
	return "on " + c.span(t)
}

// span is a moment and how far off it is: "12:04:13 (in 17s)", with its date
// unless that is today.
func (c clock) span(t time.Time) string {
	layout := "Mon 2006-01-02 15:04:05"
	if c.today(t) {
		layout = time.TimeOnly
	}
	text := t.In(c.now.Location()).Format(layout)
	if t.After(c.now) {
		return fmt.Sprintf("%s (in %s)", text, round(t.Sub(c.now)))
	}
	return fmt.Sprintf("%s (%s ago)", text, round(c.now.Sub(t)))
}

func (c clock) today(t time.Time) bool {
	return t.In(c.now.Location()).Format(time.DateOnly) == c.now.Format(time.DateOnly)
}

func round(d time.Duration) string { return duration.HumanDuration(d) }

// count is a number and a noun: "1 pod", "3 pods".
func count(n int, noun string) string {
	switch {
	case n == 1:
		return "1 " + noun
	case strings.HasSuffix(noun, "x"):
		return fmt.Sprintf("%d %ses", n, noun)
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// deleted says that an object is on its way out, and what keeps it.
func (a *Answer) deleted(c clock, meta *metav1.ObjectMeta) {
	a.Now = "is being deleted since " + c.span(meta.DeletionTimestamp.Time)
	if len(meta.Finalizers) > 0 {
		a.why("it stays until these finalizers are removed: %s", strings.Join(meta.Finalizers, ", "))
	}
}

// telling are the Normal events that explain what was not done.
var telling = []string{
	"BackOff", "WaitingForTermination", "PodFailureIgnored", "NotReplaced", "JobAlreadyActive", "CronJobSuspended",
	"JobAlreadyExists", "MissingJob",
}

// events adds the most recent events that warn or explain. Those with a reason
// that the answer already covers are left out.
func (a *Answer) events(c clock, events []*corev1.Event, covered ...string) {
	const limit = 3
	var told []*corev1.Event
	seen := make(map[string]bool)
	for _, ev := range byTime(events) {
		key := ev.InvolvedObject.Name + "\x00" + ev.Reason + "\x00" + ev.Message
		if ev.Type != corev1.EventTypeWarning && !slices.Contains(telling, ev.Reason) || slices.Contains(covered, ev.Reason) || seen[key] {
			continue
		}
		seen[key] = true
		if told = append(told, ev); len(told) == limit {
			break
		}
	}
	for _, ev := range slices.Backward(told) {
		times := ""
		if n := occurrences(ev); n > 1 {
			times = fmt.Sprintf(", %d times", n)
		}
		a.soFar("%s%s: %s %s: %s", c.span(kind.LastHappened(ev)), times, subject(ev), ev.Reason, firstLine(ev.Message))
	}
}

// latest returns the most recent event with one of these reasons.
func latest(events []*corev1.Event, reasons ...string) *corev1.Event {
	for _, ev := range byTime(events) {
		if slices.Contains(reasons, ev.Reason) {
			return ev
		}
	}
	return nil
}

// byTime sorts events, the most recent first.
func byTime(events []*corev1.Event) []*corev1.Event {
	return slices.SortedStableFunc(slices.Values(events), func(x, y *corev1.Event) int {
		return cmp.Or(kind.LastHappened(y).Compare(kind.LastHappened(x)), cmp.Compare(y.Name, x.Name))
	})
}

func occurrences(ev *corev1.Event) int32 {
	if ev.Series != nil {
		return max(ev.Series.Count, ev.Count)
	}
	return ev.Count
}

func subject(ev *corev1.Event) string {
	return strings.ToLower(ev.InvolvedObject.Kind) + "/" + ev.InvolvedObject.Name
}

// firstLine keeps an answer at a few lines.
func firstLine(s string) string {
	const limit = 300
	s, _, _ = strings.Cut(strings.TrimSpace(s), "\n")
	if r := []rune(s); len(r) > limit {
		s = string(r[:limit]) + "…"
	}
	return s
}
