package engine

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Holder tells which engine works on a data directory. On a full disk it may
// have been able to write nothing of it: the kernel still knows its PID.
type Holder struct {
	PID     int       `json:"pid"`
	Command string    `json:"command"`
	Since   time.Time `json:"since"`
	// Listen is where its API is; "" until it listens.
	Listen string `json:"listen,omitempty"`
}

// String names it to people.
func (h Holder) String() string {
	if h.Command == "" {
		return fmt.Sprintf("process %d", h.PID)
	}
	return fmt.Sprintf("process %d (%s)", h.PID, h.Command)
}

// InUseError says that another engine works on the data directory.
type InUseError struct {
	Dir    string
	Holder Holder
}

func (e *InUseError) Error() string {
	if e.Holder.Command == "" {
		who := "a process that could not write down who it is"
		if e.Holder.PID > 0 {
			who = e.Holder.String()
		}
		return fmt.Sprintf("the data directory %s is in use by %s; stop it with `sampan stop --data-dir %s`", e.Dir, who, e.Dir)
	}
	return fmt.Sprintf("the data directory %s is in use by %q, process %d, since %s; stop it with `sampan stop --data-dir %s`",
		e.Dir, e.Holder.Command, e.Holder.PID, e.Holder.Since.Local().Format(time.DateTime), e.Dir)
}

// dirLock is the lock of a data directory. The kernel releases it when the
// process ends, however it ends.
//
// The lock is the kernel's. What the file says is for people, and on a full disk
// may be missing; what it says is true, or nothing. It is written over, never
// cut and written again: the block that it had is there on a full disk too.
type dirLock struct {
	file   *os.File
	holder Holder
}

func lockPath(dir string) string { return filepath.Join(dir, "lock") }

// lockDir takes the lock of dir, or returns an *InUseError.
func lockDir(dir, command string) (*dirLock, error) {
	f, err := os.OpenFile(lockPath(dir), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	return holdFile(f, dir, command)
}

// lockToStop is lockDir for who ends what runs and starts nothing: it needs nothing
// written. Where there is no lock and none can be made, nobody can take it either.
func lockToStop(dir, command string) (*dirLock, error) {
	l, err := lockDir(dir, command)
	if !unwritable(err) {
		return l, err
	}
	f, err := os.Open(lockPath(dir))
	if errors.Is(err, os.ErrNotExist) {
		return &dirLock{}, nil
	}
	if err != nil {
		return nil, err
	}
	return holdFile(f, dir, command)
}

// unwritable: the file system, or the modes on it, forbid it.
func unwritable(err error) bool {
	return errors.Is(err, unix.EROFS) || errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM)
}

// holdFile takes the lock of f, which is dir's.
func holdFile(f *os.File, dir, command string) (*dirLock, error) {
	err := flockUnlessHeld(f)
	if errors.Is(err, unix.EWOULDBLOCK) {
		defer f.Close()
		return nil, &InUseError{Dir: dir, Holder: readHolder(f)}
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", f.Name(), err)
	}
	l := &dirLock{file: f, holder: Holder{PID: os.Getpid(), Command: command, Since: time.Now().Truncate(time.Second)}}
	l.write()
	return l, nil
}

// listening adds where the API is to what others can read.
func (l *dirLock) listening(addr string) {
	l.holder.Listen = addr
	l.write()
}

func (l *dirLock) write() {
	if data, err := json.Marshal(l.holder); err == nil {
		l.say(data)
	}
}

// holderSize is how long the file is: longer than any Holder, shorter than a
// block.
const holderSize = 512

// say replaces what the file says. If that is not possible, it says nothing.
func (l *dirLock) say(text []byte) {
	text = append(text, bytes.Repeat([]byte{' '}, max(0, holderSize-len(text)))...)
	if _, err := l.file.WriteAt(text, 0); err != nil {
		_ = l.file.Truncate(0) // what it said before is not true any more
	}
}

// release gives the directory free. Closing the file would not always do: a child
// that has been forked and has not executed its program yet has it open, too.
func (l *dirLock) release() {
	if l.file == nil {
		return
	}
	l.say(nil)
	_ = unix.Flock(int(l.file.Fd()), unix.LOCK_UN)
	l.file.Close()
}

// lockWait is how long to try for a lock that nobody holds who is alive. A process
// that an engine had just forked when it was killed has a copy of the lock until
// it executes its program, and whoever looks for the holder has it for a moment.
const lockWait = 2 * time.Second

// flockUnlessHeld takes the lock of f; EWOULDBLOCK: somebody has it.
func flockUnlessHeld(f *os.File) error {
	for end := time.Now().Add(lockWait); ; time.Sleep(5 * time.Millisecond) {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if !errors.Is(err, unix.EWOULDBLOCK) || time.Now().After(end) {
			return err
		}
		if h := readHolder(f); h.PID > 0 && !errors.Is(unix.Kill(h.PID, 0), unix.ESRCH) {
			return err
		}
	}
}

// holderOf returns who works on dir; ok is false when nobody does.
func holderOf(dir string) (h Holder, ok bool, err error) {
	f, err := os.Open(lockPath(dir))
	if errors.Is(err, os.ErrNotExist) {
		return h, false, nil
	}
	if err != nil {
		return h, false, err
	}
	defer f.Close()
	if unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB) == nil {
		return h, false, nil
	}
	return readHolder(f), true, nil
}

// readHolder returns who holds the lock of f. The kernel's word comes first: the
// file may say nothing, or what a former holder could not take back.
func readHolder(f *os.File) Holder {
	var h Holder
	if data, err := io.ReadAll(io.NewSectionReader(f, 0, 4096)); err == nil {
		_ = json.Unmarshal(data, &h) // half written: the holder is just starting
	}
	locks, _ := os.ReadFile("/proc/locks")
	if pid := flockHolder(string(locks), f); pid > 0 && pid != h.PID {
		h = Holder{PID: pid}
	}
	return h
}

// flockHolder finds the process that has the lock of f among locks, the text of
// /proc/locks; 0 if it is not there, as on file systems whose device the kernel
// calls by another number.
func flockHolder(locks string, f *os.File) int {
	var st unix.Stat_t
	if unix.Fstat(int(f.Fd()), &st) != nil {
		return 0
	}
	file := fmt.Sprintf("%02x:%02x:%d", unix.Major(st.Dev), unix.Minor(st.Dev), st.Ino)
	for line := range strings.Lines(locks) {
		// 1: FLOCK  ADVISORY  WRITE 4711 08:01:131085 0 EOF
		fields := strings.Fields(line)
		if len(fields) < 6 || fields[1] != "FLOCK" || fields[3] != "WRITE" || fields[5] != file {
			continue // one that waits has "->" before FLOCK
		}
		if pid, err := strconv.Atoi(fields[4]); err == nil {
			return pid
		}
	}
	return 0
}
