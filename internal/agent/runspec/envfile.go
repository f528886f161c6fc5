package runspec

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// fromFile returns the variable that a file in a volume of the pod assigns, which an init
// container has written there. An empty one counts as absent, as with a kubelet.
func fromFile(in *Input, ref *corev1.FileKeySelector) (value string, ok bool, err error) {
	data, err := in.ReadFile(ref.VolumeName, ref.Path)
	if errors.Is(err, fs.ErrNotExist) && isTrue(ref.Optional) {
		return "", false, nil
	}
	if err == nil {
		value, err = assigned(string(data), ref.Key)
	}
	switch {
	case err != nil:
		return "", false, fmt.Errorf("couldn't parse env file %q of volume %q: %w", ref.Path, ref.VolumeName, err)
	case value == "" && !isTrue(ref.Optional):
		return "", false, fmt.Errorf("environment variable key %q not found in file %q of volume %q", ref.Key, ref.Path, ref.VolumeName)
	}
	return value, value != "", nil
}

// assigned returns what a text assigns to a variable, "" if nothing. It is a small part of what a
// POSIX shell reads: each value is in single quotes, which may go over several lines, and means
// what it says. Lines behind the assignment are not looked at.
func assigned(text, key string) (string, error) {
	wrong := func(line int, format string, args ...any) (string, error) {
		return "", fmt.Errorf("invalid environment variable format at line %d: %s", line, fmt.Sprintf(format, args...))
	}
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	for i := 0; i < len(lines); i++ {
		line, at := strings.TrimLeft(lineOf(lines[i]), " \t"), i+1
		if line == "" || line[0] == '#' {
			continue
		}
		name, rest, found := strings.Cut(line, "=")
		switch bare := strings.TrimRight(name, " \t"); {
		case !found:
			return wrong(at, "missing '='")
		case bare == "":
			return wrong(at, "empty variable name")
		case bare != name:
			return wrong(at, "whitespace before '=' is not allowed")
		case rest != strings.TrimLeft(rest, " \t"): // a shell assigns nothing
			if name == key {
				return "", nil
			}
			continue
		case !strings.HasPrefix(rest, "'"):
			return wrong(at, "value must be enclosed in single quotes")
		}
		value, rest, closed := strings.Cut(rest[1:], "'")
		for ; !closed; i++ {
			if i+1 == len(lines) {
				return wrong(at, "unclosed single quote")
			}
			var more string
			more, rest, closed = strings.Cut(lineOf(lines[i+1]), "'")
			value += "\n" + more
		}
		if rest = strings.TrimLeft(rest, " \t"); rest != "" && rest[0] != '#' {
			return wrong(i+1, "unexpected content after closing quote")
		}
		if name == key {
			return value, nil
		}
	}
	return "", nil
}

// lineOf is a line without what Windows ends it with.
func lineOf(line string) string { return strings.TrimSuffix(line, "\r") }
