package cli

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sampan-batch/sampan/internal/cli/screentest"
)

// shows compares a screen with what is wanted, once all has arrived.
func shows(t *testing.T, s *screentest.Screen, want ...string) {
	t.Helper()
	const last = "\a" // which nobody else writes
	fmt.Fprint(s.Slave, last)
	s.Read(last)
	if got := s.Lines(); !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// The block of a console stays below what is printed, whatever the width, and takes with
// it what the terminal has echoed.
func TestConsoleOnATerminal(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("0123456789", 9)
	for _, columns := range []int{40, 80, 200} {
		t.Run(fmt.Sprint(columns), func(t *testing.T) {
			t.Parallel()
			s := screentest.New(t, columns)
			c := newConsole(s.Slave, s.Slave)
			shown := long
			if len(long) >= columns {
				shown = long[:columns-2] + "…"
			}
			c.Log("pod", "one")
			c.Status([]string{"1/2", long})
			shows(t, s, "pod | one", "1/2", shown)
			c.Log("pod", "two")
			shows(t, s, "pod | one", "pod | two", "1/2", shown)
			c.Status([]string{"2/2"})
			shows(t, s, "pod | one", "pod | two", "2/2")
			if _, err := s.Master.Write([]byte{3}); err != nil { // Ctrl-C
				t.Fatal(err)
			}
			for echoed := false; !echoed; time.Sleep(time.Millisecond) {
				n, err := unix.IoctlGetInt(int(s.Master.Fd()), unix.TIOCINQ)
				echoed = err != nil || n > 0
			}
			c.Note("interrupted")
			shows(t, s, "pod | one", "pod | two", "interrupted", "2/2")
			c.Status(nil)
			shows(t, s, "pod | one", "pod | two", "interrupted")
		})
	}
}

// A terminal that became narrower has wrapped the block: all of it goes.
func TestConsoleOnANarrowerTerminal(t *testing.T) {
	t.Parallel()
	s := screentest.New(t, 80)
	c := newConsole(s.Slave, s.Slave)
	c.Status([]string{strings.Repeat("a", 70), "short", strings.Repeat("b", 79)})
	shows(t, s, strings.Repeat("a", 70), "short", strings.Repeat("b", 79))
	s.Resize(30)
	c.Status([]string{"now"})
	shows(t, s, "now")
}

// Where somebody reads standard output on the same terminal there is no block.
func TestConsoleIntoAPipe(t *testing.T) {
	t.Parallel()
	s := screentest.New(t, 80)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	c := newConsole(w, s.Slave)
	c.Status([]string{"1/2"})
	c.Note("a note")
	shows(t, s, "a note")
}
