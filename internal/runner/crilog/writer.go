// Package crilog writes and reads container logs in the CRI format, the one
// that a kubelet keeps under /var/log/pods:
//
//	2026-11-21T10:00:00.000000000Z stdout F a whole line
//	2026-11-21T10:00:00.000000000Z stderr P the beginning of a long line
//
// A line that is longer than 16 KiB, and a last one without a newline, is
// written in parts, tagged P; the newline is not part of what was said then.
//
// A log that grows is rotated: PATH becomes PATH.<time>.<end>, of which the
// newest few are kept; end is how long the whole log was by then. A reader sees
// the kept files as one log, follows across a rotation, and says what was removed
// before it came to it. The one writer and the readers are different processes and
// share nothing but the files.
package crilog

import (
	"bytes"
	"errors"
	"fmt"
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
	base  int64  // the bytes of the log in the files before, once one was rotated
	torn  []byte // the rest of a line of which the beginning is in the file
	out   []byte // what goes out in one write
	stamp stamper
	held  map[Stream][]byte // the beginning of a line whose end has not come
}

// LostError says that lines could not be written, and are lost. The next Write tries
// again.
type LostError struct {
	// Bytes is how much of what the container wrote is lost.
	Bytes int64
	Err   error
}

func (e *LostError) Error() string {
	return fmt.Sprintf("%d bytes of output are lost: %v", e.Bytes, e.Err)
}

func (e *LostError) Unwrap() error { return e.Err }

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
// of a line is held until its end comes. The error is a *LostError if lines are
// lost; another one if all is written, but the log could not be rotated. Either
// way the next Write tries again.
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
	var lost *LostError
	if len(w.torn) > 0 && errors.As(err, &lost) { // no reader will ever see that line
		lost.Bytes += int64(len(w.torn))
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

// flush writes the lines that are ready. Whatever fails, the file consists of whole
// lines: of one that did not fit, the rest is written before the next ones.
func (w *Writer) flush() error {
	if len(w.out) == 0 && len(w.torn) == 0 {
		return nil
	}
	lost := w.out
	err := w.mend()
	if err == nil {
		var n int
		n, err = w.file.Write(w.out)
		w.size += int64(n)
		lost = w.tear(w.out[:n], w.out[n:])
	}
	if err != nil {
		err = &LostError{Bytes: said(lost), Err: err}
	}
	if cap(w.out) > 4*MaxLine {
		w.out = nil
	}
	if err == nil && w.limits.Size > 0 && w.size >= w.limits.Size {
		return w.rotate()
	}
	return err
}

// mend writes the rest of a torn line.
func (w *Writer) mend() error {
	if len(w.torn) == 0 {
		return nil
	}
	n, err := w.file.Write(w.torn)
	w.size += int64(n)
	w.torn = w.torn[n:]
	return err
}

// tear keeps the rest of the line in the middle of which a write has ended, and
// returns the lines after it.
func (w *Writer) tear(written, rest []byte) (lost []byte) {
	if len(rest) == 0 || len(written) == 0 || written[len(written)-1] == '\n' {
		return rest
	}
	end := bytes.IndexByte(rest, '\n') + 1
	w.torn = append([]byte(nil), rest[:end]...)
	return rest[end:]
}

// rotate renames the file, opens a new one and removes the oldest beyond the
// limit. A reader that has the old one open reads it to its end. Where there is no
// room for a new file, the old one has its name back and goes on.
func (w *Writer) rotate() error {
	old, err := rotated(w.path)
	if err != nil {
		return err
	}
	w.base = max(w.base, ends(old))
	name := rotatedName(w.path, old, time.Now(), w.base+w.size)
	if err := os.Rename(w.path, name); err != nil {
		return err
	}
	full, size := w.file, w.size
	rmErr := removeOldest(old, len(old)+2-max(w.limits.Files, 2)) // which makes room, too
	if err := w.open(); err != nil {
		return errors.Join(err, rmErr, os.Rename(name, w.path))
	}
	w.base += size
	return errors.Join(rmErr, full.Close())
}

func removeOldest(files []rotatedFile, n int) (err error) {
	for _, f := range files[:max(n, 0)] {
		if rmErr := os.Remove(f.path); !errors.Is(rmErr, fs.ErrNotExist) {
			err = errors.Join(err, rmErr)
		}
	}
	return err
}
