package supervisor

import (
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/sampan-batch/sampan/internal/runner"
)

// escapes are ways to leave a container of the class host behind: each script
// writes the id of a process that goes on in the background.
var escapes = map[string]string{
	"session":                    "setsid sleep 1000 & echo $!",
	"session and environment":    "setsid env -i sleep 1000 & echo $!",
	"and limits":                 "setsid env -i prlimit --locks=7:7 sleep 1000 & echo $!",
	"and limits, by two orphans": "(setsid env -i prlimit --locks=7:7 sh -c 'sleep 1000 & echo $!; wait' &)",
}

// escapee starts a container with an escape in it and returns the process.
func escapee(t *testing.T, c *Client, spec *runner.Spec) int {
	t.Helper()
	mustStart(t, c, spec)
	var text string
	eventually(t, "it has escaped", func() bool {
		text, _, _ = strings.Cut(logOf(t, spec), "\n")
		pid, err := strconv.Atoi(text)
		return err == nil && program(pid) == "sleep"
	})
	pid, _ := strconv.Atoi(text)
	t.Cleanup(func() {
		if program(pid) == "sleep" {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	})
	return pid
}

// program is the name of the program that a process runs, "" if it is gone or
// a zombie.
func program(pid int) string {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cmdline")
	if err != nil {
		return ""
	}
	name, _, _ := strings.Cut(string(text), "\x00")
	return name
}

// TestEscapes: nothing survives its container, however it hides, whether its
// first process left it, an exec did, or the supervisor died.
func TestEscapes(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("prlimit"); err != nil {
		t.Skip(err)
	}
	for name, script := range escapes {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			t.Cleanup(func() { stopDir(t, dir) })
			c := openClient(t, dir)
			// One that is younger is no reason to let it live; it lives on itself.
			spec := shellSpec(dir, "first", script+"; sleep 1000")
			pid := escapee(t, c, spec)
			other := shellSpec(dir, "other", "sleep 1000 & echo $!; wait")
			bystander := escapee(t, c, other)
			if err := c.Signal(t.Context(), spec.ID, 9); err != nil {
				t.Error(err)
			}
			mustWait(t, c, spec.ID)
			eventually(t, "it is gone", func() bool { return program(pid) == "" })
			if program(bystander) == "" {
				t.Error("another container's process is gone too")
			}
			res, err := runner.ExecOutput(t.Context(), c, other.ID, []string{"sh", "-c", script + "; sleep 0.2"}, 0)
			if err != nil {
				t.Fatal(err)
			}
			added, err := strconv.Atoi(strings.TrimSpace(string(res.Output)))
			if err != nil {
				t.Fatal(err)
			}
			if err := c.Signal(t.Context(), other.ID, 9); err != nil {
				t.Error(err)
			}
			mustWait(t, c, other.ID)
			eventually(t, "what an exec left is gone", func() bool { return program(added) == "" })
		})
	}
}

// TestEscapesOfLost: the next supervisor ends what the one that died has left.
// Who has hidden everything is a child of nobody's then: without a control
// group it is not found.
func TestEscapesOfLost(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	t.Cleanup(func() { stopDir(t, dir) })
	c := openClient(t, dir)
	spec := shellSpec(dir, "first", escapes["session and environment"]+"; sleep 1000")
	pid := escapee(t, c, spec)
	if err := syscall.Kill(supervisorPID(t, c, runner.Host), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if st := mustWait(t, openClient(t, dir), spec.ID); !st.Lost {
		t.Errorf("%+v", st)
	}
	eventually(t, "it is gone", func() bool { return program(pid) == "" })
}
