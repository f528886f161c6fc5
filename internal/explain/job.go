package explain

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"

	"github.com/sampan-batch/sampan/internal/job"
	"github.com/sampan-batch/sampan/internal/kind"
	"github.com/sampan-batch/sampan/internal/reason"
)

// examples is how many pods an answer about a Job shows of those that are alike.
const examples = 3

// jobStory is an answer about a Job in the making.
type jobStory struct {
	Answer
	c      clock
	job    *batchv1.Job
	events []*corev1.Event // of the Job and its pods

	outlook job.Outlook
	failed  []*corev1.Pod // the latest first, counted or not
	covered []string
}

// Job explains a Job, from itself, the pods that it controls and the events
// about it and them.
func Job(now time.Time, j *batchv1.Job, pods []*corev1.Pod, events []*corev1.Event) Answer {
	s := &jobStory{Answer: about("Job", &j.ObjectMeta), c: clock{now}, job: j, events: events, outlook: job.Look(now, j, pods)}
	for _, pod := range pods {
		if pod.Status.Phase == corev1.PodFailed {
			s.failed = append(s.failed, pod)
		}
	}
	slices.SortFunc(s.failed, func(x, y *corev1.Pod) int { // the latest first
		return cmp.Or(job.EndOf(y).Compare(job.EndOf(x)), strings.Compare(x.Name, y.Name))
	})
	s.progress()
	if end := kind.JobEnd(j); end != nil {
		s.over(end)
	} else {
		s.underWay()
	}
	s.Answer.events(s.c, events, append(s.covered, reason.BackOff, string(batchv1.JobReasonBackoffLimitExceeded))...)
	return s.Answer
}

// progress says how far the Job has got.
func (s *jobStory) progress() {
	st, spec := &s.job.Status, &s.job.Spec
	began := "created " + s.c.at(s.job.CreationTimestamp.Time)
	if st.StartTime != nil {
		began = "started " + s.c.at(st.StartTime.Time)
	}
	what := "pods"
	if kind.Indexed(spec) {
		what = "indexes"
	}
	done := fmt.Sprintf("%d of %d %s succeeded", st.Succeeded, ptr.Deref(spec.Completions, 0), what)
	if spec.Completions == nil {
		done = fmt.Sprintf("a work queue: %s succeeded", count(int(st.Succeeded), "pod"))
	}
	s.soFar("%s; %s, %d active, %s failed", began, done, st.Active, count(int(st.Failed), "pod"))
	if from := s.job.Annotations[kind.JobRerunOf]; from != "" {
		line := "runs once more what job/" + from + " ran"
		if carried := s.job.Annotations[kind.JobCarriedIndexes]; carried != "" {
			line += fmt.Sprintf("; %s had succeeded there and counts as done", indexes(job.ParseIndexes(carried, math.MaxInt32)))
		}
		s.soFar("%s", line)
	}
	if s.outlook.Lost.Len() > 0 {
		s.soFar("%s failed for good", indexes(s.outlook.Lost))
		s.covered = append(s.covered, reason.IndexFailed)
	}
}

// indexes names a set of indexes, in a length that suits a line.
func indexes(x job.Indexes) string {
	text := x.String()
	if len(text) > 100 {
		text = text[:strings.LastIndexByte(text[:100], ',')] + ",…"
	}
	if x.Len() == 1 {
		return "index " + text
	}
	return fmt.Sprintf("%d indexes (%s)", x.Len(), text)
}

// over is the story of a Job that has finished.
func (s *jobStory) over(end *batchv1.JobCondition) {
	s.covered = append(s.covered, end.Reason)
	at := end.LastTransitionTime.Time
	if end.Type == batchv1.JobComplete {
		s.is(Complete, "has been Complete since %s.", s.c.span(at))
		s.why("%s", strings.TrimPrefix(whyOf(end), "CompletionsReached: "))
	} else {
		s.is(Failed, "Failed %s.", s.c.at(at))
		s.why("%s", whyOf(end)+s.limit(end.Reason))
		s.failures()
	}
	if n := len(s.outlook.Active) + len(s.outlook.Terminating); n > 0 {
		s.next("still to end: %s", count(n, "pod"))
	}
	if s.job.DeletionTimestamp != nil {
		s.deleted(s.c, &s.job.ObjectMeta)
		return
	}
	if ttl := s.job.Spec.TTLSecondsAfterFinished; ttl != nil {
		end := at.Add(time.Duration(*ttl) * time.Second)
		s.wake(end)
		s.next("it is deleted with its pods and their logs %s (ttlSecondsAfterFinished)", s.c.at(end))
	} else {
		s.next("nothing: a Job that has finished never runs again")
	}
	if end.Type == batchv1.JobFailed {
		again := "sampan job rerun job/" + s.job.Name
		if s.job.Status.CompletedIndexes != "" {
			again += " --failed-indexes"
		}
		s.next("to run it again as a new Job: %s", s.command(again))
	}
}

func whyOf(c *batchv1.JobCondition) string { return because(c.Reason, c.Message) }

func because(reason, message string) string {
	if reason == "" || message == "" {
		return reason + message
	}
	return reason + ": " + FirstLine(message)
}

// limit is the field that a reason speaks of.
func (s *jobStory) limit(reason string) string {
	spec := &s.job.Spec
	switch {
	case reason == batchv1.JobReasonBackoffLimitExceeded && spec.BackoffLimit != nil:
		return fmt.Sprintf(" (backoffLimit %d)", *spec.BackoffLimit)
	case reason == batchv1.JobReasonDeadlineExceeded && spec.ActiveDeadlineSeconds != nil:
		return fmt.Sprintf(" (activeDeadlineSeconds %d)", *spec.ActiveDeadlineSeconds)
	case reason == batchv1.JobReasonMaxFailedIndexesExceeded && spec.MaxFailedIndexes != nil:
		return fmt.Sprintf(" (maxFailedIndexes %d)", *spec.MaxFailedIndexes)
	}
	return ""
}

// failures shows how the last pods failed.
func (s *jobStory) failures() {
	for i, pod := range s.failed {
		if i == examples {
			s.why("and %s before", count(len(s.failed)-examples, "failed pod"))
			return
		}
		how := failure(pod)
		if len(how) == 0 {
			how = []string{"it does not say why"}
		}
		if rule, ok := job.Ignored(s.job, pod); ok {
			s.covered = append(s.covered, reason.PodFailureIgnored)
			how = append(how, fmt.Sprintf("it does not count (Ignore rule at index %d of podFailurePolicy)", rule))
		}
		s.why("pod %s failed%s: %s", pod.Name, endedAt(s.c, pod), strings.Join(how, "; "))
	}
	if s.job.Status.Failed > 0 && len(s.failed) == 0 {
		s.why("the pods that failed are gone, and their logs with them")
	}
}

// underWay is the story of a Job that has not finished.
func (s *jobStory) underWay() {
	j := s.job
	v := s.outlook.Verdict
	switch {
	case j.DeletionTimestamp != nil:
		s.deleted(s.c, &j.ObjectMeta)
	case job.ManagedElsewhere(j):
		s.is(Unknown, "is left to another controller.")
		s.why("spec.managedBy is %s, which alone starts its pods and keeps its status", *j.Spec.ManagedBy)
		s.next("whatever that controller decides: its own log may say more")
	case v.Recorded, v.Target == batchv1.JobFailureTarget:
		s.ending(v)
	case ptr.Deref(j.Spec.Suspend, false):
		s.suspended()
	default:
		s.running()
	}
}

// ending: the verdict is certain, but pods are left, or its controller has not looked.
func (s *jobStory) ending(v job.Verdict) {
	verb, then := "succeeds", "Complete"
	if v.Target == batchv1.JobFailureTarget {
		verb, then = "fails", "Failed"
	}
	s.is(Terminating, "%s, and waits for its pods to end.", verb)
	s.why("%s", because(v.Reason, v.Message)+s.limit(v.Reason))
	s.covered = append(s.covered, v.Reason)
	if v.Target == batchv1.JobFailureTarget {
		s.failures()
	}
	s.shown(append(slices.Clone(s.outlook.Terminating), s.outlook.Active...), "")
	if len(s.outlook.Terminating)+len(s.outlook.Active) > 0 {
		s.next("it is %s as soon as they have ended", then)
	} else {
		s.next("it is %s as soon as its controller has accounted for all of its pods", then)
	}
}

func (s *jobStory) suspended() {
	s.is(Suspended, "is suspended.")
	since := ""
	if c := kind.JobCondition(&s.job.Status, batchv1.JobSuspended); c != nil && !c.LastTransitionTime.IsZero() {
		since = ", since " + s.c.span(c.LastTransitionTime.Time)
	}
	s.why("spec.suspend is true%s: its pods are deleted, and none is started", since)
	if len(s.outlook.Terminating) > 0 {
		s.why("still terminating: %s", count(len(s.outlook.Terminating), "pod"))
	}
	s.next("nothing until somebody resumes it: %s", s.command(fmt.Sprintf(`kubectl patch job %s -p '{"spec":{"suspend":false}}'`, s.job.Name)))
	if limit := s.job.Spec.ActiveDeadlineSeconds; limit != nil {
		s.next("then its deadline begins anew: %s", round(kind.Seconds(*limit)))
	}
}

// running is the story of a Job that has, or wants, pods.
func (s *jobStory) running() {
	wait, missing := s.outlook.Wait, s.outlook.Missing
	switch {
	case len(s.outlook.Active) > 0:
		s.states()
	case !wait.Until.IsZero():
		s.is(Waiting, "waits before it tries again.")
		s.covered = append(s.covered, reason.FailedCreate)
	case len(s.outlook.Terminating) > 0:
		s.is(Pending, "waits for pods to end.")
	case ptr.Deref(s.job.Spec.Parallelism, 1) == 0:
		s.is(Suspended, "does not run: spec.parallelism is 0.")
		s.next("nothing until somebody gives it a parallelism")
	default:
		s.noPods()
	}
	if len(s.outlook.Active) == 0 || missing > 0 {
		s.backoff(wait)
	}
	if len(s.outlook.Active) > 0 && missing > 0 && wait.Until.IsZero() && len(s.outlook.Terminating) == 0 {
		s.someRefused(missing)
	}
	if len(s.outlook.Terminating) > 0 {
		s.shown(s.outlook.Terminating, "")
		if missing > 0 && s.outlook.AfterEnd {
			s.covered = append(s.covered, reason.WaitingForTermination)
			s.next("terminating pods are replaced only when they have ended (podReplacementPolicy Failed)")
		}
	}
	s.ahead()
}

// noPods: nothing keeps the Job from starting pods, but there are none.
func (s *jobStory) noPods() {
	if ev := latest(s.events, reason.FailedCreate); ev != nil {
		s.is(Pending, "does not run: its pods are refused.")
		s.why("%s", FirstLine(ev.Message))
		s.next("the controller tries again and again, until a pod is accepted")
		s.covered = append(s.covered, reason.FailedCreate)
		return
	}
	if failed := s.job.Status.Failed; failed > 0 && len(s.failed) == 0 {
		// How many failed in a row, and when, only its controller knows.
		s.is(Waiting, "waits before it tries again.")
		s.why("%s failed and are gone: after so many in a row, another one starts up to %s later", count(int(failed), "pod"), round(job.WaitAfter(failed)))
		s.next("another pod starts, if its controller is running")
		return
	}
	if len(s.failed) > 0 {
		s.is(Pending, "is about to try again.")
		s.why("its controller has not created another pod yet")
		s.failures()
		return
	}
	if n := len(s.outlook.Uncounted); n > 0 {
		s.is(Pending, "waits for its controller.")
		s.why("%s succeeded, which its controller has not counted yet%s", count(n, "pod"), s.c.isItThere(job.EndOf(s.outlook.Uncounted[n-1])))
		s.next("it goes on, or is Complete, as soon as the controller looks at it")
		return
	}
	if s.job.Status.Succeeded > 0 {
		s.is(Pending, "is about to go on.")
		s.why("its controller has not created another pod yet")
		s.next("its next pods, as soon as the controller looks at it")
		return
	}
	s.is(Pending, "has no pod yet.")
	since := s.job.CreationTimestamp.Time
	if s.job.Status.StartTime != nil {
		since = s.job.Status.StartTime.Time // or resumed
	}
	s.why("its controller has not created a pod yet%s", s.c.isItThere(since))
	s.next("its first pods, as soon as the controller looks at it")
}

// someRefused: the latest try to start pods beside those that are active failed.
func (s *jobStory) someRefused(missing int) {
	if ev := latest(s.events, reason.FailedCreate, reason.SuccessfulCreate); ev != nil && ev.Reason == reason.FailedCreate {
		s.why("%s refused: %s", plural(missing, "more pod is", "more pods are"), FirstLine(ev.Message))
		s.next("the controller tries again and again to start %s", plural(missing, "more pod", "more pods"))
		s.covered = append(s.covered, reason.FailedCreate)
	}
}

// states says what the active pods do, those that do not run with the reason.
func (s *jobStory) states() {
	var running int
	odd := make(map[string][]*corev1.Pod)
	var classes []string
	for _, pod := range s.outlook.Active {
		st := look(s.c, pod, s.about(pod))
		s.covered = append(s.covered, st.covered...)
		if st.state() == Running && st.class != "initializing" {
			running++
		}
		if st.class == "running" {
			continue
		}
		if odd[st.class] == nil {
			classes = append(classes, st.class)
		}
		odd[st.class] = append(odd[st.class], pod)
	}
	s.is(Pending, "does not run yet.")
	if running > 0 {
		s.is(Running, "is running.")
		s.why("%s", plural(running, "pod runs", "pods run"))
	}
	for _, class := range classes {
		s.shown(odd[class], fmt.Sprintf("%s: %s", count(len(odd[class]), "pod"), class))
	}
}

// shown gives examples of pods, behind a line about all of them.
func (s *jobStory) shown(pods []*corev1.Pod, all string) {
	if all != "" && len(pods) > 1 {
		s.why("%s", all)
	}
	for i, pod := range pods {
		if i == examples && len(pods) > examples+1 {
			s.why("and %d more", len(pods)-examples)
			return
		}
		st := look(s.c, pod, s.about(pod))
		line := fmt.Sprintf("pod %s %s", pod.Name, st.now)
		if len(st.why) > 0 {
			line += ": " + strings.Join(st.why, "; ")
		}
		s.why("%s", line)
		if i == 0 {
			for _, next := range st.next {
				s.next("pod %s: %s", pod.Name, next)
			}
			s.wake(st.at)
		}
	}
}

// about returns the events about a pod.
func (s *jobStory) about(pod *corev1.Pod) []*corev1.Event {
	var own []*corev1.Event
	for _, ev := range s.events {
		if ev.InvolvedObject.UID == pod.UID {
			own = append(own, ev)
		}
	}
	return own
}

// backoff says what is waited for, and why.
func (s *jobStory) backoff(wait job.Wait) {
	switch {
	case wait.Until.IsZero():
		return
	case wait.Indexes.Len() == 1:
		s.why("%s failed and is to be retried after a wait", indexes(wait.Indexes))
		s.next("it is tried again %s", s.c.at(wait.Until))
	case wait.Indexes.Len() > 1:
		s.why("%s failed and are to be retried, each after a wait of its own", indexes(wait.Indexes))
		s.next("the first of these is tried again %s", s.c.at(wait.Until))
	default:
		s.why("%s: the wait doubles with each in a row, from 10s to 10m", plural(int(wait.Failures), "pod failed", "pods in a row failed"))
		s.next("another pod starts %s", s.c.at(wait.Until))
	}
	s.wake(wait.Until)
	s.failures()
}
