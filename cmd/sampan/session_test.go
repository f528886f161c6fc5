package main_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"

	"github.com/sampan-batch/sampan/internal/cli/screentest"
)

// session runs a command on a terminal of its own and follows a transcript: of a line
// with a prompt what stands behind it is typed, when the terminal shows the prompt; any
// other line has to be shown then, somewhere in a line, before the next prompt is waited
// for. "..." stands for any text; "<enter>" is typed without a prompt; "^D" ends input.
func session(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: session file command [args]")
	}
	master, slave, err := screentest.Open()
	ts.Check(err)
	defer master.Close()
	ts.Check(unix.IoctlSetWinsize(int(slave.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: 80}))
	cmd := exec.Command(args[1], args[2:]...)
	if found, err := lookIn(ts.Getenv("PATH"), args[1]); err == nil {
		cmd.Path, cmd.Err = found, nil
	}
	cmd.Env, cmd.Dir = append(of(ts).env, "TERM=xterm"), ts.Getenv("WORK")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	ts.Check(cmd.Start())
	slave.Close()
	shown := &shown{news: make(chan struct{}, 1)}
	go shown.read(master)
	err = shown.follow(master, ts.ReadFile(args[0]))
	if err != nil {
		_ = cmd.Process.Kill()
	}
	ended := cmd.Wait()
	ts.Logf("[terminal]\n%s", shown.all())
	ts.Check(err)
	ts.Check(ended)
}

// shown is what a terminal has shown.
type shown struct {
	news chan struct{}

	mu   sync.Mutex
	text string
	from int // what comes before has been seen
}

var (
	prompts = regexp.MustCompile(`^(\S*[#>] )(.*)$`)
	// sequences move the cursor, and colour what is written.
	sequences = regexp.MustCompile(`\x1b(\[[0-9;?]*[@-~]|[()][A-Z0-9]|[=>])|\x07`)
)

func (s *shown) read(master *os.File) {
	buf := make([]byte, 4096)
	for {
		n, err := master.Read(buf)
		s.mu.Lock()
		s.text += string(buf[:n])
		s.mu.Unlock()
		select {
		case s.news <- struct{}{}:
		default:
		}
		if err != nil {
			close(s.news)
			return
		}
	}
}

func (s *shown) all() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return sequences.ReplaceAllString(s.text, "")
}

func (s *shown) follow(terminal *os.File, transcript string) error {
	for line := range strings.Lines(transcript) {
		line = strings.TrimRight(line, "\n")
		want, typed := regexp.QuoteMeta(line), ""
		if line == "" || strings.HasPrefix(line, "//") {
			continue
		} else if line == "<enter>" {
			want, typed = "", "\r"
		} else if m := prompts.FindStringSubmatch(line); m != nil && m[2] == "^D" {
			want, typed = `(^|[\r\n])`+regexp.QuoteMeta(m[1])+`\r?$`, "\x04"
		} else if m != nil {
			want, typed = `(^|[\r\n])`+regexp.QuoteMeta(m[1])+`\r?$`, m[2]+"\r"
		}
		if err := s.await(strings.ReplaceAll(want, `\.\.\.`, `[^\n]*`)); err != nil {
			return fmt.Errorf("%s: %w", line, err)
		}
		if _, err := terminal.WriteString(typed); err != nil {
			return err
		}
	}
	return nil
}

// await waits until something fits that was not seen before.
func (s *shown) await(pattern string) error {
	want := regexp.MustCompile(pattern)
	for deadline := time.After(2 * time.Minute); ; {
		s.mu.Lock()
		// A sequence that is torn at the end is put together at the next look.
		text := s.text[s.from:]
		plain := sequences.ReplaceAllString(text, "")
		if at := want.FindStringIndex(plain); at != nil {
			s.from += behind(text, at[1])
			s.mu.Unlock()
			return nil
		}
		s.mu.Unlock()
		select {
		case _, more := <-s.news:
			if !more {
				return errors.New("the command has ended")
			}
		case <-deadline:
			return fmt.Errorf("not shown within two minutes")
		}
	}
}

// behind is where in text the first n bytes end that are no sequences.
func behind(text string, n int) int {
	at := 0
	for at < len(text) && n > 0 {
		if m := sequences.FindStringIndex(text[at:]); m != nil && m[0] == 0 {
			at += m[1]
			continue
		}
		at, n = at+1, n-1
	}
	return at
}
