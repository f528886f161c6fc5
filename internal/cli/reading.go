package cli

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"time"
)

// reading is a log on its way from where it is read to where it goes.
type reading struct {
	*logReaders
	name string
	of   life
	file *resultFile // nil: none
	act  *act        // nil: its lines are printed as they come
}

// reading returns the way of a log that is about to be read.
func (l *logReaders) reading(name string, of life) *reading {
	r := &reading{logReaders: l, name: name, of: of}
	if l.stage != nil {
		r.act = l.stage.begin(name, &of)
	}
	return r
}

// copy takes a log to its end.
func (r *reading) copy(log io.Reader) error {
	in := bufio.NewReaderSize(log, 16<<10)
	for fresh := true; ; {
		line, whole, err := readLine(in)
		if len(line) > 0 || whole {
			r.line(line, fresh, whole)
			fresh = whole
		}
		if in.Buffered() == 0 {
			r.file.flush()
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// line takes a line, or a part of one that is very long: a fresh one begins here, a whole
// one ends.
func (r *reading) line(line []byte, fresh, whole bool) {
	text, printed := line, line
	if r.stamped && fresh {
		if _, rest, ok := bytes.Cut(line, []byte(" ")); ok {
			text = rest
		}
		if !r.timestamps {
			printed = text
		}
	}
	r.of.keep(text)
	r.file.write(text)
	if whole {
		r.of.Bytes++
		r.file.write([]byte("\n"))
	}
	r.print(string(printed))
}

// print prints a line, for which whoever reads this program's output may take his time.
func (r *reading) print(line string) {
	if r.mute {
		return
	}
	r.count(1, 0)
	switch {
	case r.act != nil:
		r.act.line(line)
	case r.bare:
		r.console.Log("", line)
	default:
		r.console.Log(r.name, line)
	}
	r.count(-1, 1)
}

// end takes the end of the log.
func (r *reading) end() {
	if !r.of.Began.IsZero() {
		r.of.Ended = time.Now()
	}
	for i, line := range r.of.Last {
		r.of.Last[i] = logLine(line, false)
	}
	r.file.close()
	if r.act != nil {
		r.act.end()
	}
}

// lastLines is how many of the last lines are remembered.
const lastLines = 5

// keep remembers a line as one of the last. It is cleaned of what is for terminals when
// the log ends.
func (l *life) keep(line []byte) {
	const longest = 300
	l.Bytes += int64(len(line))
	if len(line) > longest { // of what was written over the last counts
		line = bytes.TrimRight(line, "\r")
		line = line[bytes.LastIndexByte(line, '\r')+1:]
	}
	if len(l.Last) == lastLines {
		l.Last = append(l.Last[:0], l.Last[1:]...)
	}
	l.Last = append(l.Last, string(line[:min(len(line), longest)]))
}

// maxLine is the longest line that is printed as one: a program that never ends
// its line must not fill the memory.
const maxLine = 1 << 20

// readLine returns the next line, without its end. One that is very long comes in parts,
// of which only the last is whole; so does one that has no end.
func readLine(r *bufio.Reader) (line []byte, whole bool, err error) {
	for len(line) < maxLine {
		part, err := r.ReadSlice('\n')
		line = append(line, part...)
		if err == nil {
			return line[:len(line)-1], true, nil
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return line, false, err
		}
	}
	return line, false, nil
}
