package cli

import (
	"bytes"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/sampan-batch/sampan/internal/explain"
)

// What containers write, and what manifests of others say, is text to this
// program and must not be more to the terminal that shows it: no moving cursor,
// no title, no answer typed on the user's behalf, no letters in another order
// than they are read. Three forms:
//
//   - plain, for everything that is one line of ours: names, messages, cells;
//   - plainLines, for errors, which may have several;
//   - logLine, for a line of a container on a terminal, which may have colours.
//
// Where the log does not go to a terminal it is left as the container wrote it.

// plain makes every control character visible as an escape.
func plain(s string) string { return escape(s, "") }

// plainLines is plain for text of several lines, with tabs.
func plainLines(s string) string { return escape(s, "\n\t") }

// escape shows what controls a terminal, but for the characters of keep.
func escape(s, keep string) string {
	if harmless(s) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && n == 1:
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case !controls(r) || strings.ContainsRune(keep, r):
			b.WriteString(s[i : i+n])
		default:
			writeEscape(&b, r)
		}
		i += n
	}
	return b.String()
}

// harmless is the common case.
func harmless(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] >= 0x7f {
			return false
		}
	}
	return true
}

// controls: a terminal does something else with it than to show a character, or
// to compose one.
func controls(r rune) bool {
	switch {
	case r < 0x20, 0x7f <= r && r < 0xa0: // C0, delete, C1
	case 0x202a <= r && r <= 0x202e, 0x2066 <= r && r <= 0x2069: // overrides and isolates
	case r == 0x200e, r == 0x200f, r == 0x061c: // marks of direction
	case r == 0x2028, r == 0x2029: // line and paragraph separators
	default:
		return false
	}
	return true
}

func writeEscape(b *strings.Builder, r rune) {
	switch r {
	case '\n':
		b.WriteString(`\n`)
	case '\r':
		b.WriteString(`\r`)
	case '\t':
		b.WriteString(`\t`)
	default:
		if r < 0x80 {
			fmt.Fprintf(b, `\x%02x`, r)
		} else {
			fmt.Fprintf(b, `\u%04x`, r)
		}
	}
}

const resetColor = "\x1b[0m"

// logLine is a container's line, without its newline, as a terminal may have it:
// with tabs and, if color says so, colours, which end with the line. Of a line
// that was written over, as progress bars are, it is what was written last.
// Other sequences are dropped where they are complete, and shown where not.
func logLine(line string, color bool) string {
	line = strings.TrimRight(line, "\r")
	line = line[strings.LastIndexByte(line, '\r')+1:]
	if harmless(line) {
		return line
	}
	var b strings.Builder
	colored := false
	for i := 0; i < len(line); {
		if n, sgr := sequence(line[i:]); n > 0 {
			if sgr && color {
				b.WriteString(line[i : i+n])
				colored = true
			}
			i += n
			continue
		}
		_, n := utf8.DecodeRuneInString(line[i:])
		b.WriteString(escape(line[i:i+n], "\t"))
		i += n
	}
	if colored {
		b.WriteString(resetColor)
	}
	return b.String()
}

// longestColor is the longest sequence that is taken for a colour.
const longestColor = 64

// sequence returns the length of the control sequence that s begins with, 0 if
// it does not, and whether it only selects colours (SGR).
func sequence(s string) (n int, sgr bool) {
	switch {
	case strings.HasPrefix(s, "\x1b["): // CSI: parameters, intermediates, a final
		i := 2
		for i < len(s) && 0x30 <= s[i] && s[i] <= 0x3f {
			i++
		}
		parameters := s[2:i]
		for i < len(s) && 0x20 <= s[i] && s[i] <= 0x2f {
			i++
		}
		if i == len(s) || s[i] < 0x40 || s[i] > 0x7e {
			return 0, false
		}
		plain := 2+len(parameters) == i && strings.Trim(parameters, "0123456789;:") == ""
		return i + 1, s[i] == 'm' && plain && i < longestColor
	case strings.HasPrefix(s, "\x1b]"): // OSC: up to BEL or ST
		for i := 2; i < len(s); i++ {
			switch {
			case s[i] == '\a':
				return i + 1, false
			case strings.HasPrefix(s[i:], "\x1b\\"):
				return i + 2, false
			case s[i] == 0x1b:
				return 0, false
			}
		}
	}
	return 0, false
}

// plainAnswer is an answer for people.
func plainAnswer(a explain.Answer) explain.Answer {
	lines := func(all []string) []string {
		clean := make([]string, len(all))
		for i, line := range all {
			clean[i] = plain(line)
		}
		return clean
	}
	a.Kind, a.Namespace, a.Name, a.Summary = plain(a.Kind), plain(a.Namespace), plain(a.Name), plain(a.Summary)
	a.Why, a.SoFar, a.Next = lines(a.Why), lines(a.SoFar), lines(a.Next)
	return a
}

// escapeJSON writes what controls a terminal, and JSON allows in strings, as
// JSON's own escapes: the value stays the same. So it does with what the runner of a
// GitHub workflow takes for a command wherever it stands.
func escapeJSON(text []byte) []byte {
	text = bytes.ReplaceAll(text, []byte("##["), []byte(`##\u005b`))
	if !bytes.ContainsFunc(text, controlsInJSON) {
		return text
	}
	var b bytes.Buffer
	for _, r := range string(text) {
		if controlsInJSON(r) {
			fmt.Fprintf(&b, `\u%04x`, r)
		} else {
			b.WriteRune(r)
		}
	}
	return b.Bytes()
}

// controlsInJSON: the encoder has taken care of C0; newlines are its own.
func controlsInJSON(r rune) bool { return r >= 0x7f && controls(r) }
