package crilog

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"time"
)

// Options say what to read of a log, as v1.PodLogOptions does.
type Options struct {
	// Tail is how many lines to begin before the end, nil: all. As in a kubelet,
	// each part of a long line counts.
	Tail *int64
	// Since leaves out what was written before.
	Since time.Time
	// LimitBytes ends the output after as many bytes, nil: none.
	LimitBytes *int64
	// Timestamps puts the time in front of each line.
	Timestamps bool
	// Stream is the one to read, "": both.
	Stream Stream
	// Follow goes on with what is written from now on, until Ended is closed
	// and all is read.
	Follow bool
	// Ended tells when nobody writes any more; nil: never.
	Ended <-chan struct{}
}

// Read writes a log to w, the rotated files that are kept first, until its end
// or, if it follows, until the container's. A log that does not exist is an
// error, fs.ErrNotExist.
func Read(ctx context.Context, path string, opts Options, w io.Writer) error {
	r := &reader{path: path, opts: opts, out: printer{w: bufio.NewWriter(w), opts: opts, lineStart: true}}
	defer r.close()
	if err := r.begin(); err != nil {
		return err
	}
	var err error
	if opts.Follow {
		err = r.follow(ctx)
	} else {
		err = r.readAll(ctx)
	}
	if errors.Is(err, errLimit) {
		err = nil
	}
	return errors.Join(err, r.out.w.Flush())
}

// errLimit: as much has been written as was asked for.
var errLimit = errors.New("crilog: limit reached")

// reader is at a place in one of the files.
type reader struct {
	path string
	opts Options
	out  printer

	file  *os.File
	in    *bufio.Reader
	part  []byte // of a line that is not whole yet
	lines int64  // still to be read, when bounded
	// between: the file was renamed, and there is no new one yet.
	between bool
}

func (r *reader) close() {
	if r.file != nil {
		r.file.Close()
	}
}

// begin opens the file to begin with, at the place to begin at.
func (r *reader) begin() error {
	paths, err := Rotated(r.path)
	if err != nil {
		return err
	}
	paths = append(paths, r.path)
	first, offset := 0, int64(0)
	r.lines = -1
	if r.opts.Tail != nil {
		if first, offset, err = findTail(paths, max(*r.opts.Tail, 0)); err != nil {
			return err
		}
		if !r.opts.Follow {
			r.lines = max(*r.opts.Tail, 0)
		}
	}
	// The last write to a file is not older than its last line.
	for ; first < len(paths)-1 && !r.opts.Since.IsZero(); first, offset = first+1, 0 {
		info, err := os.Stat(paths[first])
		if err == nil && !info.ModTime().Before(r.opts.Since) {
			break
		}
	}
	if first < len(paths)-1 {
		err = r.open(paths[first], offset)
	} else {
		err = r.openNewest(paths[:first], offset)
	}
	if errors.Is(err, errRotated) || errors.Is(err, fs.ErrNotExist) && first < len(paths)-1 {
		return r.begin() // the files are others by now
	}
	if errors.Is(err, fs.ErrNotExist) && first > 0 { // between two files
		err = r.open(paths[first-1], 0)
	}
	return err
}

// errRotated: the log was rotated at this moment.
var errRotated = errors.New("crilog: rotated meanwhile")

// openNewest opens the file that is written to, the successor of the rotated
// ones; it is errRotated when there is another one in between by now.
func (r *reader) openNewest(rotated []string, offset int64) error {
	f, err := openAt(r.path, offset)
	if now, listErr := Rotated(r.path); err == nil {
		err = listErr
		if len(now) > 0 && (len(rotated) == 0 || now[len(now)-1] != rotated[len(rotated)-1]) {
			err = errRotated
		}
		if err != nil {
			f.Close()
		}
	}
	return r.use(f, err)
}

func (r *reader) open(path string, offset int64) error { return r.use(openAt(path, offset)) }

func openAt(path string, offset int64) (*os.File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	if _, err := f.Seek(offset, io.SeekStart); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// use goes on with another file, unless there was an error.
func (r *reader) use(f *os.File, err error) error {
	if err != nil {
		return err
	}
	r.close()
	r.file, r.in, r.part = f, bufio.NewReaderSize(f, 32<<10), r.part[:0]
	return nil
}

// readAll reads to the end of the newest file.
func (r *reader) readAll(ctx context.Context) error {
	for {
		if err := r.drain(ctx); err != nil {
			return err
		}
		if moved, err := r.advance(ctx); err != nil || !moved {
			return err
		}
	}
}

// follow reads what is there, then what comes.
func (r *reader) follow(ctx context.Context) error {
	watch := newWatcher()
	defer watch.close()
	for {
		watch.file(r.file)
		ended := isClosed(r.opts.Ended) // asked before reading: what is read then is all
		if err := r.readAll(ctx); err != nil {
			return err
		}
		if ended {
			return nil
		}
		if err := r.out.w.Flush(); err != nil {
			return err
		}
		if !watch.watches(r.file) {
			continue
		}
		var soon <-chan time.Time
		if r.between {
			soon = time.After(betweenPause)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-r.opts.Ended:
		case <-watch.changed:
		case <-soon:
		}
	}
}

// betweenPause is how long a rotation is given to make the new file.
const betweenPause = 20 * time.Millisecond

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// drain reads the whole lines up to the end of the file.
func (r *reader) drain(ctx context.Context) error {
	for ctx.Err() == nil {
		text, err := r.in.ReadSlice('\n')
		if err != nil {
			r.part = append(r.part, text...)
			switch {
			case errors.Is(err, bufio.ErrBufferFull):
				continue
			case err == io.EOF:
				return nil
			}
			return err
		}
		if len(r.part) > 0 {
			r.part = append(r.part, text...)
			text = r.part
		}
		if r.lines == 0 {
			return errLimit
		}
		if r.lines > 0 {
			r.lines--
		}
		if err := r.out.print(text[:len(text)-1]); err != nil {
			return err
		}
		r.part = r.part[:0]
	}
	return context.Cause(ctx)
}

// advance goes on to the next file when the log was rotated. Nothing is written
// to a file after it was renamed, so it is read to its end once more.
func (r *reader) advance(ctx context.Context) (moved bool, err error) {
	mine, err := r.file.Stat()
	if err != nil {
		return false, err
	}
	newest, err := os.Stat(r.path)
	if err == nil && os.SameFile(mine, newest) {
		return false, nil
	}
	if err := r.drain(ctx); err != nil {
		return false, err
	}
	err = r.openAfter(mine)
	if errors.Is(err, errRotated) {
		return true, nil // to the same file, at its end; it is looked for again
	}
	if r.between = errors.Is(err, fs.ErrNotExist); r.between {
		return false, nil
	}
	return err == nil, err
}

// openAfter opens the file that follows a rotated one; the oldest, if that one
// is gone.
func (r *reader) openAfter(mine os.FileInfo) error {
	rotated, err := Rotated(r.path)
	if err != nil {
		return err
	}
	next := 0
	for i, path := range rotated {
		if info, err := os.Stat(path); err == nil && os.SameFile(mine, info) {
			next = i + 1
		}
	}
	if next == len(rotated) {
		return r.openNewest(rotated, 0)
	}
	if err = r.open(rotated[next], 0); errors.Is(err, fs.ErrNotExist) {
		return errRotated
	}
	return err
}

// findTail finds where the last n lines of a sequence of files begin.
func findTail(paths []string, n int64) (file int, offset int64, err error) {
	for file = len(paths) - 1; ; file-- {
		var found int64
		offset, found, err = tailOffset(paths[file], n)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return 0, 0, err
		}
		if n -= found; n == 0 || file == 0 {
			return file, offset, nil
		}
	}
}

// tailOffset finds where the last n lines of a file begin, and how many of
// them there are.
func tailOffset(path string, n int64) (offset, found int64, err error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, 0, err
	}
	defer f.Close()
	end, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return 0, 0, err
	}
	buf := make([]byte, 32<<10)
	// Going backwards, the newline before the n last ones ends the line before.
	newlines := int64(0)
	last := end
	for end > 0 {
		start := max(end-int64(len(buf)), 0)
		block := buf[:end-start]
		if _, err := f.ReadAt(block, start); err != nil {
			return 0, 0, err
		}
		for i := len(block) - 1; i >= 0; i-- {
			if block[i] != '\n' {
				continue
			}
			if newlines == n {
				return start + int64(i) + 1, n, nil
			}
			newlines++
		}
		end = start
	}
	if n == 0 {
		return last, 0, nil
	}
	return 0, newlines, nil
}

// printer writes the lines that were asked for.
type printer struct {
	w         *bufio.Writer
	opts      Options
	lineStart bool
	written   int64
}

// print writes one line of the log, if it is one that was asked for. A line
// that is not in the format is skipped.
func (p *printer) print(line []byte) error {
	l, ok := parseLine(line)
	if !ok || p.opts.Stream != "" && p.opts.Stream != Stream(l.stream) {
		return nil
	}
	if !p.opts.Since.IsZero() {
		if t, err := time.Parse(time.RFC3339Nano, string(l.stamp)); err != nil || t.Before(p.opts.Since) {
			return nil
		}
	}
	if p.opts.Timestamps && p.lineStart {
		if err := p.write(l.stamp); err != nil {
			return err
		}
		if err := p.write([]byte{' '}); err != nil {
			return err
		}
	}
	p.lineStart = !l.partial
	if err := p.write(l.text); err != nil || l.partial {
		return err
	}
	return p.write([]byte{'\n'})
}

func (p *printer) write(b []byte) error {
	over := false
	if p.opts.LimitBytes != nil {
		if left := *p.opts.LimitBytes - p.written; int64(len(b)) > left {
			b, over = b[:max(left, 0)], true
		}
	}
	p.written += int64(len(b))
	if _, err := p.w.Write(b); err != nil {
		return err
	}
	if over {
		return errLimit
	}
	return nil
}

type logLine struct {
	stamp, stream, text []byte
	partial             bool
}

// parseLine takes a line apart: time, stream, tags (separated by colons, the
// first is F or P), text.
func parseLine(line []byte) (l logLine, ok bool) {
	var tags []byte
	if l.stamp, line, ok = bytes.Cut(line, []byte{' '}); !ok {
		return l, false
	}
	if l.stream, line, ok = bytes.Cut(line, []byte{' '}); !ok {
		return l, false
	}
	if s := Stream(l.stream); s != Stdout && s != Stderr {
		return l, false
	}
	if tags, l.text, ok = bytes.Cut(line, []byte{' '}); !ok {
		return l, false
	}
	tag, _, _ := bytes.Cut(tags, []byte{':'})
	l.partial = string(tag) == "P"
	return l, l.partial || string(tag) == "F"
}
