package runner

import (
	"bytes"
	"fmt"
)

// MissingInterpreter says why the kernel does not find a program that is there, given the
// first bytes of its file: what it names to be executed with is missing. It is "" when the file
// names nothing.
func MissingInterpreter(head []byte) string {
	if bytes.HasPrefix(head, []byte("\x7fELF")) {
		return "the loader that it was linked for is not there; it was built for another C library, or for another machine"
	}
	line, ok := bytes.CutPrefix(head, []byte("#!"))
	if !ok {
		return ""
	}
	// As the kernel reads it: up to a blank, a NUL or the end of the line.
	line = bytes.TrimLeft(line, " \t")
	if i := bytes.IndexAny(line, " \t\n\x00"); i >= 0 {
		line = line[:i]
	}
	why := fmt.Sprintf("its interpreter %q is not there", line)
	if bytes.HasSuffix(line, []byte("\r")) {
		why += "; the script has the line ends of Windows (CRLF)"
	}
	return why
}
