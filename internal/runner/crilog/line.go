package crilog

import (
	"bufio"
	"bytes"
	"fmt"
	"time"
)

const stampLayout = "2006-01-02T15:04:05.000000000Z"

// stamper formats times as 2006-01-02T15:04:05.000000000Z; the part that
// changes once a second is formatted once a second.
type stamper struct {
	second int64
	text   [len(stampLayout)]byte
}

func (s *stamper) set(t time.Time) {
	if sec := t.Unix(); sec != s.second || s.text[0] == 0 {
		s.second = sec
		t.UTC().AppendFormat(s.text[:0], stampLayout)
	}
	ns := t.Nanosecond()
	for i := len(stampLayout) - 2; i >= len(stampLayout)-10; i-- {
		s.text[i] = byte('0' + ns%10)
		ns /= 10
	}
}

type logLine struct {
	stamp, stream, text []byte
	partial             bool
}

// parseLine takes a line apart: time, stream, tags (separated by colons, the
// first is F or P), text.
func parseLine(line []byte) (l logLine, ok bool) {
	var tags []byte
	if l.stamp, line, ok = bytes.Cut(line, []byte{' '}); !ok {
		return l, false
	}
	if l.stream, line, ok = bytes.Cut(line, []byte{' '}); !ok {
		return l, false
	}
	if s := Stream(l.stream); s != Stdout && s != Stderr {
		return l, false
	}
	if tags, l.text, ok = bytes.Cut(line, []byte{' '}); !ok {
		return l, false
	}
	tag, _, _ := bytes.Cut(tags, []byte{':'})
	l.partial = string(tag) == "P"
	return l, l.partial || string(tag) == "F"
}

// said is how many bytes of a container's output are in lines of a log.
func said(lines []byte) (n int64) {
	for len(lines) > 0 {
		var line []byte
		line, lines, _ = bytes.Cut(lines, []byte{'\n'})
		l, _ := parseLine(line)
		if n += int64(len(l.text)); !l.partial {
			n++ // the newline
		}
	}
	return n
}

// printer writes the lines that were asked for.
type printer struct {
	w         *bufio.Writer
	opts      Options
	lineStart bool
	written   int64
}

// print writes one line of the log, if it is one that was asked for. A line
// that is not in the format is skipped.
func (p *printer) print(line []byte) error {
	l, ok := parseLine(line)
	if !ok || p.opts.Stream != "" && p.opts.Stream != Stream(l.stream) {
		return nil
	}
	if !p.opts.Since.IsZero() {
		if t, err := time.Parse(time.RFC3339Nano, string(l.stamp)); err != nil || t.Before(p.opts.Since) {
			return nil
		}
	}
	return p.say(l)
}

func (p *printer) say(l logLine) error {
	if p.opts.Timestamps && p.lineStart {
		if err := p.write(l.stamp); err != nil {
			return err
		}
		if err := p.write([]byte{' '}); err != nil {
			return err
		}
	}
	p.lineStart = !l.partial
	if err := p.write(l.text); err != nil || l.partial {
		return err
	}
	return p.write([]byte{'\n'})
}

// notice writes a line of our own, which the container did not write: without
// it nobody would know that something is missing.
func (p *printer) notice(format string, args ...any) error {
	if !p.lineStart {
		if err := p.write([]byte{'\n'}); err != nil {
			return err
		}
		p.lineStart = true
	}
	stamp := []byte(time.Now().UTC().Format(stampLayout))
	return p.say(logLine{stamp: stamp, text: fmt.Appendf(nil, "sampan: "+format, args...)})
}

func (p *printer) write(b []byte) error {
	over := false
	if p.opts.LimitBytes != nil {
		if left := *p.opts.LimitBytes - p.written; int64(len(b)) > left {
			b, over = b[:max(left, 0)], true
		}
	}
	p.written += int64(len(b))
	if _, err := p.w.Write(b); err != nil {
		return err
	}
	if over {
		return errLimit
	}
	return nil
}
