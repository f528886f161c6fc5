// Package screentest is a terminal for tests: a real pseudo-terminal, and what its screen
// shows. It knows what Sampan uses, and fails the test at anything else.
package screentest

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

// Patience is how long nothing may happen.
const Patience = 2 * time.Minute

// Rows is how many rows a screen has. What has scrolled off is not forgotten.
const Rows = 24

// Screen is a terminal of so many columns.
type Screen struct {
	t testing.TB
	// Master is where the user sits, and Slave what a program is given.
	Master, Slave *os.File

	mu         sync.Mutex
	columns    int
	rows       []row
	at, column int
	torn       string // what was read of something that is not whole yet
}

// row is one of the screen. The next goes on with the same line if it was wrapped.
type row struct {
	text    []rune
	wrapped bool
}

// New makes a terminal.
func New(t testing.TB, columns int) *Screen {
	t.Helper()
	master, slave, err := Open()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { master.Close(); slave.Close() })
	s := &Screen{t: t, Master: master, Slave: slave, rows: make([]row, 1)}
	s.Resize(columns)
	return s
}

// Open makes a pseudo-terminal: where the user sits, and what a program is given.
func Open() (master, slave *os.File, err error) {
	master, err = os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		return nil, nil, err
	}
	if err = unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err == nil {
		var n int
		if n, err = unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN); err == nil {
			slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
		}
	}
	if err != nil {
		master.Close()
		return nil, nil, err
	}
	return master, slave, nil
}

// Resize wraps what is longer than a row now, as terminals do.
func (s *Screen) Resize(columns int) {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := unix.IoctlSetWinsize(int(s.Slave.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: Rows, Col: uint16(columns)}); err != nil {
		s.t.Fatal(err)
	}
	var rows []row
	for i, r := range s.rows {
		if i == s.at {
			s.at = len(rows)
		}
		for len(r.text) > columns {
			rows = append(rows, row{r.text[:columns], true})
			r.text = r.text[columns:]
		}
		rows = append(rows, r)
	}
	s.rows, s.columns = rows, columns
}

// Lines is what the screen shows now. A line that takes several rows is one.
func (s *Screen) Lines() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var lines []string
	line := ""
	for _, r := range s.rows {
		if line += string(r.text); !r.wrapped {
			lines = append(lines, strings.TrimRight(line, " "))
			line = ""
		}
	}
	for len(lines) > 0 && lines[len(lines)-1] == "" {
		lines = lines[:len(lines)-1]
	}
	return lines
}

// Read shows what has been written, until text arrives or, if that is "", no more can.
func (s *Screen) Read(text string) {
	s.t.Helper()
	buf := make([]byte, 4096)
	for {
		_ = s.Master.SetReadDeadline(time.Now().Add(Patience))
		n, err := s.Master.Read(buf)
		if err != nil && text != "" {
			s.t.Error(err)
		}
		if err != nil {
			return
		}
		got := string(buf[:n])
		if text != "" && strings.HasSuffix(got, text) {
			s.write(strings.TrimSuffix(got, text))
			return
		}
		s.write(got)
	}
}

// csi is a control sequence.
var csi = regexp.MustCompile(`^\x1b\[([0-9;]*)([@-~])`)

func (s *Screen) write(text string) {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	for text = s.torn + text; text != ""; {
		if text[0] == 0x1b {
			m := csi.FindStringSubmatch(text)
			if m == nil && len(text) < 10 {
				break
			}
			if m == nil {
				s.t.Errorf("written to the terminal: %.40q", text)
				text = text[1:]
				continue
			}
			s.control(m[0], m[1], m[2])
			text = text[len(m[0]):]
			continue
		}
		if !utf8.FullRuneInString(text) {
			break
		}
		r, n := utf8.DecodeRuneInString(text)
		s.put(r)
		text = text[n:]
	}
	s.torn = text
}

// control does what a sequence says.
func (s *Screen) control(sequence, parameters, final string) {
	switch {
	case final == "m": // colours
	case final == "A":
		var rows int
		_, _ = fmt.Sscan(parameters, &rows)
		s.at = max(0, s.at-rows)
	case sequence == "\x1b[J":
		s.rows = s.rows[:s.at+1]
		r := &s.rows[s.at]
		r.text, r.wrapped = r.text[:min(s.column, len(r.text))], false
	default:
		s.t.Errorf("written to the terminal: %q", sequence)
	}
}

func (s *Screen) put(r rune) {
	switch r {
	case '\r':
		s.column = 0
		return
	case '\n':
		s.at++
	default:
		if s.column == s.columns {
			s.rows[s.at].wrapped = true
			s.at, s.column = s.at+1, 0
		}
	}
	for s.at >= len(s.rows) {
		s.rows = append(s.rows, row{})
	}
	if r == '\n' {
		return
	}
	text := s.rows[s.at].text
	for len(text) <= s.column {
		text = append(text, ' ')
	}
	text[s.column] = r
	s.rows[s.at].text = text
	s.column++
}
