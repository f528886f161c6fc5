package explain

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sampan-batch/sampan/internal/job"
	"github.com/sampan-batch/sampan/internal/kind"
	"github.com/sampan-batch/sampan/internal/reason"
)

// Pod explains a pod, from itself and the events about it.
func Pod(now time.Time, pod *corev1.Pod, events []*corev1.Event) Answer {
	c := clock{now}
	a := about("Pod", &pod.ObjectMeta)
	if owner := metav1.GetControllerOfNoCopy(pod); owner != nil {
		a.soFar("created %s by %s/%s", c.at(pod.CreationTimestamp.Time), strings.ToLower(owner.Kind), owner.Name)
	} else {
		a.soFar("created %s", c.at(pod.CreationTimestamp.Time))
	}
	if pod.Spec.NodeName != "" {
		a.soFar("on node %s%s", pod.Spec.NodeName, startedAt(c, pod))
	}
	s := look(c, pod, events)
	a.is(s.state(), "%s.", s.now)
	a.wake(s.at)
	a.Why = append(a.Why, s.why...)
	a.Next = append(a.Next, s.next...)
	a.restarts(pod)
	if kind.PodEnded(pod) {
		a.afterEnd(pod)
	} else if limit := pod.Spec.ActiveDeadlineSeconds; limit != nil && pod.Status.StartTime != nil {
		deadline := pod.Status.StartTime.Add(kind.Seconds(*limit))
		a.wake(deadline)
		a.next("it fails if it still runs %s (activeDeadlineSeconds)", c.at(deadline))
	}
	a.events(c, events, s.covered...)
	return a
}

func startedAt(c clock, pod *corev1.Pod) string {
	if pod.Status.StartTime == nil {
		return ""
	}
	return ", where it started " + c.at(pod.Status.StartTime.Time)
}

func (a *Answer) restarts(pod *corev1.Pod) {
	for _, s := range slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses) {
		if last := s.LastTerminationState.Terminated; s.RestartCount > 0 && last != nil {
			a.soFar("container %s was restarted %s; before that it %s", s.Name, count(int(s.RestartCount), "time"), exit(last))
		}
	}
}

// afterEnd says who decides what follows.
func (a *Answer) afterEnd(pod *corev1.Pod) {
	owner := metav1.GetControllerOfNoCopy(pod)
	switch {
	case owner == nil:
		a.next("nothing: a pod that has ended does not start again, and nobody replaces this one")
	case pod.Status.Phase == corev1.PodFailed && owner.Kind == "Job":
		a.next("its Job decides whether another pod follows: %s", a.command("sampan explain job/"+owner.Name))
	default:
		a.next("nothing: it has ended, and is kept for its log until its %s is deleted", owner.Kind)
	}
}

// state is what a look at a pod shows.
type state struct {
	class   string // what pods in the same state have in common: "running"
	now     string // in a phrase: "is running"
	why     []string
	next    []string
	at      time.Time // when next comes by itself, if that is known
	covered []string  // reasons of events that say the same
}

func (st state) state() State {
	switch st.class {
	case "running", "initializing", "half ended":
		return Running
	case "succeeded":
		return Succeeded
	case "failed":
		return Failed
	case "terminating":
		return Terminating
	case "unknown":
		return Unknown
	case "crash loop":
		return Waiting
	}
	return Pending
}

// look says what a pod does.
func look(c clock, pod *corev1.Pod, events []*corev1.Event) state {
	switch {
	case pod.Status.Phase == corev1.PodSucceeded:
		return state{class: "succeeded", now: "succeeded" + endedAt(c, pod)}
	case pod.Status.Phase == corev1.PodFailed:
		return state{class: "failed", now: "failed" + endedAt(c, pod), why: failure(pod)}
	case pod.DeletionTimestamp != nil:
		return leaving(c, pod)
	case pod.Status.Phase == corev1.PodUnknown:
		return state{class: "unknown", now: "is in an unknown state: its node does not answer"}
	case pod.Spec.NodeName == "":
		return unplaced(c, pod, events)
	}
	for i := range pod.Status.InitContainerStatuses {
		s := &pod.Status.InitContainerStatuses[i]
		if done := s.State.Terminated; done != nil && done.ExitCode == 0 || kind.Sidecar(pod, s.Name) && s.State.Running != nil {
			continue
		}
		if st, odd := lookAt(c, pod, s, "init container "+s.Name, events); odd {
			return st
		}
		return state{class: "initializing", now: fmt.Sprintf("runs init container %s (%d of %d)", s.Name, i+1, len(pod.Spec.InitContainers))}
	}
	running := 0
	for i := range pod.Status.ContainerStatuses {
		s := &pod.Status.ContainerStatuses[i]
		if st, odd := lookAt(c, pod, s, "container "+s.Name, events); odd {
			return st
		}
		if s.State.Running != nil {
			running++
		}
	}
	if running == 0 {
		st := state{class: "starting", now: "is starting on node " + pod.Spec.NodeName, why: hindrance(events)}
		if len(pod.Status.ContainerStatuses) == 0 && len(st.why) == 0 {
			st.why = []string{"the node has not reported on it yet" + c.isItThere(pod.CreationTimestamp.Time)}
		}
		return st
	}
	if running < len(pod.Status.ContainerStatuses) && pod.Spec.RestartPolicy != corev1.RestartPolicyAlways {
		return lingers(c, pod)
	}
	return runs(pod, events)
}

// lingers is the state of a pod of which a container has ended and another one has not: it may
// be a helper that nobody tells.
func lingers(c clock, pod *corev1.Pod) state {
	st := state{class: "half ended"}
	var run []string
	for _, s := range pod.Status.ContainerStatuses {
		if t := s.State.Terminated; t != nil {
			when := ""
			if !t.FinishedAt.IsZero() {
				when = " " + c.at(t.FinishedAt.Time)
			}
			st.why = append(st.why, fmt.Sprintf("container %s %s%s", s.Name, exit(t), when))
		} else {
			run = append(run, s.Name)
		}
	}
	others, do := "container "+run[0], "does"
	if len(run) > 1 {
		others, do = "containers "+strings.Join(run, ", "), "do"
	}
	st.now = fmt.Sprintf("does not end before %s %s", others, do)
	st.next = append(st.next, fmt.Sprintf("it ends when %s %s; one that only helps belongs into initContainers, with restartPolicy Always", others, do))
	return st
}

// runs is the state of a pod whose containers do.
func runs(pod *corev1.Pod, events []*corev1.Event) state {
	st := state{class: "running", now: "is running"}
	switch pod.Spec.RestartPolicy {
	case corev1.RestartPolicyNever:
		st.next = append(st.next, "it ends when its containers do; if one fails, it fails (restartPolicy Never)")
	case corev1.RestartPolicyOnFailure:
		st.next = append(st.next, "it ends when its containers have succeeded; one that fails is started again (restartPolicy OnFailure)")
	default:
		st.next = append(st.next, "nothing: whatever ends in it is started again (restartPolicy Always)")
	}
	if ready := kind.PodCondition(pod, corev1.PodReady); ready != nil && ready.Status != corev1.ConditionTrue && len(st.why) == 0 {
		st.now = "is running, but not ready"
		if ev := latest(events, reason.Unhealthy); ev != nil {
			st.why = append(st.why, FirstLine(ev.Message))
			st.covered = []string{reason.Unhealthy}
		}
	}
	return st
}

// leaving is the state of a pod that is being deleted.
func leaving(c clock, pod *corev1.Pod) state {
	st := state{class: "terminating", now: "is terminating"}
	if pod.DeletionTimestamp.After(c.now) {
		st.at = pod.DeletionTimestamp.Time
		st.next = append(st.next, fmt.Sprintf("what still runs is killed %s", c.at(st.at)))
	} else if pod.Spec.NodeName != "" {
		st.why = append(st.why, fmt.Sprintf("its grace period ended %s; node %s has not confirmed yet that it is gone", c.at(pod.DeletionTimestamp.Time), pod.Spec.NodeName))
	}
	if len(pod.Finalizers) > 0 {
		st.why = append(st.why, "it stays until these finalizers are removed: "+strings.Join(pod.Finalizers, ", "))
	}
	return st
}

// unplaced is the state of a pod without a node.
func unplaced(c clock, pod *corev1.Pod, events []*corev1.Event) state {
	st := state{class: "unscheduled", now: "waits for a node", covered: []string{reason.FailedScheduling}}
	placed := kind.PodCondition(pod, corev1.PodScheduled)
	switch {
	case len(pod.Spec.SchedulingGates) > 0:
		var gates []string
		for _, g := range pod.Spec.SchedulingGates {
			gates = append(gates, g.Name)
		}
		st.class, st.now = "gated", "is held back by scheduling gates"
		st.why = append(st.why, "spec.schedulingGates: "+strings.Join(gates, ", "))
		st.next = append(st.next, "it is scheduled when whoever set the gates removes them")
	case placed != nil && placed.Status == corev1.ConditionFalse && placed.Message != "":
		st.class, st.now = "unschedulable", "cannot be scheduled"
		st.why = append(st.why, FirstLine(placed.Message))
		st.next = append(st.next, "it is scheduled as soon as a node fits: one that is added or changed, or when other pods end")
	default:
		if ev := latest(events, reason.FailedScheduling); ev != nil {
			st.class, st.now = "unschedulable", "cannot be scheduled"
			st.why = append(st.why, FirstLine(ev.Message))
		} else {
			st.why = append(st.why, fmt.Sprintf("scheduler %s has not chosen a node yet%s", pod.Spec.SchedulerName, c.isItThere(pod.CreationTimestamp.Time)))
			st.next = append(st.next, "it starts when a node has been chosen")
		}
	}
	return st
}

// lookAt says what is odd about a container that should be running.
func lookAt(c clock, pod *corev1.Pod, s *corev1.ContainerStatus, what string, events []*corev1.Event) (state, bool) {
	w := s.State.Waiting
	if w == nil {
		return state{}, false
	}
	st := state{class: w.Reason}
	if w.Message != "" {
		st.why = append(st.why, FirstLine(w.Message))
	}
	switch w.Reason {
	case "", "ContainerCreating", "PodInitializing":
		if pulls := PullOf(pod); pulls != "" {
			st.class, st.now, st.why = "pulling", "waits for the image of "+what+": "+pulls, nil
			st.next = append(st.next, "it starts when the image is here")
			st.covered = []string{reason.Pulling}
			return st, true
		}
		st.class, st.now = "starting", fmt.Sprintf("is starting on node %s", pod.Spec.NodeName)
		st.why = append(st.why, hindrance(events)...)
		st.next = append(st.next, "its containers start as soon as the node has what they need; it keeps trying")
		st.covered = hindrances
	case "ErrImagePull", "ImagePullBackOff", "ImageInspectError", "RegistryUnavailable", "SignatureValidationFailed":
		st.class, st.now = "without image", "cannot get "+wanted(pod, s, what)
		st.pullError(w.Reason, events)
		st.next = append(st.next, "the pull is tried again, at most 5 minutes apart; the pod does not fail for want of an image")
		st.covered = []string{reason.Failed, reason.BackOff}
	case "ErrImageNeverPull":
		st.class, st.now = "without image", fmt.Sprintf("does not find %s on its node", wanted(pod, s, what))
		st.next = append(st.next, "it starts when the node has the image: imagePullPolicy is Never")
		st.covered = []string{reason.Failed, hindrances[0]}
	case "InvalidImageName":
		st.class, st.now = "without image", fmt.Sprintf("cannot start: the image of %s has no valid name", what)
		st.next = append(st.next, "nothing until the image is corrected; in a Job, that takes a new Job")
		st.covered = []string{reason.Failed, reason.InspectFailed}
	case "CrashLoopBackOff":
		st.class, st.now = "crash loop", fmt.Sprintf("waits before %s is started again", what)
		st.crashLoop(c, s)
	case "CreateContainerConfigError":
		st.now, st.next = fmt.Sprintf("cannot start %s as its spec says", what), append(st.next, "the node keeps trying; nothing changes until the spec, or the image, is another one")
		if w.Message == "" || missing.MatchString(w.Message) {
			st.now, st.next[len(st.next)-1] = fmt.Sprintf("cannot start %s: something that its spec refers to is missing", what), "it starts when that exists; the node keeps trying"
		}
		st.covered = []string{reason.Failed}
	default:
		st.now = fmt.Sprintf("cannot start %s: %s", what, w.Reason)
		st.next = append(st.next, "the node keeps trying")
		st.covered = []string{reason.Failed}
	}
	return st, true
}

// missing is how a node says that a ConfigMap, a Secret or a key of theirs is not there: what
// else it cannot make a container of (runAsNonRoot, a name of a host) has the same reason.
var missing = regexp.MustCompile(`not found|find key|non-existent|does not exist`)

// PullOf says how far the pull of an image is that the pod waits for, "" if it waits for none, or
// its node does not say.
func PullOf(pod *corev1.Pod) string {
	for _, list := range [][]corev1.ContainerStatus{pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses} {
		for i := range list {
			if w := list[i].State.Waiting; w != nil && strings.HasPrefix(w.Message, "Pulling image ") {
				return "pulling" + strings.TrimPrefix(FirstLine(w.Message), "Pulling")
			}
		}
	}
	return ""
}

// wanted names the image that a container waits for: its own, or that of a volume, which is
// then the one that the message names.
func wanted(pod *corev1.Pod, s *corev1.ContainerStatus, what string) string {
	for i := range pod.Spec.Volumes {
		v := &pod.Spec.Volumes[i]
		if v.Image != nil && v.Image.Reference != s.Image && strings.Contains(s.State.Waiting.Message, strconv.Quote(v.Image.Reference)) {
			return fmt.Sprintf("the image %s of volume %s of %s", v.Image.Reference, v.Name, what)
		}
	}
	return fmt.Sprintf("the image %s of %s", s.Image, what)
}

// pullError finds why an image cannot be pulled: while the next try is waited
// for, only an event tells.
func (st *state) pullError(waiting string, events []*corev1.Event) {
	if waiting != "ImagePullBackOff" {
		return
	}
	for _, ev := range byTime(events) {
		if ev.Reason == reason.Failed && !strings.HasPrefix(ev.Message, "Error: ") {
			st.why = []string{onceSaid(FirstLine(ev.Message))}
			return
		}
	}
}

// onceSaid takes off what a node says of a pull in front of the same, which is what it said of
// the try before: one cause is not to look like two.
func onceSaid(message string) string {
	const again = ": failed to pull image "
	if i := strings.Index(message, again); i >= 0 && strings.HasPrefix(message, "Failed to pull image ") {
		return message[i+len(": "):]
	}
	return message
}

// crashLoop says why a container ended again and again, and when it is tried
// next: the message holds the wait, which counts from the end.
func (st *state) crashLoop(c clock, s *corev1.ContainerStatus) {
	message := strings.Join(st.why, "")
	st.why, st.covered = nil, []string{reason.BackOff}
	last := s.LastTerminationState.Terminated
	if last == nil {
		st.why = append(st.why, message)
		return
	}
	st.why = append(st.why, fmt.Sprintf("it ended %s, after %s: it %s", c.at(last.FinishedAt.Time), count(int(s.RestartCount), "restart"), exit(last)))
	_, rest, _ := strings.Cut(message, "back-off ")
	text, _, _ := strings.Cut(rest, " ")
	wait, err := time.ParseDuration(text)
	if err != nil {
		return
	}
	if at := last.FinishedAt.Add(wait); at.After(c.now) {
		st.at = at
		st.next = append(st.next, fmt.Sprintf("it is started again %s; the wait doubles each time, up to 5 minutes", c.at(at)))
	} else {
		st.next = append(st.next, "it is started again now")
	}
}

// hindrances are the reasons of events of pods that do not get to start.
var hindrances = []string{reason.ErrImageNeverPull, reason.FailedMount, reason.FailedAttachVolume, reason.FailedCreatePodSandBox, reason.FailedMapVolume, reason.NetworkNotReady, reason.FailedPrepareDynamicResources}

func hindrance(events []*corev1.Event) []string {
	if ev := latest(events, hindrances...); ev != nil {
		return []string{ev.Reason + ": " + FirstLine(ev.Message)}
	}
	if ev := latest(events, reason.Pulling, reason.Pulled, reason.Created, reason.Started); ev != nil && ev.Reason == reason.Pulling {
		return []string{FirstLine(ev.Message)}
	}
	return nil
}

func endedAt(c clock, pod *corev1.Pod) string {
	tells := func(s corev1.ContainerStatus) bool {
		return s.State.Terminated != nil && !s.State.Terminated.FinishedAt.IsZero()
	}
	if slices.ContainsFunc(pod.Status.ContainerStatuses, tells) {
		return " " + c.at(job.EndOf(pod))
	}
	return ""
}

// failure gives the reasons why a pod failed.
func failure(pod *corev1.Pod) []string {
	var why []string
	if pod.Status.Reason != "" {
		line := pod.Status.Reason
		if pod.Status.Message != "" {
			line += ": " + FirstLine(pod.Status.Message)
		}
		why = append(why, line)
	}
	if d := kind.PodCondition(pod, corev1.DisruptionTarget); d != nil && d.Status == corev1.ConditionTrue {
		why = append(why, fmt.Sprintf("it was disrupted: %s: %s", d.Reason, FirstLine(d.Message)))
	}
	for _, s := range slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses) {
		if t := s.State.Terminated; t != nil && t.ExitCode != 0 {
			why = append(why, fmt.Sprintf("container %s %s", s.Name, exit(t)))
		}
	}
	return why
}

// signals are those that end containers as a rule.
var signals = map[int32]string{1: "SIGHUP", 2: "SIGINT", 4: "SIGILL", 6: "SIGABRT", 7: "SIGBUS", 8: "SIGFPE", 9: "SIGKILL", 11: "SIGSEGV", 13: "SIGPIPE", 15: "SIGTERM"}

// exit says how a container ended.
func exit(t *corev1.ContainerStateTerminated) string {
	text := fmt.Sprintf("exited with %d", t.ExitCode)
	switch {
	case t.Reason == "OOMKilled":
		text += ": it was killed for using more memory than it may (OOMKilled)"
	case t.Reason == "StartError" || t.Reason == "ContainerCannotRun":
		text = "could not be started"
	case t.ExitCode == 126:
		text += ": the command cannot be executed"
	case t.ExitCode == 127:
		text += ": the command was not found"
	case signals[t.ExitCode-128] != "":
		text += ": it was ended by " + signals[t.ExitCode-128]
	case t.Reason != "" && t.Reason != "Error" && t.Reason != "Completed":
		text += " (" + t.Reason + ")"
	}
	if t.Message != "" {
		text += ": " + FirstLine(t.Message)
	}
	return text
}
