// Package crilog writes and reads container logs in the CRI format, the one
// that a kubelet keeps under /var/log/pods:
//
//	2026-11-21T10:00:00.000000000Z stdout F a whole line
//	2026-11-21T10:00:00.000000000Z stderr P the beginning of a long line
//
// A line that is longer than 16 KiB, and a last one without a newline, is
// written in parts, tagged P; the newline is not part of what was said then.
//
// A log that grows is rotated: PATH becomes PATH.<time>, of which the
// newest few are kept. A reader sees the kept files as one log and follows
// across a rotation. The one writer and the readers are different processes and
// share nothing but the files.
package crilog

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// MaxLine is the length of the longest line that is written in one part.
const MaxLine = 16 << 10

// Limits bound the size of one container's log.
type Limits struct {
	// Size is the size at which the file is rotated, 0: never. The file may
	// exceed it by what arrived in one read.
	Size int64
	// Files is how many files are kept, the current one included; at least 2
	// when Size is set.
	Files int
}

// DefaultLimits are the kubelet's (containerLogMaxSize, containerLogMaxFiles).
func DefaultLimits() Limits { return Limits{Size: 10 << 20, Files: 5} }

// Stream names a standard stream in the log.
type Stream string

const (
	Stdout Stream = "stdout"
	Stderr Stream = "stderr"
)

// Writer appends to one container's log. It is safe for concurrent use.
type Writer struct {
	path   string
	limits Limits

	mu    sync.Mutex
	file  *os.File
	size  int64
	out   []byte // what goes out in one write
	stamp stamper
	held  map[Stream][]byte // the beginning of a line whose end has not come
}

// Open opens the log at path for appending, and creates it, and its
// directory, if need be.
func Open(path string, limits Limits) (*Writer, error) {
	w := &Writer{path: path, limits: limits}
	if err := w.open(); err != nil {
		return nil, err
	}
	return w, nil
}

func (w *Writer) open() error {
	fd, err := openAppend(w.path)
	if err == unix.ENOENT {
		if err := os.MkdirAll(filepath.Dir(w.path), 0o755); err != nil {
			return err
		}
		fd, err = openAppend(w.path)
	}
	if err != nil {
		return &os.PathError{Op: "open", Path: w.path, Err: err}
	}
	w.file, w.size = os.NewFile(uintptr(fd), w.path), 0
	if end, err := w.file.Seek(0, io.SeekEnd); err == nil {
		w.size = end
	}
	return nil
}

// openAppend does not go through os.OpenFile, which tries to have the file
// polled; this is done for every container.
func openAppend(path string) (int, error) {
	for {
		fd, err := unix.Open(path, unix.O_WRONLY|unix.O_CREAT|unix.O_APPEND|unix.O_CLOEXEC, 0o640)
		if err != unix.EINTR {
			return fd, err
		}
	}
}

// Write appends what was read from a stream, at any boundary; the beginning
// of a line is held until its end comes. An error means that lines are lost; the
// next Write tries again.
func (w *Writer) Write(stream Stream, p []byte) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stamp.set(time.Now())
	w.out = w.out[:0]
	held := w.held[stream]
	for {
		i := bytes.IndexByte(p, '\n')
		line := p
		if i >= 0 {
			line = p[:i]
		}
		for len(held)+len(line) > MaxLine {
			n := MaxLine - len(held)
			w.appendLine(stream, 'P', held, line[:n])
			held, line = held[:0], line[n:]
		}
		if i < 0 {
			held = append(held, line...)
			break
		}
		w.appendLine(stream, 'F', held, line)
		held, p = held[:0], p[i+1:]
	}
	if held != nil {
		if w.held == nil {
			w.held = make(map[Stream][]byte, 2)
		}
		w.held[stream] = held
	}
	return w.flush()
}

// Close writes what is held and closes the file.
func (w *Writer) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.out = w.out[:0]
	w.stamp.set(time.Now())
	for _, stream := range []Stream{Stdout, Stderr} {
		if held := w.held[stream]; len(held) > 0 {
			w.appendLine(stream, 'P', held, nil)
		}
	}
	w.held = nil
	err := w.flush()
	if w.file == nil {
		return err
	}
	return errors.Join(err, w.file.Close())
}

func (w *Writer) appendLine(stream Stream, tag byte, a, b []byte) {
	w.out = append(w.out, w.stamp.text[:]...)
	w.out = append(w.out, ' ')
	w.out = append(w.out, stream...)
	w.out = append(w.out, ' ', tag, ' ')
	w.out = append(w.out, a...)
	w.out = append(w.out, b...)
	w.out = append(w.out, '\n')
}

func (w *Writer) flush() error {
	if len(w.out) == 0 {
		return nil
	}
	if w.file == nil { // a rotation failed half-way
		if err := w.open(); err != nil {
			return err
		}
	}
	n, err := w.file.Write(w.out)
	w.size += int64(n)
	if cap(w.out) > 4*MaxLine {
		w.out = nil
	}
	if err == nil && w.limits.Size > 0 && w.size >= w.limits.Size {
		return w.rotate()
	}
	return err
}

// rotate renames the file, opens a new one and removes the oldest beyond the
// limit. A reader that has the old one open reads it to its end.
func (w *Writer) rotate() error {
	old, err := Rotated(w.path)
	if err != nil {
		return err
	}
	name := w.path + "." + time.Now().UTC().Format(rotationTime)
	if len(old) > 0 && name <= old[len(old)-1] {
		name = old[len(old)-1] + "+" // the clock stood still or went back
	}
	if err := os.Rename(w.path, name); err != nil {
		return err
	}
	old = append(old, name)
	keep := max(w.limits.Files, 2) - 1
	for _, path := range old[:max(len(old)-keep, 0)] {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	err = w.file.Close()
	w.file = nil
	return errors.Join(err, w.open())
}
