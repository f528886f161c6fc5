package main_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sampan-batch/sampan/internal/cli/screentest"
)

// onTerminal is a program on a terminal.
type onTerminal struct {
	*screentest.Screen
	t   *testing.T
	dir string
	cmd *exec.Cmd
}

// runOnTerminal starts `sampan run` of three Jobs, each of which writes a line and waits
// for a file of its name; b fails then. shell is what runs it, with $0 for the command.
func runOnTerminal(t *testing.T, columns int, shell string) *onTerminal {
	t.Helper()
	tools := buildTools(t)
	r := &onTerminal{Screen: screentest.New(t, columns), t: t, dir: t.TempDir()}
	var jobs strings.Builder
	for _, name := range []string{"a", "b", "c"} {
		end := "echo fine"
		if name == "b" {
			end = `printf "\\033[31mFATAL\\033[0m: \\033[2Jno route\\n"; exit 3`
		}
		fmt.Fprintf(&jobs, `{"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "%s"}, "spec": {"backoffLimit": 0, "template": {"spec": {"restartPolicy": "Never",
"containers": [{"name": "c", "image": "x", "command": ["sh", "-c", %q]}]}}}}
`, name, fmt.Sprintf("until [ -e %s/%s ]; do sleep 0.05; done; %s", r.dir, name, end))
	}
	if err := os.WriteFile(filepath.Join(r.dir, "jobs.json"), []byte(jobs.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	r.cmd = exec.Command("sh", "-c", shell, filepath.Join(tools.bin, "sampan"))
	r.cmd.Dir = r.dir
	r.cmd.Env = []string{"PATH=/usr/bin:/bin", "HOME=" + r.dir, "TERM=xterm", "TMPDIR=" + r.dir}
	r.cmd.Stdin, r.cmd.Stdout, r.cmd.Stderr = r.Slave, r.Slave, r.Slave
	r.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.cmd.Process.Signal(syscall.SIGTERM) })
	go r.Read("")
	return r
}

// let has one of the Jobs end.
func (r *onTerminal) let(job string) {
	r.t.Helper()
	if err := os.WriteFile(filepath.Join(r.dir, job), nil, 0o600); err != nil {
		r.t.Fatal(err)
	}
}

// ends waits for the end of the program.
func (r *onTerminal) ends(code int) {
	r.t.Helper()
	_ = r.cmd.Wait()
	if got := r.cmd.ProcessState.ExitCode(); got != code {
		r.t.Errorf("it exits with %d, want %d", got, code)
	}
}

// What is another each time.
var (
	suffix  = regexp.MustCompile(`\b([abc])-[a-z0-9]{5}\b`)
	seconds = regexp.MustCompile(`\b[0-9]+(\.[0-9]+)?s\b`)
	clock   = regexp.MustCompile(`\b[0-9]{2}:[0-9]{2}\b`)
	cutTime = regexp.MustCompile(` after [0-9].*…$`)
	spaces  = regexp.MustCompile(` +`)
)

// alike makes a line the same each time.
func alike(line string) string {
	line = suffix.ReplaceAllString(line, "$1-pod")
	line = cutTime.ReplaceAllString(line, " after…")
	line = clock.ReplaceAllString(seconds.ReplaceAllString(line, "Ns"), "CLOCK")
	return spaces.ReplaceAllString(line, " ")
}

// shows waits until the screen shows these lines.
func (r *onTerminal) shows(want ...string) {
	r.t.Helper()
	var got []string
	for end := time.Now().Add(screentest.Patience); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		got = nil
		for _, line := range r.Lines() {
			got = append(got, alike(line))
		}
		sortRunning(got)
		if slices.Equal(got, want) {
			return
		}
	}
	r.t.Fatalf("the screen shows\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
}

// sortRunning sorts those that began at the same moment.
func sortRunning(lines []string) {
	for i := range lines {
		n := i
		for n < len(lines) && strings.HasPrefix(lines[n], " ▸") {
			n++
		}
		slices.Sort(lines[i:n])
	}
}

// A run on a terminal, step by step, at three widths: what is printed stays, what is
// redrawn leaves nothing behind, also when the terminal becomes narrower.
func TestRunOnATerminal(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		columns, narrower int
		state             [3]string // the line of the block after each step
		failed            [2]string // what it says of b, before and after
	}{
		{40, 30, [3]string{"0/3 Jobs 3 running CLOCK", "1/3 Jobs 1 failed, 2 running CLOCK", "2/3 Jobs 1 failed, 1 running"},
			[2]string{" ✗ b-pod c exited with 3 after…", " ✗ b-pod c exited with 3…"}},
		{80, 50, [3]string{"0/3 Jobs 3 running CLOCK", "1/3 Jobs ██████▋ 1 failed, 2 running CLOCK", "2/3 Jobs 1 failed, 1 running CLOCK"},
			[2]string{" ✗ b-pod c exited with 3 after Ns: FATAL: no route", " ✗ b-pod c exited with 3 after…"}},
		{200, 80, [3]string{"0/3 Jobs 3 running CLOCK", "1/3 Jobs ██████▋ 1 failed, 2 running CLOCK", "2/3 Jobs █████████████▎ 1 failed, 1 running CLOCK"},
			[2]string{" ✗ b-pod c exited with 3 after Ns: FATAL: no route", " ✗ b-pod c exited with 3 after Ns: FATAL: no route"}},
	} {
		t.Run(fmt.Sprint(c.columns), func(t *testing.T) {
			t.Parallel()
			r := runOnTerminal(t, c.columns, `exec "$0" run --runtime=host jobs.json`)
			r.shows(c.state[0], " ▸ a-pod Ns", " ▸ b-pod Ns", " ▸ c-pod Ns")
			r.let("b")
			printed := []string{"b-pod | FATAL: no route", "✗ pod b-pod: c exited with 3 after Ns",
				"✗ job/b Failed: BackoffLimitExceeded: Job has reached the specified backoff limit"}
			r.shows(append(printed, c.state[1], c.failed[0], " ▸ a-pod Ns", " ▸ c-pod Ns")...)
			r.Resize(c.narrower)
			r.let("a")
			printed = append(printed[:3:3], "a-pod | fine")
			r.shows(append(printed, c.state[2], c.failed[1], " ▸ c-pod Ns")...)
			r.let("c")
			r.ends(1)
			r.shows(append(printed[:4:4], "c-pod | fine", "", "JOB STATUS COMPLETIONS FAILED DURATION", "a Complete 1/1 0 Ns",
				"b Failed (BackoffLimitExceeded) 0/1 1 Ns", "c Complete 1/1 0 Ns", "", "✗ job/b: pod b-pod: c exited with 3 after Ns", " FATAL: no route")...)
		})
	}
}

// Whoever reads a pipe may write to the same terminal: nothing is redrawn there.
func TestRunIntoTee(t *testing.T) {
	t.Parallel()
	r := runOnTerminal(t, 80, `"$0" run --runtime=host jobs.json | tee log | sed 's/\x1b\[[0-9]*[Jm]//g'`)
	for _, job := range []string{"a", "b", "c"} {
		r.let(job)
	}
	r.ends(0) // sed's; in a pipe is what the pods wrote
	var logs []string
	for _, line := range r.Lines() {
		if line = suffix.ReplaceAllString(line, "$1-pod"); strings.Contains(line, "-pod | ") {
			logs = append(logs, line)
		}
	}
	slices.Sort(logs)
	want := []string{"a-pod | fine", "b-pod | FATAL: no route", "c-pod | fine"}
	if !slices.Equal(logs, want) {
		t.Errorf("the screen has %q, want %q:\n%s", logs, want, strings.Join(r.Lines(), "\n"))
	}
}

// Ctrl-C ends the run gracefully, and the ^C that the terminal itself shows is gone with the block.
func TestInterruptOnATerminal(t *testing.T) {
	t.Parallel()
	r := runOnTerminal(t, 80, `exec "$0" run --runtime=host jobs.json`)
	r.shows("0/3 Jobs 3 running CLOCK", " ▸ a-pod Ns", " ▸ b-pod Ns", " ▸ c-pod Ns")
	if _, err := r.Master.WriteString("\x03"); err != nil {
		t.Fatal(err)
	}
	r.ends(130)
	var lines []string
	for end := time.Now().Add(screentest.Patience); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if lines = r.Lines(); len(lines) == 6 {
			break
		}
	}
	if len(lines) != 6 || lines[0] != "interrupted: ending the pods gracefully (Ctrl-C again kills them)" || !strings.HasPrefix(alike(lines[5]), "c Stopped 0/1 ") {
		t.Errorf("the screen shows\n%s", strings.Join(lines, "\n"))
	}
}
