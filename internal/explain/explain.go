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
	"github.com/sampan-batch/sampan/internal/reason"
)

// State is what an object does, in a word for scripts.
type State string

// The states. Complete, Failed and Succeeded are final.
const (
	Running     State = "Running"     // a process of it runs
	Pending     State = "Pending"     // it wants to run, and something is missing
	Waiting     State = "Waiting"     // for a time: its next slot, the end of a back-off
	Suspended   State = "Suspended"   // until somebody lets it go on
	Terminating State = "Terminating" // its end is decided, and takes its time
	Complete    State = "Complete"    // a Job
	Succeeded   State = "Succeeded"   // a pod
	Failed      State = "Failed"
	Never       State = "Never"   // a CronJob whose schedule says so, or cannot be read
	Unknown     State = "Unknown" // only somebody else knows
)

// Answer is what there is to say about one object. Its JSON form is what
// `sampan explain -o json` prints: scripts rely on it.
type Answer struct {
	Kind      string `json:"kind"`
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	State     State  `json:"state"`
	// Summary says in one phrase what it does: "is suspended."
	Summary string `json:"summary"`
	// Why gives the reasons of that, SoFar what happened, Next what will; one
	// line each.
	Why   []string `json:"why"`
	SoFar []string `json:"soFar"`
	Next  []string `json:"next"`
	// NextTime is when the next thing happens by itself, if that is known.
	NextTime *metav1.Time `json:"nextTime,omitempty"`
}

func about(kind string, meta *metav1.ObjectMeta) Answer {
	return Answer{Kind: kind, Namespace: meta.Namespace, Name: meta.Name, Why: []string{}, SoFar: []string{}, Next: []string{}}
}

// String is the answer in a few lines.
func (a Answer) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s/%s %s\n", strings.ToLower(a.Kind), a.Name, a.Summary)
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

func (a *Answer) is(state State, format string, args ...any) {
	a.State, a.Summary = state, fmt.Sprintf(format, args...)
}
func (a *Answer) why(format string, args ...any) { a.Why = append(a.Why, fmt.Sprintf(format, args...)) }
func (a *Answer) soFar(format string, args ...any) {
	a.SoFar = append(a.SoFar, fmt.Sprintf(format, args...))
}
func (a *Answer) next(format string, args ...any) {
	a.Next = append(a.Next, fmt.Sprintf(format, args...))
}

// wake: something happens by itself at t.
func (a *Answer) wake(t time.Time) {
	if !t.IsZero() && (a.NextTime == nil || t.Before(a.NextTime.Time)) {
		a.NextTime = &metav1.Time{Time: t}
	}
}

// command is one that a user can run about the object.
func (a *Answer) command(command string) string {
	if a.Namespace == "" || a.Namespace == metav1.NamespaceDefault {
		return command
	}
	return command + " -n " + a.Namespace
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

// isItThere asks back when somebody should have acted since t.
func (c clock) isItThere(t time.Time) string {
	if c.now.Sub(t) < 15*time.Second {
		return ""
	}
	return " (is it running?)"
}

func (c clock) today(t time.Time) bool {
	return t.In(c.now.Location()).Format(time.DateOnly) == c.now.Format(time.DateOnly)
}

func round(d time.Duration) string { return duration.HumanDuration(d) }

// count is a number and a noun: "1 pod", "3 pods".
func count(n int, noun string) string {
	if strings.HasSuffix(noun, "x") {
		return plural(n, noun, noun+"es")
	}
	return plural(n, noun, noun+"s")
}

// plural is a number and the words that go with it.
func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// deleted says that an object is on its way out, and what keeps it.
func (a *Answer) deleted(c clock, meta *metav1.ObjectMeta) {
	a.is(Terminating, "has been terminating since %s.", c.span(meta.DeletionTimestamp.Time))
	if len(meta.Finalizers) > 0 {
		a.why("it stays until these finalizers are removed: %s", strings.Join(meta.Finalizers, ", "))
	}
}

// telling are the Normal events that explain what was not done.
var telling = []string{
	reason.BackOff, reason.WaitingForTermination, reason.PodFailureIgnored, reason.NotReplaced, reason.JobAlreadyActive, reason.CronJobSuspended,
	reason.JobAlreadyExists, reason.MissingJob, reason.PodAdopted, reason.PodReleased, reason.PodNotCounted,
}

// events adds the most recent events that warn or explain, of those about one
// object and with one reason only the last. Those with a reason that the answer
// already covers are left out.
func (a *Answer) events(c clock, events []*corev1.Event, covered ...string) {
	const limit = 3
	type cause struct{ object, reason string }
	var told []*corev1.Event
	times := make(map[cause]int32)
	for _, ev := range byTime(events) {
		if ev.Type != corev1.EventTypeWarning && !slices.Contains(telling, ev.Reason) || slices.Contains(covered, ev.Reason) {
			continue
		}
		key := cause{subject(ev), ev.Reason}
		if times[key] == 0 && len(told) < limit {
			told = append(told, ev)
		}
		times[key] += max(1, occurrences(ev))
	}
	for _, ev := range slices.Backward(told) {
		often := ""
		if n := times[cause{subject(ev), ev.Reason}]; n > 1 {
			often = fmt.Sprintf(", the last of %d times", n)
		}
		a.soFar("%s%s: %s %s: %s", c.span(kind.LastHappened(ev)), often, subject(ev), ev.Reason, FirstLine(ev.Message))
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

// FirstLine keeps what others say at a line of at most 300 characters.
func FirstLine(s string) string {
	const limit = 300
	s, _, _ = strings.Cut(strings.TrimSpace(s), "\n")
	if r := []rune(s); len(r) > limit {
		s = string(r[:limit]) + "…"
	}
	return s
}
