package cli

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// screen is a terminal of so many columns behind a real pseudo-terminal. It knows what the
// console uses, and fails the test at anything else.
type screen struct {
	t             *testing.T
	master, slave *os.File
	columns       int
	rows          [][]rune
	at, column    int
}

func newScreen(t *testing.T, columns int) *screen {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { master.Close() })
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	slave, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { slave.Close() })
	s := &screen{t: t, master: master, slave: slave, rows: [][]rune{nil}}
	s.resize(columns)
	return s
}

// resize wraps what is longer than a row now, as terminals do.
func (s *screen) resize(columns int) {
	s.t.Helper()
	if err := unix.IoctlSetWinsize(int(s.slave.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: uint16(columns)}); err != nil {
		s.t.Fatal(err)
	}
	var rows [][]rune
	for i, row := range s.rows {
		if i == s.at {
			s.at = len(rows)
		}
		for len(row) > columns {
			rows = append(rows, row[:columns])
			row = row[columns:]
		}
		rows = append(rows, row)
	}
	s.rows, s.columns = rows, columns
}

// shows compares the screen with what is wanted, once all has arrived.
func (s *screen) shows(want ...string) {
	s.t.Helper()
	const last = "\a" // which nobody else writes
	fmt.Fprint(s.slave, last)
	var text strings.Builder
	buf := make([]byte, 4096)
	_ = s.master.SetReadDeadline(time.Now().Add(10 * time.Second))
	for !strings.HasSuffix(text.String(), last) {
		n, err := s.master.Read(buf)
		if err != nil {
			s.t.Fatal(err)
		}
		text.Write(buf[:n])
	}
	s.write(strings.TrimSuffix(text.String(), last))
	var lines []string
	for _, row := range s.rows {
		lines = append(lines, strings.TrimRight(string(row), " "))
	}
	if got := strings.TrimRight(strings.Join(lines, "\n"), "\n"); got != strings.Join(want, "\n") {
		s.t.Errorf("at %d columns\n%s\nwant\n%s", s.columns, got, strings.Join(want, "\n"))
	}
}

func (s *screen) write(text string) {
	s.t.Helper()
	for text != "" {
		if n, sgr := sequence(text); n > 0 {
			var rows int
			switch _, err := fmt.Sscanf(text[:n], "\x1b[%dA", &rows); {
			case sgr:
			case err == nil && text[n-1] == 'A':
				s.at = max(0, s.at-rows)
			case text[:n] == "\x1b[J":
				s.rows = s.rows[:s.at+1]
				s.rows[s.at] = s.rows[s.at][:min(s.column, len(s.rows[s.at]))]
			default:
				s.t.Fatalf("the console writes %q", text[:n])
			}
			text = text[n:]
			continue
		}
		r := []rune(text)[0]
		text = text[len(string(r)):]
		s.put(r)
	}
}

func (s *screen) put(r rune) {
	switch r {
	case '\r':
		s.column = 0
		return
	case '\n':
		s.at++
	default:
		if s.column == s.columns {
			s.at, s.column = s.at+1, 0
		}
	}
	for s.at >= len(s.rows) {
		s.rows = append(s.rows, nil)
	}
	if r == '\n' {
		return
	}
	row := &s.rows[s.at]
	for len(*row) <= s.column {
		*row = append(*row, ' ')
	}
	(*row)[s.column] = r
	s.column++
}

// The block of a console stays below what is printed, whatever the width, and takes with
// it what the terminal has echoed.
func TestConsoleOnATerminal(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("0123456789", 9)
	for _, columns := range []int{40, 80, 200} {
		t.Run(fmt.Sprint(columns), func(t *testing.T) {
			t.Parallel()
			s := newScreen(t, columns)
			c := newConsole(s.slave, s.slave)
			shown := long
			if len(long) >= columns {
				shown = long[:columns-2] + "…"
			}
			c.Log("pod", "one")
			c.Status([]string{"1/2", long})
			s.shows("pod | one", "1/2", shown)
			c.Log("pod", "two")
			s.shows("pod | one", "pod | two", "1/2", shown)
			c.Status([]string{"2/2"})
			s.shows("pod | one", "pod | two", "2/2")
			if _, err := s.master.Write([]byte{3}); err != nil { // Ctrl-C
				t.Fatal(err)
			}
			for echoed := false; !echoed; time.Sleep(time.Millisecond) {
				n, err := unix.IoctlGetInt(int(s.master.Fd()), unix.TIOCINQ)
				echoed = err != nil || n > 0
			}
			c.Note("interrupted")
			s.shows("pod | one", "pod | two", "interrupted", "2/2")
			c.Status(nil)
			s.shows("pod | one", "pod | two", "interrupted")
		})
	}
}

// A terminal that became narrower has wrapped the block: all of it goes.
func TestConsoleOnANarrowerTerminal(t *testing.T) {
	t.Parallel()
	s := newScreen(t, 80)
	c := newConsole(s.slave, s.slave)
	c.Status([]string{strings.Repeat("a", 70), "short", strings.Repeat("b", 79)})
	s.shows(strings.Repeat("a", 70), "short", strings.Repeat("b", 79))
	s.resize(30)
	c.Status([]string{"now"})
	s.shows("now")
}

// Where somebody reads standard output on the same terminal there is no block.
func TestConsoleIntoAPipe(t *testing.T) {
	t.Parallel()
	s := newScreen(t, 80)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	c := newConsole(w, s.slave)
	c.Status([]string{"1/2"})
	c.Note("a note")
	s.shows("a note")
}
