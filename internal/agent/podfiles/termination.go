package podfiles

import (
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// MaxTerminationLog is how long the file of a termination message may get. What is
// reported of one is far less.
const MaxTerminationLog = 64 << 10

// TerminationDir is where termination messages are.
func (f *Files) TerminationDir() string { return f.termination }

// TerminationLog is the file in which the container that the runner knows by id
// leaves its last words.
func (f *Files) TerminationLog(id string) string { return filepath.Join(f.termination, id) }

// MakeTerminationLog makes the file. A sandbox shows it inside the container, so that
// it must exist.
func (f *Files) MakeTerminationLog(id string) error {
	const flags = unix.O_CREAT | unix.O_WRONLY | unix.O_TRUNC | unix.O_CLOEXEC
	path := f.TerminationLog(id)
	fd, err := unix.Open(path, flags, 0o666)
	if err != nil {
		return &os.PathError{Op: "create", Path: path, Err: err}
	}
	defer unix.Close(fd)
	return unix.Fchmod(fd, 0o666) // whoever the container runs as; the umask does not count
}

// RemoveTerminationLog removes the file.
func (f *Files) RemoveTerminationLog(id string) { f.remove(f.TerminationLog(id)) }

// TakeTerminationLog returns the first limit bytes of what is in the file, and
// removes it.
func (f *Files) TakeTerminationLog(id string, limit int64) string {
	path := f.TerminationLog(id)
	var st unix.Stat_t
	if unix.Stat(path, &st) != nil {
		return ""
	}
	defer f.remove(path)
	if st.Size == 0 {
		return ""
	}
	file, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer file.Close()
	data, _ := io.ReadAll(io.LimitReader(file, limit))
	return string(data)
}
