package manifest

import (
	"bytes"
)

// document is a part of a source that YAML calls a document: what stands between
// markers.
type document struct {
	file string
	line int // of its first line, from 1
	text []byte
}

// split cuts a source at its markers: "---" begins a document, "..." ends one. It
// writes over them, and over directives ("%YAML 1.2"), so that no parser stops there.
func split(file string, data []byte) []document {
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))
	var all []document
	begin, first, line := 0, 1, 1
	blank := true // only comments and directives so far
	flush := func(end int) {
		if !blank {
			all = append(all, document{file, first, data[begin:end]})
		}
	}
	for at := 0; at < len(data); line++ {
		end := len(data)
		if i := bytes.IndexByte(data[at:], '\n'); i >= 0 {
			end = at + i + 1
		}
		text := data[at:end]
		switch {
		case marks(text, "---"):
			flush(at)
			copy(text, "   ")
			begin, first, blank = at, line, blankLine(text)
		case marks(text, "..."):
			flush(at)
			begin, first, blank = end, line+1, true
		case blank && text[0] == '%':
			text[0] = '#'
		case blank && !blankLine(text):
			blank = false
		}
		at = end
	}
	flush(len(data))
	return all
}

// marks: the line is a marker, whatever stands behind it.
func marks(line []byte, marker string) bool {
	rest, ok := bytes.CutPrefix(line, []byte(marker))
	return ok && (len(rest) == 0 || bytes.IndexByte([]byte(" \t\r\n"), rest[0]) >= 0)
}

// blankLine: nothing is on the line, or a comment.
func blankLine(line []byte) bool {
	line = bytes.TrimSpace(line)
	return len(line) == 0 || line[0] == '#'
}

// begin is the line on which something stands first.
func (d document) begin() int {
	n := d.line
	for _, line := range bytes.Split(d.text, []byte("\n")) {
		if !blankLine(line) {
			break
		}
		n++
	}
	return n
}

// lineAt is the line of an offset.
func (d document) lineAt(offset int) int {
	return d.line + bytes.Count(d.text[:min(max(offset, 0), len(d.text))], []byte("\n"))
}
