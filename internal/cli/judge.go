package cli

import (
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/sampan-batch/sampan/internal/kind"
)

// judge tells where logs are held back which containers of a pod have failed.
func (f *follower) judge(pod *corev1.Pod) {
	if f.logs.stage == nil {
		return
	}
	if _, followed := f.workOf(pod); !followed && !f.board.IsBeside(pod) {
		return
	}
	for _, s := range slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses) {
		if last := s.LastTerminationState.Terminated; last != nil {
			f.judgeLife(pod, &s, last, int(s.RestartCount)-1)
		}
		if t := s.State.Terminated; t != nil {
			f.judgeLife(pod, &s, t, int(s.RestartCount))
		}
	}
}

func (f *follower) judgeLife(pod *corev1.Pod, s *corev1.ContainerStatus, t *corev1.ContainerStateTerminated, attempt int) {
	if f.judged[t.ContainerID] || kind.Sidecar(pod, s.Name) && !kind.PodEnded(pod) {
		return
	}
	f.judged[t.ContainerID] = true
	// A helper is ended by a signal when the work is done.
	failed := t.ExitCode != 0 && (!kind.Sidecar(pod, s.Name) || pod.Status.Phase == corev1.PodFailed)
	f.logs.stage.judge(logID{logKey{pod.UID, s.Name}, attempt}, failed && f.leaving == nil && !f.board.Stopped(pod))
}
