package agent

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

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

// apiTime returns t in the precision of the API.
func apiTime(t time.Time) metav1.Time { return metav1.NewTime(t.Truncate(time.Second)) }

// exit describes how the container of an attempt ended. It takes the
// termination message, once.
func (a *attempt) exit(st runner.Status) *corev1.ContainerStateTerminated {
	t := &corev1.ContainerStateTerminated{
		ExitCode:    int32(st.ExitCode),
		Reason:      st.Reason,
		Message:     st.Message,
		StartedAt:   apiTime(st.StartedAt),
		FinishedAt:  apiTime(st.FinishedAt),
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

// terminationLog is the file in which a container leaves its last words.
func (a *attempt) terminationLog() string { return a.worker.agent.terminationFile(a.id) }

// terminationFile is that of the container that the runner knows by id.
func (a *Agent) terminationFile(id string) string {
	return filepath.Join(a.opts.RunDir, "termination", id)
}

// makeTerminationLog gives the container a place for its termination message.
// A sandbox shows the file inside the container, so that it must exist.
func (a *attempt) makeTerminationLog(spec *runner.Spec) error {
	spec.TerminationLogPath = a.container.Spec.TerminationMessagePath
	if spec.TerminationLogPath == "" {
		spec.TerminationLogPath = corev1.TerminationMessagePathDefault
	}
	spec.TerminationLog = a.terminationLog()
	if a.class == runner.Host {
		return nil
	}
	const flags = unix.O_CREAT | unix.O_WRONLY | unix.O_TRUNC | unix.O_CLOEXEC
	fd, err := unix.Open(spec.TerminationLog, flags, 0o666)
	if err != nil {
		return &os.PathError{Op: "create", Path: spec.TerminationLog, Err: err}
	}
	defer unix.Close(fd)
	return unix.Fchmod(fd, 0o666) // whoever the container runs as; the umask does not count
}

func (a *attempt) dropTerminationLog() { a.worker.agent.removeFile(a.terminationLog()) }

// terminationMessage returns what the container said last, and removes it.
func (a *attempt) terminationMessage(code int32) string {
	message := ""
	var st unix.Stat_t
	if err := unix.Stat(a.terminationLog(), &st); err == nil {
		if st.Size > 0 {
			containers := int64(len(a.pod.Spec.InitContainers) + len(a.pod.Spec.Containers))
			message = readHead(a.terminationLog(), min(maxTermination, maxTerminationPod/containers))
		}
		a.dropTerminationLog()
	}
	if message == "" && code != 0 && a.container.Spec.TerminationMessagePolicy == corev1.TerminationMessageFallbackToLogsOnError {
		message = a.logTail()
	}
	return strings.ToValidUTF8(message, string(utf8.RuneError))
}

func readHead(path string, limit int64) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	data, _ := io.ReadAll(io.LimitReader(f, limit))
	return string(data)
}

// logTail returns the end of what the container wrote.
func (a *attempt) logTail() string {
	lines, tail := int64(maxTerminationLines), &lastBytes{limit: maxTerminationLog}
	path := a.worker.agent.logPath(a.worker.ref, a.container.Spec.Name, a.number)
	if err := crilog.Read(a.worker.ctx, path, crilog.Options{Tail: &lines}, tail); err != nil {
		a.worker.log().Warn("cannot read the end of a log", "container", a.id, "err", err)
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
