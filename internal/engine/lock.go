package engine

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// Holder tells which engine works on a data directory.
type Holder struct {
	PID     int       `json:"pid"`
	Command string    `json:"command"`
	Since   time.Time `json:"since"`
	// Listen is where its API is; "" until it listens.
	Listen string `json:"listen,omitempty"`
}

// InUseError: another engine works on the data directory.
type InUseError struct {
	Dir    string
	Holder Holder
}

func (e *InUseError) Error() string {
	return fmt.Sprintf("the data directory %s is in use by %q, process %d, since %s; stop it with `sampan stop --data-dir %s`",
		e.Dir, e.Holder.Command, e.Holder.PID, e.Holder.Since.Local().Format(time.DateTime), e.Dir)
}

// dirLock is the lock of a data directory. The kernel releases it when the
// process ends, however it ends.
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
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		defer f.Close()
		return nil, &InUseError{Dir: dir, Holder: readHolder(f)}
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", f.Name(), err)
	}
	l := &dirLock{file: f, holder: Holder{PID: os.Getpid(), Command: command, Since: time.Now().Truncate(time.Second)}}
	return l, l.write()
}

// listening adds where the API is to what others can read.
func (l *dirLock) listening(addr string) error {
	l.holder.Listen = addr
	return l.write()
}

func (l *dirLock) write() error {
	data, err := json.Marshal(l.holder)
	if err != nil {
		return err
	}
	if err := l.file.Truncate(0); err != nil {
		return err
	}
	_, err = l.file.WriteAt(data, 0)
	return err
}

func (l *dirLock) release() {
	l.file.Truncate(0)
	l.file.Close()
}

// holderOf returns who works on dir; ok is false when nobody does.
func holderOf(dir string) (h Holder, ok bool, err error) {
	f, err := os.OpenFile(lockPath(dir), os.O_RDWR, 0)
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

func readHolder(f *os.File) Holder {
	var h Holder
	if data, err := io.ReadAll(io.NewSectionReader(f, 0, 4096)); err == nil {
		_ = json.Unmarshal(data, &h) // half written: the holder is just starting
	}
	return h
}
