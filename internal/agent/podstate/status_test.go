package podstate

import (
	"path/filepath"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/yaml"

	"github.com/sampan-batch/sampan/internal/agent/network"
	"github.com/sampan-batch/sampan/internal/golden"
)

// TestStatus compares whole statuses with testdata/NAME.yaml.
func TestStatus(t *testing.T) {
	t.Parallel()
	scheduled := corev1.PodCondition{Type: corev1.PodScheduled, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(t0.Add(-time.Second))}
	end := func(c *Container, code int32, reason string) {
		c.Exit = &corev1.ContainerStateTerminated{
			ExitCode: code, Reason: reason, ContainerID: ContainerID(c.ID),
			StartedAt: metav1.NewTime(t0), FinishedAt: metav1.NewTime(t0.Add(2 * time.Second)),
		}
	}
	for name, test := range map[string]struct {
		pod    string
		policy corev1.RestartPolicy
		state  string
		over   bool
		edit   func(*Pod)
	}{
		"new":       {pod: "main:a", policy: corev1.RestartPolicyNever, edit: func(p *Pod) { p.Ready = false }},
		"succeeded": {pod: "main:a", policy: corev1.RestartPolicyNever, state: "a=exited:0", over: true, edit: func(p *Pod) { end(&p.Containers[0], 0, "Completed") }},
		"running-with-everything": {pod: "init:i sidecar:s main:b main:a", policy: corev1.RestartPolicyAlways, state: "i=exited:0 s=running b=running a=running",
			edit: func(p *Pod) {
				end(&p.Containers[0], 0, "Completed")
				c := &p.Containers[2]
				c.Spec.Resources = corev1.ResourceRequirements{Requests: corev1.ResourceList{"cpu": resource.MustParse("100m")}}
				c.Spec.VolumeMounts = []corev1.VolumeMount{{Name: "v", MountPath: "/v", ReadOnly: true}, {Name: "w", MountPath: "/w"}}
				c.Spec.Lifecycle = &corev1.Lifecycle{StopSignal: ptr.To(corev1.SIGINT)}
				c.ImageID, c.Ready = "docker.io/library/i@sha256:12", false
				c.User = &corev1.ContainerUser{Linux: &corev1.LinuxContainerUser{UID: 5, GID: 6, SupplementalGroups: []int64{6}}}
				p.Object.Status.Conditions = append(p.Object.Status.Conditions,
					corev1.PodCondition{Type: "example.com/gate", Status: corev1.ConditionFalse})
			}},
		"ephemeral": {pod: "main:b main:a ephemeral:f ephemeral:e ephemeral:d", policy: corev1.RestartPolicyAlways,
			state: "b=running a=running f=running e=exited:3 d=waiting",
			edit:  func(p *Pod) { end(&p.Containers[3], 3, "Error") }},
		"crash-loop": {pod: "main:a", policy: corev1.RestartPolicyOnFailure, state: "a=exited:1", edit: func(p *Pod) {
			c := &p.Containers[0]
			end(c, 1, "Error")
			c.Attempt, c.Reason, c.Message = 3, CrashLoopBackOff, "back-off 40s restarting failed container=a pod=p_ns(u)"
			c.Last = &corev1.ContainerStateTerminated{ExitCode: 9}
		}},
		"deadline": {pod: "init:i main:a", policy: corev1.RestartPolicyNever, state: "i=exited:143", over: true, edit: func(p *Pod) {
			end(&p.Containers[0], 143, "Error")
			p.Ending = &Ending{Failed: true, Reason: "DeadlineExceeded", Message: "Pod was active on the node longer than the specified deadline"}
		}},
		"deleted-before-start": {pod: "main:a", policy: corev1.RestartPolicyAlways, state: "a=waiting", over: true, edit: func(p *Pod) {
			p.Containers[0].Reason, p.Containers[0].Message = ImagePullBackOff, "no"
			p.Ending = &Ending{}
		}},
	} {
		p := newPod(test.pod, test.policy)
		p.Object.Status.Conditions = []corev1.PodCondition{scheduled}
		p.set(test.state)
		test.edit(p)
		got := Status(p, network.Addresses{Pod: []string{"192.0.2.1", "2001:db8::1"}, Node: []string{"192.0.2.1", "2001:db8::1"}}, &p.Object.Status, test.over, t0.Add(5*time.Second))
		text, err := yaml.Marshal(got)
		if err != nil {
			t.Fatal(err)
		}
		golden.File(t, filepath.Join("testdata", name+".yaml"), text)
	}
}

func TestTransitionTimesStay(t *testing.T) {
	t.Parallel()
	p := newPod("main:a", corev1.RestartPolicyAlways)
	p.set("a=running")
	first := Status(p, network.Addresses{}, &p.Object.Status, false, t0)
	p.Containers[0].Ready = false
	second := Status(p, network.Addresses{}, &first, false, t0.Add(time.Minute))
	for i, c := range second.Conditions {
		was := first.Conditions[i]
		changed := c.Status != was.Status
		if moved := !c.LastTransitionTime.Equal(&was.LastTransitionTime); moved != changed {
			t.Errorf("%s: changed %v, time moved %v", c.Type, changed, moved)
		}
	}
	if len(first.Conditions) != 5 || first.Conditions[2].Status != corev1.ConditionTrue || second.Conditions[2].Status != corev1.ConditionFalse {
		t.Errorf("got %+v then %+v", first.Conditions, second.Conditions)
	}
}

// A pod's addresses are its own, even where they are not its node's; what was
// reported once stays.
func TestAddresses(t *testing.T) {
	t.Parallel()
	p := newPod("main:a", corev1.RestartPolicyAlways)
	at := network.Addresses{Pod: []string{"10.0.0.7", "fd00::7"}, Node: []string{"192.0.2.1"}}
	s := Status(p, at, &p.Object.Status, false, t0)
	if s.PodIP != "10.0.0.7" || len(s.PodIPs) != 2 || s.PodIPs[1].IP != "fd00::7" || s.HostIP != "192.0.2.1" || len(s.HostIPs) != 1 {
		t.Errorf("got %s, %v on %s, %v", s.PodIP, s.PodIPs, s.HostIP, s.HostIPs)
	}
	if next := Status(p, network.Addresses{Pod: []string{"10.0.0.8"}, Node: []string{"192.0.2.2"}}, &s, false, t0); next.PodIP != s.PodIP || next.HostIP != s.HostIP {
		t.Errorf("got %s on %s later", next.PodIP, next.HostIP)
	}
}

func TestReadinessGates(t *testing.T) {
	t.Parallel()
	p := newPod("main:a", corev1.RestartPolicyAlways)
	p.set("a=running")
	p.Object.Spec.ReadinessGates = []corev1.PodReadinessGate{{ConditionType: "x/a"}, {ConditionType: "x/b"}}
	p.Object.Status.Conditions = []corev1.PodCondition{{Type: "x/b", Status: corev1.ConditionFalse}}
	s := Status(p, network.Addresses{}, &p.Object.Status, false, t0)
	ready := s.Conditions[3]
	want := `corresponding condition of pod readiness gate "x/a" does not exist., the status of pod readiness gate "x/b" is not "True", but False`
	if ready.Type != corev1.PodReady || ready.Reason != "ReadinessGatesNotReady" || ready.Message != want {
		t.Errorf("got %+v", ready)
	}
}
