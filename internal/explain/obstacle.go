package explain

import (
	"cmp"
	"path"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/sampan-batch/sampan/internal/kind"
	"github.com/sampan-batch/sampan/internal/reason"
)

// Obstacle is what keeps a pod that has not ended from going on.
type Obstacle struct {
	// Class is what pods with the same obstacle have in common.
	Class string
	// Now says in a phrase what the pod does: "waits for a node". Why and Next are as in
	// an Answer.
	Now       string
	Why, Next []string
	// Until is when it is tried again, if that is known.
	Until time.Time
	// Helpless: it stays until somebody does something about it. Crowded: or until
	// other pods have ended.
	Helpless, Crowded bool
}

// ObstacleOf returns what keeps a pod from going on, from itself and the events about
// it; ok is false when nothing does.
func ObstacleOf(now time.Time, pod *corev1.Pod, events []*corev1.Event) (_ Obstacle, ok bool) {
	st := look(clock{now}, pod, events)
	switch st.class {
	case "succeeded", "failed", "terminating", "running", "initializing", "half ended":
		return Obstacle{}, false
	case "starting", "unscheduled":
		if len(st.why) == 0 {
			return Obstacle{}, false
		}
	}
	o := Obstacle{Class: st.class, Now: st.now, Why: st.why, Next: st.next, Until: st.at}
	switch st.class {
	case "gated", "CreateContainerConfigError", "InvalidImageName":
		o.Helpless = true
	case "unschedulable":
		o.Helpless, o.Crowded = true, true
	case "without image":
		o.Helpless = imageLost(pod, st.why)
	case "crash loop":
		o.Helpless = Unstartable(pod)
	}
	return o, true
}

// Unstartable reports whether the program of a container is not in its image, where no further try
// will find it either. One that may come from elsewhere does not count: from a volume, or, without an
// image (class host), from this machine.
func Unstartable(pod *corev1.Pod) bool {
	lost := func(specs []corev1.Container, list []corev1.ContainerStatus) bool {
		for _, s := range list {
			t := cmp.Or(s.State.Terminated, s.LastTerminationState.Terminated)
			i := slices.IndexFunc(specs, func(c corev1.Container) bool { return c.Name == s.Name })
			if i >= 0 && t != nil && t.Reason == "StartError" && s.ImageID != "" && programLost(&specs[i], t.Message) {
				return true
			}
		}
		return false
	}
	return lost(pod.Spec.InitContainers, pod.Status.InitContainerStatuses) || lost(pod.Spec.Containers, pod.Status.ContainerStatuses)
}

// programLost: a container was not started because there was no such program, as message says.
func programLost(c *corev1.Container, message string) bool {
	if !strings.Contains(message, "executable file not found in $PATH") && !strings.Contains(message, "no such file or directory") {
		return false
	}
	program := ""
	if len(c.Command) > 0 && path.IsAbs(c.Command[0]) {
		program = path.Clean(c.Command[0]) + "/"
	}
	return !slices.ContainsFunc(c.VolumeMounts, func(m corev1.VolumeMount) bool {
		at := path.Clean(m.MountPath) + "/"
		if at == kind.TokenDir+"/" {
			return false // no program is in there
		}
		return program == "" || strings.HasPrefix(program, at)
	})
}

// imageLost: trying again will not bring the image.
func imageLost(pod *corev1.Pod, why []string) bool {
	for _, line := range why {
		if strings.HasSuffix(line, ": not found") || strings.Contains(line, "the registry refused access") {
			return true
		}
	}
	for _, list := range [][]corev1.ContainerStatus{pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses} {
		for _, s := range list {
			if w := s.State.Waiting; w != nil && (w.Reason == reason.ErrImageNeverPull || w.Reason == "InvalidImageName") {
				return true
			}
		}
	}
	return false
}

// ExitOf says how a container ended: "exited with 3".
func ExitOf(t *corev1.ContainerStateTerminated) string { return exit(t) }

// FailureOf gives the reasons why a pod failed.
func FailureOf(pod *corev1.Pod) []string { return failure(pod) }
