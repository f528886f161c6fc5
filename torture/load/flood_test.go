package load

import (
	"io"
	"strings"
	"testing"
)

// TestFlood reads logs with and without gaps.
func TestFlood(t *testing.T) {
	t.Parallel()
	const told = "sampan: 500 bytes of this log were removed before they could be read\n"
	for _, c := range []struct {
		name, text, want string
		last             int
	}{
		{"all of it", "  1\tx\n  2\tx\n  3\tx\n", "", 3},
		{"nothing", "", "", 0},
		{"a gap that is told", "  1\tx\n" + told + "xx\n  9\tx\n 10\tx\n", "", 10},
		{"a gap in silence", "  1\tx\n  3\tx\n", `"  3\tx\n" after line 1`, 1},
		{"a line twice", "  1\tx\n  1\tx\n", "after line 1", 1},
		{"half a line", "  1\tx\nxx\n", "after line 1", 1},
		{"a line twice after a gap that is told", "  5\tx\n", "after line 0", 0},
	} {
		f := &flood{}
		err := f.read(io.Reader(strings.NewReader(c.text)), func() {})
		said := ""
		if err != nil {
			said = err.Error()
		}
		if (c.want == "") != (err == nil) || !strings.Contains(said, c.want) || f.last != c.last {
			t.Errorf("%s: %v after line %d, want %q after %d", c.name, err, f.last, c.want, c.last)
		}
	}
}
