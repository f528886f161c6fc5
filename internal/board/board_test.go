package board

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
)

var t0 = time.Date(2026, 3, 7, 12, 0, 0, 0, time.UTC)

func after(seconds float64) time.Time { return t0.Add(time.Duration(seconds * float64(time.Second))) }

// aJob is a Job under way.
func aJob(name string, completions int32) *batchv1.Job {
	labels := map[string]string{batchv1.ControllerUidLabel: "u-" + name}
	return &batchv1.Job{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: types.UID("u-" + name), CreationTimestamp: metav1.NewTime(t0)},
		Spec: batchv1.JobSpec{
			Parallelism: &completions, Completions: &completions, BackoffLimit: ptr.To[int32](2), Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: corev1.PodSpec{RestartPolicy: corev1.RestartPolicyNever}},
		},
		Status: batchv1.JobStatus{StartTime: ptr.To(metav1.NewTime(t0))},
	}
}

// aPod is a pod of a Job, or alone if that is nil, in a state: "running", "pending",
// "succeeded", or the reason that its container waits for; a number is how it failed.
func aPod(j *batchv1.Job, name, state string) *corev1.Pod {
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: types.UID("u-" + name), CreationTimestamp: metav1.NewTime(t0)},
		Spec:       corev1.PodSpec{NodeName: "n", Containers: []corev1.Container{{Name: "main"}}},
	}
	if j != nil {
		p.Labels, p.Finalizers = j.Spec.Template.Labels, []string{batchv1.JobTrackingFinalizer}
		p.OwnerReferences = []metav1.OwnerReference{{Kind: "Job", Name: j.Name, UID: j.UID, Controller: ptr.To(true)}}
	}
	s := corev1.ContainerStatus{Name: "main", Image: "i"}
	var exit int32
	switch _, err := fmt.Sscan(state, &exit); {
	case err == nil:
		p.Status.Phase = corev1.PodFailed
		s.State.Terminated = &corev1.ContainerStateTerminated{ExitCode: exit, Reason: "Error", StartedAt: metav1.NewTime(t0), FinishedAt: metav1.NewTime(t0.Add(time.Second))}
	case state == "succeeded":
		p.Status.Phase, p.Finalizers = corev1.PodSucceeded, nil
		s.State.Terminated = &corev1.ContainerStateTerminated{Reason: "Completed", StartedAt: metav1.NewTime(t0), FinishedAt: metav1.NewTime(t0)}
	case state == "nosuch", state == "nosuch again":
		s.ImageID = "sha256:1"
		lost := &corev1.ContainerStateTerminated{ExitCode: 128, Reason: "StartError", Message: `exec: "nosuch": executable file not found in $PATH`, FinishedAt: metav1.NewTime(t0)}
		if p.Status.Phase, s.State.Terminated = corev1.PodFailed, lost; state != "nosuch" {
			p.Status.Phase, s.State, s.LastTerminationState.Terminated = corev1.PodPending, corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff"}}, lost
		}
	case state == "running":
		p.Status.Phase = corev1.PodRunning
		s.State.Running = &corev1.ContainerStateRunning{}
	case state == "unschedulable":
		p.Status.Phase, p.Spec.NodeName = corev1.PodPending, ""
		p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Message: "no room"}}
	default:
		p.Status.Phase = corev1.PodPending
		s.State.Waiting = &corev1.ContainerStateWaiting{Reason: state, Message: "because"}
	}
	p.Status.ContainerStatuses = []corev1.ContainerStatus{s}
	return p
}

func ended(j *batchv1.Job, how batchv1.JobConditionType, reason string) *batchv1.Job {
	j = j.DeepCopy()
	j.Status.Conditions = []batchv1.JobCondition{{Type: how, Status: corev1.ConditionTrue, Reason: reason, Message: "so it is", LastTransitionTime: metav1.NewTime(t0)}}
	if how == batchv1.JobComplete {
		j.Status.Succeeded = *j.Spec.Completions
	}
	return j
}

// A Job that is seen to have counted a pod, before the pod is seen to be released, has
// not counted two.
func TestCountedOnce(t *testing.T) {
	t.Parallel()
	j := aJob("j", 1)
	j.ResourceVersion = "7"
	b := New(t0, true)
	b.Add(t0, j)
	failed := aPod(j, "j-x", "3")
	failed.ResourceVersion, failed.Finalizers = "9", []string{batchv1.JobTrackingFinalizer}
	next := j.DeepCopy()
	next.ResourceVersion, next.Status.Failed = "10", 1
	b.Job(after(0.1), next, false)
	b.Pod(after(0.2), failed, false)
	b.Live("u-j-x", "main", 0, Life{Began: after(0), Ended: after(0.1)})
	if news, want := b.News(after(0.6), false), "(2 of 3)"; len(news) != 1 || !strings.HasSuffix(news[0], want) {
		t.Errorf("got %q, want %s", news, want)
	}
}

// A failure is told with its exit code, how long it took as its log knows, and what
// follows; its last words are in the result.
func TestFailure(t *testing.T) {
	t.Parallel()
	j := aJob("j", 1)
	b := New(t0, true)
	b.Add(t0, j)
	b.Pod(after(0.1), aPod(j, "j-x", "running"), false)
	failed := aPod(j, "j-x", "3")
	failed.Status.ContainerStatuses[0].State.Terminated.FinishedAt = metav1.NewTime(after(0.3))
	b.Pod(after(0.3), failed, false)
	if news := b.News(after(0.4), false); len(news) > 0 {
		t.Errorf("told before its log has ended: %q", news)
	}
	b.Live("u-j-x", "main", 0, Life{Began: after(0.1), Ended: after(0.3), Last: []string{"a", "FATAL", ""}})
	if news, want := b.News(after(0.4), false), []string{"✗ pod j-x: main exited with 3 after 0.2s; next try in 10s (2 of 3)"}; !slices.Equal(news, want) {
		t.Errorf("got %q", news)
	}
	b.Job(after(1), ended(j, batchv1.JobFailed, "BackoffLimitExceeded"), false)
	if news, want := b.News(after(1), true), []string{"✗ job/j Failed: BackoffLimitExceeded: so it is"}; !slices.Equal(news, want) {
		t.Errorf("got %q", news)
	}
	r := b.Results(after(5))[0]
	c := r.Pods[0].Containers[0]
	if !b.Ended() || r.Status != "Failed" || r.Seconds != 1 || c.ExitCode != 3 || c.Seconds != 0.2 || r.Pods[0].LastWords() != "FATAL" {
		t.Errorf("got %+v, %+v", r, c)
	}
}

// A log that says nothing in time is not waited for.
func TestFailureWithoutLog(t *testing.T) {
	t.Parallel()
	j := aJob("j", 1)
	b := New(t0, false)
	b.Add(t0, j)
	b.Pod(after(1), aPod(j, "j-x", "3"), false)
	if news := b.News(after(2), false); len(news) != 1 || !strings.HasPrefix(news[0], "✗ pod j-x: main exited with 3 after 1s; ") {
		t.Errorf("got %q", news)
	}
}

// What is waited for is told once for each cause, with what comes next; where nobody
// helps, what only somebody else could do is no consolation.
func TestWaiting(t *testing.T) {
	t.Parallel()
	j := aJob("j", 3)
	b := New(t0, true)
	b.Add(t0, j)
	for _, name := range []string{"j-x", "j-y", "j-z"} {
		b.Pod(t0, aPod(j, name, "ErrImagePull"), false)
	}
	b.Look(after(1))
	if news := b.News(after(1), true); len(news) > 0 {
		t.Errorf("told at once: %q", news)
	}
	b.Look(after(5))
	b.Look(after(9))
	news := b.News(after(9), true)
	if len(news) != 1 || !strings.Contains(news[0], "cannot get the image i of container main: because; the pull is tried again, at most 5 minutes apart") {
		t.Errorf("got %q", news)
	}
}

// A helper that keeps a pod whose work is done is named, with the cure.
func TestLingering(t *testing.T) {
	t.Parallel()
	j := aJob("j", 1)
	b := New(t0, true)
	b.Add(t0, j)
	p := aPod(j, "j-x", "succeeded")
	p.Status.Phase = corev1.PodRunning
	p.Status.ContainerStatuses = append(p.Status.ContainerStatuses, corev1.ContainerStatus{Name: "proxy", State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}})
	b.Pod(t0, p, false)
	b.Look(after(5))
	b.Look(after(12))
	want := "… pod j-x: main ended 12s ago, and proxy still runs and keeps the pod from ending; a helper belongs into initContainers, with restartPolicy Always"
	if news := b.News(after(12), true); !slices.Equal(news, []string{want}) {
		t.Errorf("got %q", news)
	}
}

func TestStuck(t *testing.T) {
	t.Parallel()
	pulled := func(message string) func(*corev1.Pod) {
		return func(p *corev1.Pod) { p.Status.ContainerStatuses[0].State.Waiting.Message = message }
	}
	mounted := func(at, program string) func(*corev1.Pod) {
		return func(p *corev1.Pod) {
			p.Spec.Containers[0].Command = []string{program}
			p.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "v", MountPath: at}, {Name: "token", MountPath: "/var/run/secrets/kubernetes.io/serviceaccount"}}
		}
	}
	for _, c := range []struct {
		name   string
		states []string
		change func(*corev1.Pod)
		open   bool
		want   string // in why; "" is not stuck
	}{
		{name: "it runs", states: []string{"running"}},
		{name: "it starts", states: []string{"ContainerCreating"}},
		{name: "no image, ever", states: []string{"ErrImageNeverPull"}, want: "job/j cannot go on: pod j-0 does not find the image i of container main on its node: because"},
		{name: "no valid name", states: []string{"InvalidImageName"}, want: "has no valid name"},
		{name: "no Secret", states: []string{"CreateContainerConfigError"}, change: pulled(`secret "s" not found`), want: "something that its spec refers to is missing"},
		{name: "not as root", states: []string{"CreateContainerConfigError"}, change: pulled("container has runAsNonRoot and image will run as root"), want: "cannot start container main as its spec says: container has runAsNonRoot"},
		{name: "a registry that does not answer", states: []string{"ErrImagePull"}},
		{name: "an image that is not there", states: []string{"ErrImagePull"}, change: pulled(`failed to pull image "i": not found`), want: "not found"},
		{name: "no room", states: []string{"unschedulable"}, want: "no room"},
		{name: "no room, yet", states: []string{"unschedulable", "running"}},
		{name: "one cannot, another runs", states: []string{"ErrImageNeverPull", "running"}},
		{name: "one cannot, another waits for its registry", states: []string{"ErrImageNeverPull", "ErrImagePull"}},
		{name: "a crash loop", states: []string{"CrashLoopBackOff"}},
		{name: "a program that is not in the image", states: []string{"nosuch", "succeeded"}, want: `pod j-0: main could not be started: exec: "nosuch": executable file not found in $PATH`},
		{name: "the same, started again", states: []string{"nosuch again"}, want: `executable file not found in $PATH`},
		{name: "one has failed otherwise", states: []string{"nosuch", "3"}},
		{name: "one has no program, another runs", states: []string{"nosuch", "running"}},
		{name: "no program on this machine", states: []string{"nosuch"}, change: func(p *corev1.Pod) { p.Status.ContainerStatuses[0].ImageID = "" }},
		{name: "it may come into a volume", states: []string{"nosuch"}, change: mounted("/tools", "nosuch")},
		{name: "it may come into this volume", states: []string{"nosuch"}, change: mounted("/tools", "/tools/nosuch")},
		{name: "it is not to come into this volume", states: []string{"nosuch"}, change: mounted("/tools", "/toolsnosuch"), want: "not found"},
		{name: "somebody could help", states: []string{"ErrImageNeverPull"}, open: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			j := aJob("j", 2)
			b := New(t0, !c.open)
			b.Add(t0, j)
			for i, state := range c.states {
				p := aPod(j, fmt.Sprint("j-", i), state)
				if c.change != nil {
					c.change(p)
				}
				b.Pod(t0, p, false)
			}
			if why := b.Stuck(after(0.5)); why != "" {
				t.Errorf("at once: %s", why)
			}
			why := b.Stuck(after(2))
			if (why == "") != (c.want == "") || !strings.Contains(why, c.want) {
				t.Errorf("got %q", why)
			}
			if r := b.Results(after(2))[0]; (r.Status == "Stuck") != (c.want != "") {
				t.Errorf("got %+v", r)
			}
		})
	}
}

// What a run leaves before its end says what kept it from that: what it waits for, or how it
// failed last; nothing if it was only time, or room.
func TestLeft(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		states []string
		want   string
	}{
		{[]string{"running"}, ""},
		{[]string{"running", "unschedulable"}, ""},
		{[]string{"running", "ErrImagePull", "ErrImagePull"}, "pod j-1 cannot get the image i of container main: because"},
		{[]string{"3", "running"}, "pod j-0: main exited with 3 after 1s"},
		{[]string{"3", "CrashLoopBackOff"}, "pod j-1 waits before container main is started again"},
	} {
		j := aJob("j", 3)
		b := New(t0, true)
		b.Add(t0, j)
		for i, state := range c.states {
			b.Pod(t0, aPod(j, fmt.Sprint("j-", i), state), false)
		}
		if r := b.Results(after(3))[0]; r.Status != "Stopped" || !strings.HasPrefix(r.Message, c.want) || (r.Message == "") != (c.want == "") {
			t.Errorf("%s: got %s, %q", c.states, r.Status, r.Message)
		}
	}
}

// A pod that is about to end makes room.
func TestNotStuckWhileOthersLeave(t *testing.T) {
	t.Parallel()
	j, other := aJob("j", 1), aJob("other", 1)
	b := New(t0, true)
	b.Add(t0, j)
	b.Add(t0, other)
	b.Pod(t0, aPod(j, "j-x", "unschedulable"), false)
	leaving := aPod(other, "other-x", "running")
	leaving.DeletionTimestamp = ptr.To(metav1.NewTime(after(30)))
	b.Pod(t0, leaving, false)
	b.Job(t0, ended(other, batchv1.JobFailed, "DeadlineExceeded"), false)
	if why := b.Stuck(after(5)); why != "" {
		t.Errorf("got %q", why)
	}
	b.Pod(after(5), leaving, true)
	if why := b.Stuck(after(7)); why == "" {
		t.Error("nothing is left to make room")
	}
}

// A Pod alone is what a Job is.
func TestPodAlone(t *testing.T) {
	t.Parallel()
	for state, want := range map[string]string{"succeeded": "Complete", "7": "Failed"} {
		p := aPod(nil, "p", "running")
		b := New(t0, true)
		b.Add(t0, p)
		b.Pod(after(1), p, false)
		b.Pod(after(2), aPod(nil, "p", state), false)
		r := b.Results(after(9))[0]
		if !b.Ended() || r.Status != want || r.Kind != "Pod" || r.Seconds != 2 || len(r.Pods) != 1 {
			t.Errorf("%s: got %+v", state, r)
		}
	}
}

// crowd is a run of many Jobs, of which a few failed and some run.
func crowd(jobs int) *Board {
	b := New(t0, true)
	for i := range jobs {
		j := aJob(fmt.Sprintf("import-%03d", i), 1)
		b.Add(t0, j)
		name := j.Name + "-x"
		switch {
		case i%100 == 7:
			b.Pod(t0, aPod(j, name, "1"), false)
			b.Live(types.UID("u-"+name), "main", 0, Life{Began: t0, Ended: after(0.5), Last: []string{"FATAL: 没有到主机的路由"}})
			b.Job(after(1), ended(j, batchv1.JobFailed, "BackoffLimitExceeded"), false)
		case i >= jobs-10:
			b.Pod(after(float64(i%7)), aPod(j, name, "running"), false)
		default:
			b.Pod(after(1), aPod(j, name, "running"), false)
			b.Pod(after(1+float64(i)/float64(jobs)), aPod(j, name, "succeeded"), false)
			b.Job(after(1+float64(i)/float64(jobs)), ended(j, batchv1.JobComplete, "CompletionsReached"), false)
		}
	}
	return b
}

// Whatever the size of the run and of the terminal, what is shown fits.
func TestFrameFits(t *testing.T) {
	t.Parallel()
	for _, jobs := range []int{1, 2, 30, 200} {
		b := crowd(jobs)
		for _, columns := range []int{1, 2, 10, 40, 80, 200} {
			for _, rows := range []int{1, 3, 24, 60} {
				frame := b.Frame(after(12), columns, rows)
				if len(frame) > max(1, rows/3) {
					t.Errorf("%d Jobs on %dx%d: %d lines", jobs, columns, rows, len(frame))
				}
				for _, line := range frame {
					if Width(line) >= max(2, columns) {
						t.Errorf("%d Jobs on %dx%d: %q", jobs, columns, rows, line)
					}
				}
			}
		}
	}
}

func TestFrame(t *testing.T) {
	t.Parallel()
	b := crowd(200)
	for columns, want := range map[int]string{
		80: `190/200 Jobs  2 failed, 10 running  15.5/s  00:12  ~1s left
  ✗ import-007-x  main exited with 1 after 0.5s: FATAL: 没有到主机的路由
  ✗ import-107-x  main exited with 1 after 0.5s: FATAL: 没有到主机的路由
  ▸ import-196-x  12s
  ▸ import-190-x  11s`,
		100: `190/200 Jobs  ███████████████████   2 failed, 10 running  15.5/s  00:12  ~1s left
  ✗ import-007-x  main exited with 1 after 0.5s: FATAL: 没有到主机的路由
  ✗ import-107-x  main exited with 1 after 0.5s: FATAL: 没有到主机的路由
  ▸ import-196-x  12s
  ▸ import-190-x  11s`,
		40: `190/200 Jobs  2 failed, 10 running
  ✗ import-007-x  main exited with 1 a…
  ✗ import-107-x  main exited with 1 a…
  ▸ import-196-x  12s
  ▸ import-190-x  11s`,
	} {
		if got := strings.Join(b.Frame(after(12), columns, 15), "\n"); got != want {
			t.Errorf("at %d columns\n%s\nwant\n%s", columns, got, want)
		}
	}
}

// A Job of many pods is shown as many Jobs are; of one pod its line says it all.
func TestFrameOfOneJob(t *testing.T) {
	t.Parallel()
	one, fan := aJob("one", 1), aJob("fan", 4)
	b := New(t0, true)
	b.Add(t0, one)
	b.Pod(t0, aPod(one, "one-x", "running"), false)
	if got, want := b.Frame(after(3), 80, 24), []string{"job/one  0/1 pods  1 running  00:03"}; !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
	b = New(t0, true)
	b.Add(t0, fan)
	b.Pod(t0, aPod(fan, "fan-0-x", "3"), false)
	b.Pod(after(1), aPod(fan, "fan-1-x", "running"), false)
	b.Pod(after(2), aPod(fan, "fan-2-x", "running"), false)
	want := []string{"job/fan  0/4 pods                        1 failed, 2 running  00:03", "  ✗ fan-0-x  main exited with 3 after 1s", "  ▸ fan-1-x  2s", "  ▸ fan-2-x  1s"}
	if got := b.Frame(after(3), 80, 24); !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
}

func TestLine(t *testing.T) {
	t.Parallel()
	j := aJob("fan", 300)
	j.Spec.CompletionMode = ptr.To(batchv1.IndexedCompletion)
	b := New(t0, true)
	b.Add(t0, j)
	for i := range 40 {
		name := fmt.Sprint("fan-", i)
		b.Pod(t0, aPod(j, name, "running"), false)
		if i < 30 {
			b.Pod(after(float64(i)/10), aPod(j, name, "succeeded"), false)
		}
	}
	j = j.DeepCopy()
	j.Status.Succeeded = 30
	b.Job(after(3), j, false)
	if got, want := b.Line(after(3), 0), "job/fan  30/300 indexes  10 running  10/s  00:03  ~27s left"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestLineOfPulls: how far a pull is that is waited for, is said.
func TestLineOfPulls(t *testing.T) {
	t.Parallel()
	j := aJob("j", 2)
	b := New(t0, true)
	b.Add(t0, j)
	for name, message := range map[string]string{"j-0": `Pulling image "x:1": 12.3 MB of 45.6 MB`, "j-1": `Pulling image "y": the registry has sent no layer for 7s`} {
		p := aPod(j, name, "ContainerCreating")
		p.Status.ContainerStatuses[0].State.Waiting.Message = message
		b.Pod(t0, p, false)
	}
	if got, want := b.Line(after(3), 0), `job/j  0/2 pods  2 waiting, pulling image "x:1": 12.3 MB of 45.6 MB  00:03`; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestDuration(t *testing.T) {
	t.Parallel()
	for d, want := range map[time.Duration]string{
		0: "0s", 4 * time.Millisecond: "0s", 20 * time.Millisecond: "0.02s", 240 * time.Millisecond: "0.24s", 1234 * time.Millisecond: "1.2s",
		9990 * time.Millisecond: "10s", 59 * time.Second: "59s", 2 * time.Minute: "2m", 184 * time.Second: "3m4s", 60 * time.Minute: "1h", 90 * time.Minute: "1h30m",
		3*time.Hour + 2*time.Minute: "3h2m", -time.Second: "0s",
	} {
		if got := Duration(d); got != want {
			t.Errorf("%d: %q, want %q", d, got, want)
		}
	}
}

// BenchmarkPods is what a hundred thousand pods cost the board.
func BenchmarkPods(b *testing.B) {
	j := aJob("fan", 100000)
	pods := make([][2]*corev1.Pod, 100000)
	for i := range pods {
		name := fmt.Sprint("fan-", i)
		pods[i] = [2]*corev1.Pod{aPod(j, name, "running"), aPod(j, name, "succeeded")}
	}
	for b.Loop() {
		board := New(t0, true)
		board.Add(t0, j)
		for i, p := range pods {
			now := after(float64(i) / 1000)
			board.Pod(now, p[0], false)
			board.Pod(now, p[1], false)
			if i%100 == 0 {
				board.Frame(now, 80, 24)
			}
		}
	}
}

// What is queued is counted, and is neither stuck nor lost; what had ended before this run
// is no news and no speed of it.
func TestQueue(t *testing.T) {
	t.Parallel()
	b := New(t0, true)
	before := aJob("before", 1)
	b.Recall(ended(before, batchv1.JobFailed, "BackoffLimitExceeded"))
	for _, name := range []string{"a", "b", "c"} {
		queued := aJob(name, 1)
		queued.UID = ""
		b.Queue(queued)
	}
	if got, want := b.Line(after(5), 0), "1/4 Jobs  1 failed, 3 queued  00:05"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	a := aJob("a", 1)
	b.Add(after(5), a)
	b.Pod(after(5), aPod(a, "a-x", "unschedulable"), false)
	if got, want := b.Line(after(6), 0), "1/4 Jobs  1 failed, 1 waiting, 2 queued  00:06"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if why := b.Stuck(after(8)); !strings.HasPrefix(why, "job/a cannot go on: pod a-x ") {
		t.Errorf("got %q", why)
	}
	b.Job(after(9), ended(a, batchv1.JobFailed, "DeadlineExceeded"), false)
	if got := b.FirstFailure(after(9.1)); got != "" {
		t.Errorf("how its pod ended is not waited for: %q", got)
	}
	if got, want := b.FirstFailure(after(10)), "job/a failed: DeadlineExceeded: so it is"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	failed := aPod(a, "a-y", "3")
	b.Pod(after(11), failed, false)
	if got, want := b.FirstFailure(after(11)), "job/a failed: main exited with 3 after 1s"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if news, want := b.News(after(20), true), []string{"✗ pod a-y: main exited with 3 after 1s", "✗ job/a Failed: DeadlineExceeded: so it is"}; !slices.Equal(news, want) {
		t.Errorf("got %q", news)
	}
	if b.Ended() || len(b.Open()) > 0 {
		t.Errorf("all has ended, or %v is open", b.Open())
	}
	var states []string
	for _, r := range b.Results(after(20)) {
		states = append(states, r.Name+" "+r.Status)
	}
	if got, want := strings.Join(states, ", "), "before Failed, a Failed, b NotStarted, c NotStarted"; got != want {
		t.Errorf("got %s", got)
	}
}

// The rate is that of this run, whatever a Job had done before.
func TestRateOfWhatGoesOn(t *testing.T) {
	t.Parallel()
	j := aJob("j", 1000)
	j.Spec.CompletionMode = ptr.To(batchv1.IndexedCompletion)
	j.Status.Succeeded = 800
	b := New(t0, true)
	b.Add(t0, j)
	for i := range 10 {
		j = j.DeepCopy()
		j.Status.Succeeded++
		b.Pod(after(float64(i)/10), aPod(j, fmt.Sprint("j-", i), "succeeded"), false)
		b.Job(after(float64(i)/10), j, false)
	}
	if got, want := b.Line(after(1), 0), "job/j  810/1000 indexes  10/s  00:01  ~19s left"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// A pod is followed without its Job, and may have gone before anybody saw it.
func TestPodOfAnothersJob(t *testing.T) {
	t.Parallel()
	j := aJob("j", 1)
	of, gone := aPod(j, "j-x", "running"), aPod(nil, "gone", "running")
	b := New(t0, false)
	b.Add(t0, of)
	b.Add(t0, gone)
	b.Pod(after(0.1), gone, true)
	b.Pod(after(0.2), gone, true)
	if b.Ended() {
		t.Error("a pod still runs")
	}
	b.Pod(after(0.3), aPod(j, "j-x", "succeeded"), false)
	if !b.Ended() {
		t.Error("both have ended")
	}
	if got := b.Results(after(1)); got[0].Status != string(batchv1.JobComplete) || got[1].Status != "Deleted" {
		t.Errorf("got %s and %s", got[0].Status, got[1].Status)
	}
}

// An index that has failed for good is not tried again, though its Job goes on to others.
func TestFailureOfAnIndexForGood(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		retries int32
		want    string
	}{{0, "✗ pod j-1-x: main exited with 3 after 1s"}, {1, "✗ pod j-1-x: main exited with 3 after 1s; next try in "}} {
		j := aJob("j", 5)
		j.Spec.Parallelism, j.Spec.CompletionMode = ptr.To[int32](1), ptr.To(batchv1.IndexedCompletion)
		j.Spec.BackoffLimitPerIndex, j.Spec.BackoffLimit = &c.retries, ptr.To[int32](1<<31-1)
		b := New(t0, true)
		b.Add(t0, j)
		b.Pod(after(1), ofIndex(aPod(j, "j-1-x", "3"), 1), false)
		if news := b.News(after(3), true); len(news) != 1 || !strings.HasPrefix(news[0], c.want) || c.retries == 0 && news[0] != c.want {
			t.Errorf("%d retries: got %q, want %q", c.retries, news, c.want)
		}
	}
}
