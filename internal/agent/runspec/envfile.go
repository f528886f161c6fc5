package runspec

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// maxEnvFiles is how many bytes the files may have together that the variables of one
// container are read from. Each has runner.MaxVolumeFile at the most, but a manifest can
// name thousands of them.
const maxEnvFiles = 8 << 20

// envFiles are the files in volumes of a pod that variables of one container come from. Each is
// read and parsed once, however many variables it has, for the variables that are wanted.
type envFiles struct {
	in     *Input
	bytes  int // of all that were read
	files  map[envFile]*assignments
	wanted map[envFile]map[string]bool
}

// envFile is a file in a volume.
type envFile struct{ volume, path string }

func envFileOf(ref *corev1.FileKeySelector) envFile {
	return envFile{ref.VolumeName, path.Clean(ref.Path)}
}

// variable returns the variable that a file assigns, which an init container has written there.
// An empty one counts as absent, as with a kubelet.
func (e *envFiles) variable(ref *corev1.FileKeySelector) (value string, ok bool, err error) {
	file, err := e.file(envFileOf(ref))
	if errors.Is(err, fs.ErrNotExist) && isTrue(ref.Optional) {
		return "", false, nil
	}
	if err == nil {
		value, err = file.of(ref.Key)
	}
	switch {
	case err != nil:
		return "", false, fmt.Errorf("couldn't parse env file %q of volume %q: %w", ref.Path, ref.VolumeName, err)
	case value == "" && !isTrue(ref.Optional):
		return "", false, fmt.Errorf("environment variable key %q not found in file %q of volume %q", ref.Key, ref.Path, ref.VolumeName)
	}
	return value, value != "", nil
}

// file returns what a file assigns.
func (e *envFiles) file(f envFile) (*assignments, error) {
	if known := e.files[f]; known != nil {
		return known, nil
	}
	data, err := e.in.ReadFile(f.volume, f.path)
	if err != nil {
		return nil, err
	}
	if e.bytes += len(data); e.bytes > maxEnvFiles {
		return nil, fmt.Errorf("the files that variables are read from have more than %d MiB together", maxEnvFiles>>20)
	}
	if e.files == nil {
		e.files, e.wanted = map[envFile]*assignments{}, wanted(e.in.Container)
	}
	e.files[f] = parse(string(data), e.wanted[f])
	return e.files[f], nil
}

// wanted are the variables that a container takes from files.
func wanted(c *corev1.Container) map[envFile]map[string]bool {
	keys := map[envFile]map[string]bool{}
	for i := range c.Env {
		from := c.Env[i].ValueFrom
		if from == nil || from.FileKeyRef == nil {
			continue
		}
		f := envFileOf(from.FileKeyRef)
		if keys[f] == nil {
			keys[f] = map[string]bool{}
		}
		keys[f][from.FileKeyRef.Key] = true
	}
	return keys
}

// assignments are what a text assigns first to each of the variables that were wanted, until
// err, which is what is wrong behind the last of them.
type assignments struct {
	values map[string]string
	err    error
}

// of returns the value of a variable, "" if it has none. What is wrong behind it does not matter.
func (a *assignments) of(key string) (string, error) {
	if value, found := a.values[key]; found {
		return value, nil
	}
	return "", a.err
}

// parse reads a text until it has all that are wanted. It is a small part of what a POSIX shell
// reads: each value is in single quotes, which may go over several lines, and means what it says.
// (A kubelet reads the file for each variable anew, until that one: pkg/kubelet/util/env. No line
// may be longer than bufio.MaxScanTokenSize there, either.)
func parse(text string, wanted map[string]bool) *assignments {
	a := &assignments{values: map[string]string{}}
	lines := &envLines{Scanner: bufio.NewScanner(strings.NewReader(text))}
	for len(a.values) < len(wanted) && lines.Scan() {
		line := strings.TrimLeft(lines.Text(), " \t")
		if line == "" || line[0] == '#' {
			continue
		}
		var name, value string
		if name, value, a.err = lines.assignment(line); a.err != nil {
			return a
		}
		if _, known := a.values[name]; wanted[name] && !known {
			a.values[name] = value
		}
	}
	if err := lines.Err(); err != nil {
		a.err = fmt.Errorf("error reading environment variable file: %w", err)
	}
	return a
}

// envLines are the lines of a text.
type envLines struct {
	*bufio.Scanner
	number int
}

// Scan goes to the next line.
func (l *envLines) Scan() bool {
	l.number++
	return l.Scanner.Scan()
}

func (l *envLines) wrong(what string) (name, value string, err error) {
	return "", "", fmt.Errorf("invalid environment variable format at line %d: %s", l.number, what)
}

// assignment reads what begins with a line.
func (l *envLines) assignment(line string) (name, value string, err error) {
	name, rest, found := strings.Cut(line, "=")
	switch bare := strings.TrimRight(name, " \t"); {
	case !found:
		return l.wrong("missing '='")
	case bare == "":
		return l.wrong("empty variable name")
	case bare != name:
		return l.wrong("whitespace before '=' is not allowed")
	case rest != strings.TrimLeft(rest, " \t"): // a shell assigns nothing
		return name, "", nil
	case !strings.HasPrefix(rest, "'"):
		return l.wrong("value must be enclosed in single quotes")
	}
	start, whole := l.number, strings.Builder{}
	value, rest, closed := strings.Cut(rest[1:], "'")
	for whole.WriteString(value); !closed; whole.WriteString(value) {
		if !l.Scan() {
			return "", "", fmt.Errorf("invalid environment variable format starting at line %d: unclosed single quote", start)
		}
		whole.WriteByte('\n')
		value, rest, closed = strings.Cut(l.Text(), "'")
	}
	if rest = strings.TrimLeft(rest, " \t"); rest != "" && rest[0] != '#' {
		return l.wrong("unexpected content after closing quote")
	}
	return name, whole.String(), nil
}
