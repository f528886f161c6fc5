package supervisor

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sampan-batch/sampan/internal/runner"
	"github.com/sampan-batch/sampan/internal/runner/crilog"
)

// TestPumpAfterTheDeadline: a supervisor that was stopped, by SIGSTOP or with its
// machine, may find that the container has ended and that the time for its output is
// over. What is in the pipe goes into the log all the same; what a process that got
// away with the pipe writes later does not hold up the end.
func TestPumpAfterTheDeadline(t *testing.T) {
	t.Parallel()
	output := strings.Repeat("a line of output\n", 2000)
	for _, kept := range []bool{false, true} { // the writing end
		path := filepath.Join(t.TempDir(), "0.log")
		log, err := crilog.Open(path, crilog.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		mine, theirs, err := pipe(unix.O_NONBLOCK, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := theirs.WriteString(output); err != nil {
			t.Fatal(err)
		}
		if !kept {
			theirs.Close()
		}
		s := &Supervisor{buffers: sync.Pool{New: func() any { b := make([]byte, 512); return &b }}}
		st := &streams{log: log, pipes: []*os.File{mine}, audience: audience{waiting: &s.waiting}}
		past := time.Now().Add(-time.Second)
		st.deadline.Store(&past)
		if err := mine.SetReadDeadline(past); err != nil {
			t.Fatal(err)
		}
		c := &container{spec: &runner.Spec{ID: "a"}}
		s.pump(c, st, mine, 0, crilog.Stdout)
		mine.Close()
		theirs.Close()
		if err := log.Close(); err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Count(string(text), "a line of output\n"); got != 2000 {
			t.Errorf("writing end kept %v: %d lines of 2000 in the log", kept, got)
		}
	}
}
