package cli

import (
	"fmt"
	"hash/fnv"
	"io"
	"os"
	"slices"
	"strings"
	"sync"

	"golang.org/x/term"
)

// console prints lines, and on a terminal keeps a block of status lines below
// them. It is safe for concurrent use.
type console struct {
	mu    sync.Mutex
	lines io.Writer // logs
	notes io.Writer // everything about the logs: status, warnings
	live  bool      // notes is a terminal: the status block is redrawn
	color bool      // lines is a terminal that wants colours
	// terminal: lines is one, so that what containers write must not drive it.
	terminal bool
	width    func() int
	status   []string // as drawn
}

// newConsole prints logs to lines and the rest to notes.
func newConsole(lines, notes *os.File) *console {
	c := &console{lines: lines, notes: notes, width: func() int { return 80 }}
	c.live = term.IsTerminal(int(notes.Fd())) && os.Getenv("TERM") != "dumb"
	c.terminal = term.IsTerminal(int(lines.Fd()))
	c.color = c.terminal && os.Getenv("TERM") != "dumb" && os.Getenv("NO_COLOR") == ""
	if c.live {
		c.width = func() int {
			if w, _, err := term.GetSize(int(notes.Fd())); err == nil && w > 0 {
				return w
			}
			return 80
		}
	}
	return c
}

// Log prints one line of a container, behind its name: as it was written, unless
// it goes to a terminal.
func (c *console) Log(name, line string) {
	name = plain(name)
	if c.terminal {
		line = logLine(line, c.color)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.eraseLocked()
	if c.color {
		fmt.Fprintf(c.lines, "\x1b[%dm%s\x1b[0m | %s\n", colorOf(name), name, line)
	} else {
		fmt.Fprintf(c.lines, "%s | %s\n", name, line)
	}
	c.drawLocked()
}

// Note prints one line about what happens.
func (c *console) Note(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.eraseLocked()
	fmt.Fprintln(c.notes, plain(fmt.Sprintf(format, args...)))
	c.drawLocked()
}

// Status replaces the block of status lines. It does nothing when there is no
// terminal to keep it on.
func (c *console) Status(lines []string) {
	if !c.live {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.eraseLocked()
	c.status = lines
	c.drawLocked()
}

func (c *console) eraseLocked() {
	if c.live && len(c.status) > 0 {
		fmt.Fprintf(c.notes, "\x1b[%dA\x1b[J", len(c.status))
	}
}

func (c *console) drawLocked() {
	if !c.live {
		return
	}
	width := c.width()
	for _, line := range c.status {
		line = plain(line)
		if r := []rune(line); len(r) >= width {
			line = string(r[:width-1])
		}
		fmt.Fprintln(c.notes, line)
	}
}

// colorOf gives a name one of the readable terminal colours, always the same.
func colorOf(name string) int {
	h := fnv.New32a()
	h.Write([]byte(name))
	colors := []int{31, 32, 33, 34, 35, 36, 91, 92, 93, 94, 95, 96}
	return colors[h.Sum32()%uint32(len(colors))]
}

// table aligns rows in columns, as kubectl prints tables. Cells may hold
// anybody's text.
func table(rows [][]string) string {
	rows = slices.Clone(rows)
	for i, row := range rows {
		rows[i] = make([]string, len(row))
		for j, cell := range row {
			rows[i][j] = plain(cell)
		}
	}
	var widths []int
	for _, row := range rows {
		for i, cell := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], len([]rune(cell)))
		}
	}
	var b strings.Builder
	for _, row := range rows {
		for i, cell := range row {
			b.WriteString(cell)
			if i < len(row)-1 {
				b.WriteString(strings.Repeat(" ", widths[i]-len([]rune(cell))+3))
			}
		}
		b.WriteByte('\n')
	}
	return b.String()
}
