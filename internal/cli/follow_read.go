package cli

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"
)

// readLogs reads the logs that are wanted of the containers of a pod that have started.
func (f *follower) readLogs(pod *corev1.Pod) {
	of, followed := f.workOf(pod)
	if !followed || f.onlyLogs != nil && !f.onlyLogs.selection.pod(pod) {
		return
	}
	for _, s := range slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses) {
		if f.onlyLogs != nil && !f.onlyLogs.selection.named(s.Name) {
			continue
		}
		if last := s.LastTerminationState.Terminated; last != nil && last.ContainerID != "" && f.logs.wants(last) {
			f.read[of] = true
			f.readLog(pod, &s, last.ContainerID, true)
		}
		if s.ContainerID != "" && s.State.Waiting == nil && f.logs.wants(s.State.Terminated) {
			f.read[of] = true
			f.readLog(pod, &s, s.ContainerID, false)
		}
	}
}

// readLog starts a reader of one container's log, once.
func (f *follower) readLog(pod *corev1.Pod, s *corev1.ContainerStatus, id string, previous bool) {
	if f.reading[id] {
		return
	}
	f.reading[id] = true
	of := life{logKey: logKey{pod.UID, s.Name}, attempt: int(s.RestartCount)}
	if previous {
		of.attempt--
	}
	opts := &corev1.PodLogOptions{}
	if f.onlyLogs != nil {
		opts = f.onlyLogs.options(s.Name)
	}
	opts.Container, opts.Follow, opts.Previous, opts.Timestamps = s.Name, !previous, previous, f.logs.stamped
	if f.logs.mute {
		opts.TailLines = ptr.To[int64](lastLines)
	}
	req := f.client.CoreV1().Pods(pod.Namespace).GetLogs(pod.Name, opts)
	f.logs.read(logName(pod, s.Name), of, previous || s.State.Terminated != nil, req.Stream)
}
