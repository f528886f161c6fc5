package doctor

import (
	"bufio"
	"encoding/json"
	"errors"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// seen is what a container sees of itself.
type seen struct {
	// Root, Proc and Sys are the types of the file systems that are mounted there.
	Root, Proc, Sys string
	// Unwritable is why nothing can be written to the root, "" if it can.
	Unwritable string
	// Lacks are devices that do not work, and why.
	Lacks []string
	// Seccomp is the mode of the process: 2 is a filter.
	Seccomp string
	// IDs is how many user ids there are in the container.
	IDs uint64
}

// Inside is what a container does that is run to see what it sees: it says so in its
// termination message.
func Inside() error {
	to := os.Getenv("SAMPAN_TERMINATION_LOG") // class host
	if to == "" {
		to = "/dev/termination-log"
	}
	data, err := json.Marshal(look())
	if err != nil {
		return err
	}
	f, err := os.OpenFile(to, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Close())
}

func look() seen {
	types := mountTypes("/proc/self/mountinfo")
	s := seen{Root: types["/"], Proc: types["/proc"], Sys: types["/sys"], IDs: ids("/proc/self/uid_map"), Seccomp: field("/proc/self/status", "Seccomp:")}
	if err := tryWrite("/sampan-was-here"); err != nil {
		s.Unwritable = err.Error()
	}
	for _, device := range []string{"/dev/null", "/dev/zero", "/dev/urandom", "/dev/ptmx"} {
		if err := tryDevice(device); err != nil {
			s.Lacks = append(s.Lacks, err.Error())
		}
	}
	return s
}

// tryWrite writes a file and removes it.
func tryWrite(path string) error {
	if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
		return err
	}
	return os.Remove(path)
}

// tryDevice opens a device, which has to be one.
func tryDevice(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err == nil && info.Mode()&os.ModeCharDevice == 0 {
		err = errors.New(path + " is no device")
	}
	return err
}

// mountTypes returns the types of what is mounted, by place; see
// proc_pid_mountinfo(5).
func mountTypes(path string) map[string]string {
	types := map[string]string{}
	f, err := os.Open(path)
	if err != nil {
		return types
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		left, right, found := strings.Cut(lines.Text(), " - ")
		l, r := strings.Fields(left), strings.Fields(right)
		if found && len(l) > 4 && len(r) > 0 {
			types[l[4]] = r[0]
		}
	}
	return types
}

// ids counts the ids of a user namespace.
func ids(path string) (n uint64) {
	text, _ := os.ReadFile(path)
	for line := range strings.Lines(string(text)) {
		if fields := strings.Fields(line); len(fields) == 3 {
			count, _ := strconv.ParseUint(fields[2], 10, 64)
			n += count
		}
	}
	return n
}

// field returns what follows a word at the beginning of a line, "" if no line has it.
func field(path, word string) string {
	text, _ := os.ReadFile(path)
	for line := range strings.Lines(string(text)) {
		if rest, found := strings.CutPrefix(line, word); found {
			return strings.TrimSpace(rest)
		}
	}
	return ""
}
