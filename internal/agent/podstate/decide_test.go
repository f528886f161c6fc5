package podstate

import (
	"fmt"
	"math"
	"math/rand"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/sampan-batch/sampan/internal/agent/network"
)

var t0 = time.Date(2026, 11, 21, 10, 0, 0, 0, time.UTC)

// newPod returns a pod from words like "init:a sidecar:b main:c ephemeral:d", and its
// restart policy.
func newPod(words string, policy corev1.RestartPolicy) *Pod {
	obj := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "p", UID: "u", Generation: 1},
		Spec:       corev1.PodSpec{RestartPolicy: policy},
		Status:     corev1.PodStatus{Phase: corev1.PodPending},
	}
	for _, word := range strings.Fields(words) {
		kind, name, _ := strings.Cut(word, ":")
		c := corev1.Container{Name: name, Image: "i"}
		switch kind {
		case "sidecar":
			c.RestartPolicy = ptr.To(corev1.ContainerRestartPolicyAlways)
			fallthrough
		case "init":
			obj.Spec.InitContainers = append(obj.Spec.InitContainers, c)
		case "main":
			obj.Spec.Containers = append(obj.Spec.Containers, c)
		case "ephemeral":
			obj.Spec.EphemeralContainers = append(obj.Spec.EphemeralContainers, corev1.EphemeralContainer{
				EphemeralContainerCommon: corev1.EphemeralContainerCommon(c), TargetContainerName: "a"})
		}
	}
	p := New(obj, t0)
	p.Ready = true
	return p
}

// set puts containers into states: "a=running b=exited:1 c=stopping".
func (p *Pod) set(words string) {
	for _, word := range strings.Fields(words) {
		name, state, _ := strings.Cut(word, "=")
		state, code, _ := strings.Cut(state, ":")
		i := slices.IndexFunc(p.Containers, func(c Container) bool { return c.Spec.Name == name })
		c := &p.Containers[i]
		if state != "waiting" && state != "starting" {
			c.Attempt = 0
			c.ID = "u_" + name + "_0"
		}
		switch state {
		case "starting":
			c.Phase = Starting
		case "up": // running, startup probe pending
			c.Phase = Running
		case "running":
			c.Phase, c.Started, c.Ready, c.StartedAt = Running, true, true, t0
		case "stopping":
			c.Phase, c.Started, c.Stop = Stopping, true, Stop{Since: t0, Grace: 30 * time.Second}
		case "exited":
			n := 0
			fmt.Sscan(code, &n)
			c.Phase, c.Exit = Exited, &corev1.ContainerStateTerminated{ExitCode: int32(n), ContainerID: ContainerID(c.ID)}
		}
	}
}

// text prints a decision by the names of the containers.
func (d *Decision) text(p *Pod) string {
	var out []string
	list := func(verb string, index []int) {
		for _, i := range index {
			out = append(out, verb+" "+p.Containers[i].Spec.Name)
		}
	}
	list("start", d.Start)
	list("cancel", d.Cancel)
	for _, s := range d.Stop {
		out = append(out, "stop "+p.Containers[s.Index].Spec.Name)
	}
	list("signal", d.Signal)
	list("kill", d.Kill)
	for _, b := range d.Blocked {
		out = append(out, b.Reason+" "+p.Containers[b.Index].Spec.Name)
	}
	if d.End != nil {
		out = append(out, strings.TrimSpace("end "+d.End.Reason))
	}
	if d.Over {
		out = append(out, "over")
	}
	return strings.Join(out, ", ")
}

func TestDecide(t *testing.T) {
	t.Parallel()
	const always, onFailure, never = corev1.RestartPolicyAlways, corev1.RestartPolicyOnFailure, corev1.RestartPolicyNever
	ending := &Ending{Since: t0, Grace: 30 * time.Second}
	for _, test := range []struct {
		pod    string
		policy corev1.RestartPolicy
		state  string
		edit   func(*Pod)
		at     time.Duration
		want   string
	}{
		{pod: "main:a main:b", policy: never, want: "start a, start b"},
		{pod: "main:a", policy: never, edit: func(p *Pod) { p.Ready = false }, want: ""},
		{pod: "main:a main:b", policy: never, state: "a=starting b=running", want: ""},
		{pod: "main:a main:b", policy: never, state: "a=exited:1 b=running", want: ""},
		{pod: "main:a main:b", policy: never, state: "a=exited:1 b=exited:0", want: "over"},
		{pod: "main:a", policy: onFailure, state: "a=exited:0", want: "over"},
		{pod: "main:a", policy: onFailure, state: "a=exited:1", want: "start a"},
		{pod: "main:a", policy: always, state: "a=exited:0", want: "start a"},
		{pod: "main:a", policy: always, state: "a=exited:0", edit: func(p *Pod) {
			p.Containers[0].Retry = Backoff{Delay: 20 * time.Second, Until: t0.Add(time.Second)}
		}, want: "CrashLoopBackOff a"},

		{pod: "init:i init:j main:a", policy: never, want: "start i"},
		{pod: "init:i init:j main:a", policy: never, state: "i=running", want: ""},
		{pod: "init:i init:j main:a", policy: never, state: "i=exited:0", want: "start j"},
		{pod: "init:i init:j main:a", policy: never, state: "i=exited:0 j=exited:0", want: "start a"},
		{pod: "init:i init:j main:a", policy: never, state: "i=exited:1", want: "over"},
		{pod: "init:i init:j main:a", policy: onFailure, state: "i=exited:1", want: "start i"},
		{pod: "init:i init:j main:a", policy: always, state: "i=exited:0", want: "start j"},
		{pod: "init:i init:j main:a", policy: always, state: "j=running", want: ""}, // what became of i is forgotten
		{pod: "init:i main:a", policy: always, state: "i=exited:0 a=exited:1", want: "start a"},

		{pod: "sidecar:s sidecar:r main:a", policy: never, want: "start s"},
		{pod: "sidecar:s sidecar:r main:a", policy: never, state: "s=up", want: ""},
		{pod: "sidecar:s sidecar:r main:a", policy: never, state: "s=running", want: "start r"},
		{pod: "sidecar:s init:i main:a", policy: never, state: "s=running i=running", want: ""},
		{pod: "sidecar:s init:i main:a", policy: never, state: "s=exited:0 i=running", want: "start s"},
		{pod: "sidecar:s init:i main:a", policy: never, state: "s=exited:0 i=exited:0", want: "start s, start a"},
		{pod: "sidecar:s init:i main:a", policy: never, state: "s=running i=exited:3", want: "end"},
		{pod: "sidecar:s main:a", policy: never, state: "s=running a=exited:3", want: "end"},
		{pod: "sidecar:s main:a", policy: never, state: "s=exited:0 a=running", want: "start s"},
		{pod: "sidecar:s main:a", policy: never, state: "s=exited:0 a=exited:0", want: "over"},
		{pod: "sidecar:s main:a", policy: always, state: "s=running a=exited:3", want: "start a"},

		{pod: "sidecar:s main:a main:b", policy: never, state: "s=running a=running b=starting",
			edit: func(p *Pod) { p.Ending = ending }, want: "cancel b, stop s, stop a"},
		{pod: "sidecar:s sidecar:r main:a", policy: never, state: "s=stopping r=stopping a=stopping",
			edit: func(p *Pod) { p.Ending = ending }, want: "signal a"},
		{pod: "sidecar:s sidecar:r main:a", policy: never, state: "s=stopping r=stopping a=exited:0",
			edit: func(p *Pod) { p.Ending = ending }, want: "signal r"},
		{pod: "sidecar:s main:a", policy: never, state: "s=stopping a=stopping", at: 30 * time.Second,
			edit: func(p *Pod) { p.Ending = ending; p.Containers[1].Stop.Signaled = t0 }, want: "signal s, kill a"},
		{pod: "main:a", policy: never, state: "a=stopping",
			edit: func(p *Pod) { p.Ending = ending; p.Containers[0].Stop.Hook = true }, want: ""},
		{pod: "main:a", policy: never, state: "a=stopping", at: 30 * time.Second,
			edit: func(p *Pod) { p.Ending = ending; p.Containers[0].Stop.Hook = true }, want: "signal a"},
		{pod: "main:a", policy: never, state: "a=stopping", at: 31 * time.Second,
			edit: func(p *Pod) { p.Ending = ending; p.Containers[0].Stop.Signaled = t0.Add(30 * time.Second) }, want: ""},
		{pod: "main:a", policy: never, state: "a=stopping", at: 32 * time.Second,
			edit: func(p *Pod) { p.Ending = ending; p.Containers[0].Stop.Signaled = t0.Add(30 * time.Second) }, want: "kill a"},
		{pod: "main:a main:b", policy: always, state: "a=exited:1", edit: func(p *Pod) { p.Ending = ending }, want: "over"},

		{pod: "main:a", policy: never, state: "a=running", at: 5 * time.Second,
			edit: func(p *Pod) { p.Object.Spec.ActiveDeadlineSeconds = ptr.To[int64](5) }, want: "end DeadlineExceeded"},
		{pod: "main:a", policy: never, state: "a=exited:0", at: 5 * time.Second,
			edit: func(p *Pod) { p.Object.Spec.ActiveDeadlineSeconds = ptr.To[int64](5) }, want: "over"},
		{pod: "main:a", policy: onFailure, state: "a=exited:1", at: 5 * time.Second,
			edit: func(p *Pod) { p.Object.Spec.ActiveDeadlineSeconds = ptr.To[int64](5) }, want: "end DeadlineExceeded"},

		{pod: "main:a ephemeral:e", policy: never, state: "a=running", want: "start e"},
		{pod: "main:a ephemeral:e ephemeral:f", policy: always, state: "a=running e=exited:1 f=running", want: ""},
		{pod: "main:a ephemeral:e", policy: always, state: "a=exited:1 e=exited:1", want: "start a"},
		{pod: "init:i main:a ephemeral:e", policy: never, state: "i=running", want: "start e"},
		{pod: "main:a ephemeral:e", policy: never, edit: func(p *Pod) { p.Ready = false }, want: ""},
		{pod: "main:a ephemeral:e", policy: never, state: "a=exited:0 e=running", want: "end"},
		{pod: "main:a ephemeral:e", policy: never, state: "a=exited:0", want: "over"},
		{pod: "init:i main:a ephemeral:e", policy: never, state: "i=exited:1 e=waiting", want: "over"},
		{pod: "main:a ephemeral:e", policy: always, state: "a=running e=running",
			edit: func(p *Pod) { p.Ending = ending }, want: "stop a, stop e"},
		{pod: "sidecar:s main:a ephemeral:e", policy: never, state: "s=stopping a=exited:0 e=stopping",
			edit: func(p *Pod) { p.Ending = ending }, want: "signal s, signal e"},

		{pod: "main:a", policy: never, state: "a=exited:42", edit: func(p *Pod) { restartOn(p, "In", 42) }, want: "start a"},
		{pod: "main:a", policy: never, state: "a=exited:1", edit: func(p *Pod) { restartOn(p, "In", 42) }, want: "over"},
		{pod: "main:a", policy: never, state: "a=exited:1", edit: func(p *Pod) { restartOn(p, "NotIn", 42) }, want: "start a"},
		{pod: "main:a", policy: always, state: "a=exited:1", edit: func(p *Pod) {
			p.Object.Spec.Containers[0].RestartPolicy = ptr.To(corev1.ContainerRestartPolicyNever)
		}, want: "over"},
	} {
		p := newPod(test.pod, test.policy)
		p.set(test.state)
		if test.edit != nil {
			test.edit(p)
		}
		d := Decide(p, t0.Add(test.at))
		if got := d.text(p); got != test.want {
			t.Errorf("%s %s, %q at %v: got %q, want %q", test.pod, test.policy, test.state, test.at, got, test.want)
		}
	}
}

// TestLongGrace: a pod that may take for ever to end is not killed at once.
func TestLongGrace(t *testing.T) {
	t.Parallel()
	for seconds, want := range map[int64]time.Duration{30: 30 * time.Second, 99_999_999_999: 9_223_372_036 * time.Second, math.MaxInt64: 9_223_372_036 * time.Second} {
		p := newPod("main:a", corev1.RestartPolicyNever)
		p.set("a=stopping")
		p.Object.Spec.TerminationGracePeriodSeconds = &seconds
		p.Ending = &Ending{Since: t0, Grace: p.Grace()}
		p.Containers[0].Stop.Signaled, p.Containers[0].Stop.Grace = t0, p.Grace()
		if d := Decide(p, t0.Add(29*time.Second)); d.text(p) != "" || !d.WakeAt.Equal(t0.Add(want)) {
			t.Errorf("%d s: %q, and again at %v", seconds, d.text(p), d.WakeAt)
		}
	}
}

func restartOn(p *Pod, op string, code int32) {
	p.Object.Spec.Containers[0].RestartPolicyRules = []corev1.ContainerRestartRule{{
		Action: corev1.ContainerRestartRuleActionRestart,
		ExitCodes: &corev1.ContainerRestartRuleOnExitCodes{
			Operator: corev1.ContainerRestartRuleOnExitCodesOperator(op), Values: []int32{code},
		},
	}}
}

func TestBackoff(t *testing.T) {
	t.Parallel()
	var b Backoff
	var delays []time.Duration
	now := t0
	for range 8 {
		b = b.AfterExit(now)
		delays = append(delays, b.Until.Sub(now))
		now = b.Until
		b = b.Restarted(now)
		now = now.Add(time.Second)
	}
	want := []time.Duration{0, 10e9, 20e9, 40e9, 80e9, 160e9, 300e9, 300e9}
	if !slices.Equal(delays, want) {
		t.Errorf("got %v, want %v", delays, want)
	}
	if b = b.AfterExit(now.Add(10 * time.Minute)); b.Delay != 0 {
		t.Errorf("after ten good minutes: %+v", b)
	}
}

// walk is a life of a pod in which anything may happen.
type walk struct {
	t     *testing.T
	r     *rand.Rand
	p     *Pod
	now   time.Time
	phase corev1.PodPhase
}

// TestAnyLife lets random things happen to random pods and checks what must
// hold at any time, and that every life ends once it is asked to.
func TestAnyLife(t *testing.T) {
	t.Parallel()
	seed := rand.Int63()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewSource(seed))
	shapes := []string{
		"main:a", "main:a main:b", "init:i main:a", "init:i init:j main:a", "sidecar:s main:a",
		"sidecar:s init:i sidecar:r main:a main:b", "init:i sidecar:s main:a",
		"main:a ephemeral:e", "init:i sidecar:s main:a ephemeral:e ephemeral:f",
	}
	policies := []corev1.RestartPolicy{corev1.RestartPolicyAlways, corev1.RestartPolicyOnFailure, corev1.RestartPolicyNever}
	for range 2000 {
		w := &walk{t: t, r: r, p: newPod(shapes[r.Intn(len(shapes))], policies[r.Intn(3)]), now: t0, phase: corev1.PodPending}
		over := false
		for range r.Intn(60) {
			if over = w.step(); over {
				break
			}
		}
		if !over {
			w.p.End(Ending{Since: w.now, Grace: time.Duration(r.Intn(40)) * time.Second})
		}
		for i := 0; !over; i++ {
			if over = w.step(); i > 1000 {
				t.Fatalf("does not end: %+v", w.p)
			}
		}
	}
}

// step acts on one decision, or lets something happen.
func (w *walk) step() (over bool) {
	p := w.p
	d := Decide(p, w.now)
	w.check(&d)
	switch {
	case d.End != nil:
		p.Ending = d.End
	case d.Over:
		return true
	case len(d.Start)+len(d.Stop)+len(d.Signal)+len(d.Kill)+len(d.Cancel) > 0:
		for _, i := range d.Start {
			c := &p.Containers[i]
			if c.Phase == Exited {
				c.Retry = c.Retry.Restarted(w.now)
			}
			c.Phase = Starting
		}
		for _, i := range d.Cancel {
			w.unstart(i)
		}
		for _, s := range d.Stop {
			p.Containers[s.Index].Phase, p.Containers[s.Index].Stop = Stopping, s.Stop
		}
		for _, i := range d.Signal {
			p.Containers[i].Stop.Signaled = w.now
		}
		for _, i := range d.Kill {
			w.exit(i, 137)
		}
	default:
		w.happen(&d)
	}
	return false
}

func (w *walk) unstart(i int) {
	c := &w.p.Containers[i]
	c.Phase = Waiting
	if c.Exit != nil {
		c.Phase = Exited
	}
}

func (w *walk) exit(i int, code int32) {
	c := &w.p.Containers[i]
	c.Phase, c.Exit = Exited, &corev1.ContainerStateTerminated{ExitCode: code}
	c.Started, c.Ready = false, false
	c.Retry = c.Retry.AfterExit(w.now)
}

func (w *walk) happen(d *Decision) {
	i := w.r.Intn(len(w.p.Containers))
	c := &w.p.Containers[i]
	switch c.Phase {
	case Starting:
		c.Last, c.Exit = c.Exit, nil
		c.Phase, c.Attempt, c.Started, c.Ready = Running, c.Attempt+1, true, w.r.Intn(2) == 0
	case Running, Stopping:
		if w.r.Intn(3) == 0 {
			w.exit(i, int32(w.r.Intn(2)))
			return
		}
	}
	if !d.WakeAt.IsZero() && w.r.Intn(2) == 0 {
		if d.WakeAt.Before(w.now) {
			w.t.Fatalf("wakes in the past: %v at %v", d.WakeAt, w.now)
		}
		w.now = d.WakeAt
	} else {
		w.now = w.now.Add(time.Second)
	}
}

// check checks a decision, and the status of this moment.
func (w *walk) check(d *Decision) {
	p := w.p
	started := map[int]bool{}
	for _, i := range d.Start {
		c := &p.Containers[i]
		if started[i] || c.Alive() || p.Ending != nil {
			w.t.Fatalf("starts %s, which is alive, or its pod is ending: %+v", c.Spec.Name, p)
		}
		started[i] = true
		if c.Kind == Ephemeral && c.Exit != nil {
			w.t.Fatalf("starts the ephemeral container %s again", c.Spec.Name)
		}
		if c.Kind != Main || p.mainCreated() {
			continue
		}
		for j := range p.inits() {
			if k := &p.Containers[j]; k.Kind == Init && (k.Exit == nil || k.Exit.ExitCode != 0) {
				w.t.Fatalf("starts %s before %s is done", c.Spec.Name, k.Spec.Name)
			}
		}
	}
	if d.Over && p.anyAlive() {
		w.t.Fatalf("over while something is alive: %+v", p)
	}
	s := Status(p, network.Addresses{}, &p.Object.Status, d.Over, w.now)
	final := s.Phase == corev1.PodSucceeded || s.Phase == corev1.PodFailed
	if final != d.Over {
		w.t.Fatalf("phase %s, over %v: %+v", s.Phase, d.Over, p)
	}
	if s.Phase == corev1.PodPending && w.phase == corev1.PodRunning {
		w.t.Fatalf("went from Running to Pending: %+v", s)
	}
	w.phase = s.Phase
}
