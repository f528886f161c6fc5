package runspec

import (
	"strings"

	"github.com/sampan-batch/sampan/internal/runner"
)

// What Linux starts a program with: a string, its end included, has 128 KiB at the
// most, and all arguments and variables together have 6 MiB. A few lines of a manifest
// can ask for any multiple of that, as a variable may refer to others many times, and
// those to others: whoever puts them together stops there.
const (
	maxString  = 128<<10 - 1
	maxStrings = 6 << 20
)

// errTooLong is what execve says, in runc's words.
func errTooLong(what string) error {
	return &runner.StartError{Reason: "StartError", Code: 128, Message: what + ": argument list too long"}
}

// Expand replaces each reference $(NAME) in s by what lookup returns for NAME.
// A reference to a name that lookup does not know stays as it is; "$$" stands
// for "$", so that "$$(NAME)" is not a reference. What becomes longer than any
// program can be told of is cut off behind that: the kernel refuses it either way.
func Expand(s string, lookup func(name string) (string, bool)) string {
	if !strings.Contains(s, "$") {
		return s
	}
	var b strings.Builder
	for {
		if b.Len() > maxString {
			return b.String()
		}
		i := strings.IndexByte(s, '$')
		if i < 0 || i == len(s)-1 {
			b.WriteString(s)
			return b.String()
		}
		b.WriteString(s[:i])
		s = s[i:]
		switch s[1] {
		case '$':
			b.WriteByte('$')
			s = s[2:]
		case '(':
			end := strings.IndexByte(s, ')')
			if end < 0 {
				// Not closed: the operator is plain text, what follows is looked at.
				b.WriteString(s[:2])
				s = s[2:]
				continue
			}
			if value, ok := lookup(s[2:end]); ok {
				b.WriteString(value)
			} else {
				b.WriteString(s[:end+1])
			}
			s = s[end+1:]
		default:
			b.WriteString(s[:2])
			s = s[2:]
		}
	}
}
