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

	"github.com/sampan-batch/sampan/internal/board"
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
	size     func() (columns, rows int)
	status   []string // as drawn
	failed   error    // the first that lines could not be written for
	// workflow is the runner of a GitHub workflow that reads all of this, or nil.
	workflow *workflow
}

// err is why not all logs could be written, nil if they were.
func (c *console) err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.failed
}

// newConsole prints logs to lines and the rest to notes.
func newConsole(lines, notes *os.File) *console {
	c := &console{lines: lines, notes: notes, size: func() (int, int) { return 80, 24 }}
	// Who reads a pipe may write to the same terminal, where a block that is redrawn
	// would erase it.
	c.live = term.IsTerminal(int(notes.Fd())) && os.Getenv("TERM") != "dumb" && !isPipe(lines)
	c.terminal = term.IsTerminal(int(lines.Fd()))
	c.color = c.terminal && os.Getenv("TERM") != "dumb" && os.Getenv("NO_COLOR") == ""
	if c.live {
		c.size = func() (int, int) {
			if w, h, err := term.GetSize(int(notes.Fd())); err == nil && w > 0 && h > 0 {
				return w, h
			}
			return 80, 24
		}
	}
	return c
}

func isPipe(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&(os.ModeNamedPipe|os.ModeSocket) != 0
}

// newWorkflowConsole prints everything to one stream, for the runner of a GitHub workflow.
func newWorkflowConsole(out *os.File) *console {
	c := newConsole(out, out)
	c.workflow = &workflow{out: out}
	return c
}

// Log prints one line of a container, behind its name if that is not "": as it was
// written, unless it goes to a terminal.
func (c *console) Log(name, line string) {
	if name = plain(name); c.color && name != "" {
		name = fmt.Sprintf("\x1b[%dm%s\x1b[0m", colorOf(name), name)
	}
	if name != "" {
		name += " | "
	}
	if c.terminal {
		line = logLine(line, c.color)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.textLocked()
	if _, err := fmt.Fprintln(c.lines, name+line); c.failed == nil {
		c.failed = err
	}
	c.drawLocked()
}

// GroupLog is Log where logs are shown one after the other. A workflow's runner folds all
// lines of a name together, under a title.
func (c *console) GroupLog(name, title, line string) {
	if c.workflow == nil {
		c.Log(name, line)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.workflow.begin(name, title)
	c.textLocked()
	if _, err := fmt.Fprintln(c.lines, line); c.failed == nil {
		c.failed = err
	}
}

// EndGroup says that no more lines of a name follow.
func (c *console) EndGroup(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.workflow != nil && c.workflow.group == name {
		c.workflow.end()
	}
}

// Note prints one line about what happens.
func (c *console) Note(format string, args ...any) {
	c.Print(plain(fmt.Sprintf(format, args...)) + "\n")
}

// Print prints lines that cannot drive a terminal.
func (c *console) Print(text string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.textLocked()
	io.WriteString(c.notes, text)
	c.drawLocked()
}

// Write is Print for a log of ours.
func (c *console) Write(text []byte) (int, error) {
	c.Print(string(text))
	return len(text), nil
}

// Failure tells what failed, and how, in lines that cannot drive a terminal. A workflow's
// runner shows it with the workflow.
func (c *console) Failure(title, text string) {
	if c.workflow == nil {
		c.Print("\n" + text)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.workflow.end()
	c.workflow.command("error", title, strings.TrimSuffix(text, "\n"))
}

// Close ends what was begun. Whatever is printed later stands for itself.
func (c *console) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.workflow != nil {
		c.workflow.end()
		c.workflow.release()
	}
}

// textLocked makes room for text.
func (c *console) textLocked() {
	c.eraseLocked()
	if c.workflow != nil {
		c.workflow.text()
	}
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
	c.status = slices.Clone(lines)
	c.drawLocked()
}

// eraseLocked goes back to where the block begins and clears all that follows: also what
// the terminal itself has put there, as the ^C of a key that was pressed. A block that was
// drawn on a wider terminal has more rows by now.
func (c *console) eraseLocked() {
	if !c.live {
		return
	}
	columns, _ := c.size()
	rows := 0
	for _, line := range c.status {
		rows += max(1, (board.Width(line)+columns-1)/columns)
	}
	if rows > 0 {
		fmt.Fprintf(c.notes, "\r\x1b[%dA\x1b[J", rows)
	} else {
		io.WriteString(c.notes, "\r\x1b[J")
	}
}

func (c *console) drawLocked() {
	if !c.live || len(c.status) == 0 {
		return
	}
	columns, _ := c.size()
	var block strings.Builder
	for i, line := range c.status {
		c.status[i] = board.Cut(plain(line), columns)
		block.WriteString(c.status[i] + "\n")
	}
	io.WriteString(c.notes, block.String())
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
