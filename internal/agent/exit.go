package agent

import (
	"strings"
	"unicode/utf8"

	corev1 "k8s.io/api/core/v1"

	"github.com/sampan-batch/sampan/internal/agent/podstate"
	"github.com/sampan-batch/sampan/internal/runner"
	"github.com/sampan-batch/sampan/internal/runner/crilog"
)

const (
	// maxTermination is how much of a termination message is reported, in bytes,
	// and maxTerminationPod of all of a pod's; maxTerminationLog and
	// maxTerminationLines bound what stands in for one that is taken from the log.
	maxTermination      = 4096
	maxTerminationPod   = 12 << 10
	maxTerminationLog   = 2048
	maxTerminationLines = 80
)

// exit describes how the container of an attempt ended. It takes the
// termination message, once.
func (a *attempt) exit(st runner.Status) *corev1.ContainerStateTerminated {
	t := &corev1.ContainerStateTerminated{
		ExitCode:    int32(st.ExitCode),
		Reason:      st.Reason,
		Message:     st.Message,
		StartedAt:   podstate.Seconds(st.StartedAt),
		FinishedAt:  podstate.Seconds(st.FinishedAt),
		ContainerID: podstate.ContainerID(a.id),
	}
	if t.Reason == "" {
		switch {
		case st.Lost:
			t.Reason = "ContainerStatusUnknown"
			if t.ExitCode == 0 {
				t.ExitCode = 137
			}
			if t.Message == "" {
				t.Message = "The container ended together with the supervisor that kept it"
			}
		case st.OOMKilled:
			t.Reason = "OOMKilled"
		case st.ExitCode == 0:
			t.Reason = "Completed"
		default:
			t.Reason = "Error"
		}
	}
	if message := a.terminationMessage(t.ExitCode); message != "" {
		t.Message = message
	}
	return t
}

// makeTerminationLog gives the container a place for its termination message.
// A sandbox shows the file inside the container, so that it must exist.
func (a *attempt) makeTerminationLog(spec *runner.Spec) error {
	spec.TerminationLogPath = a.container.Spec.TerminationMessagePath
	if spec.TerminationLogPath == "" {
		spec.TerminationLogPath = corev1.TerminationMessagePathDefault
	}
	spec.TerminationLog = a.pod.files.TerminationLog(a.id)
	if a.class == runner.Host {
		return nil
	}
	return a.pod.files.MakeTerminationLog(a.id)
}

// terminationMessage returns what the container said last, and removes it.
func (a *attempt) terminationMessage(code int32) string {
	containers := int64(len(a.object.Spec.InitContainers) + len(a.object.Spec.Containers) + len(a.object.Spec.EphemeralContainers))
	message := a.pod.files.TakeTerminationLog(a.id, min(maxTermination, maxTerminationPod/containers))
	if message == "" && code != 0 && a.container.Spec.TerminationMessagePolicy == corev1.TerminationMessageFallbackToLogsOnError {
		message = a.logTail()
	}
	return strings.ToValidUTF8(message, string(utf8.RuneError))
}

// logTail returns the end of what the container wrote.
func (a *attempt) logTail() string {
	lines, tail := int64(maxTerminationLines), &lastBytes{limit: maxTerminationLog}
	path := a.pod.files.Log(a.pod.ref, a.container.Spec.Name, a.number)
	if err := crilog.Read(a.pod.ctx, path, crilog.Options{Tail: &lines}, tail); err != nil {
		a.pod.log().Warn("cannot read the end of a log", "container", a.id, "err", err)
	}
	return string(tail.text)
}

// lastBytes keeps the end of what is written to it.
type lastBytes struct {
	limit int
	text  []byte
}

func (b *lastBytes) Write(p []byte) (int, error) {
	b.text = append(b.text, p...)
	b.text = append(b.text[:0], b.text[max(len(b.text)-b.limit, 0):]...)
	return len(p), nil
}
