package crilog

import (
	"bufio"
	"context"
	"errors"
	"io"
	"io/fs"
	"math"
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
	r, err := NewReader(path, opts)
	if err != nil {
		return err
	}
	defer r.Close()
	return r.Copy(ctx, w)
}

// ErrRemoved says that a log was removed while it was read, and what was not read yet with
// it.
var ErrRemoved = errors.New("the log was removed while it was read")

// errLimit: as much has been written as was asked for.
var errLimit = errors.New("crilog: limit reached")

// Reader reads one log. Whatever its own reader does, it holds no more than one
// file open, and no writer waits for it: of a log that grows faster than it is
// read some files are gone before they are read, and the output says so. It is
// not safe for concurrent use.
type Reader struct {
	path string
	opts Options
	out  printer

	file  *os.File
	in    *bufio.Reader
	start int64  // where in the whole log the file begins, or unknown
	stop  int64  // where in the whole log to stop
	part  []byte // of a line that is not whole yet
	lines int64  // still to be read, when bounded
	// between: the file was renamed, and there is no new one yet.
	between bool
}

// NewReader opens a log, which must exist (else the error is fs.ErrNotExist), at
// the place to begin at. One that does not follow ends where the log ends now.
func NewReader(path string, opts Options) (*Reader, error) {
	r := &Reader{path: path, opts: opts}
	if err := r.begin(); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

// Close closes what is open.
func (r *Reader) Close() error {
	if r.file == nil {
		return nil
	}
	return r.file.Close()
}

// Copy writes the log to w, once. It ends with ctx, with its cause.
func (r *Reader) Copy(ctx context.Context, w io.Writer) error {
	r.out = printer{w: bufio.NewWriter(w), opts: r.opts, lineStart: true}
	var err error
	if r.opts.Follow {
		err = r.follow(ctx)
	} else {
		err = r.readAll(ctx)
	}
	if errors.Is(err, errLimit) {
		err = nil
	}
	return errors.Join(err, r.out.w.Flush())
}

// maxBegins is how often the beginning is looked for again when the log is rotated
// at that moment.
const maxBegins = 20

// begin opens the file to begin with, at the place to begin at.
func (r *Reader) begin() (err error) {
	for range maxBegins {
		var old, now []rotatedFile
		if old, err = rotated(r.path); err != nil {
			return err
		}
		if err = r.beginAfter(old); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		var listErr error
		if now, listErr = rotated(r.path); listErr != nil {
			return listErr
		}
		if newest(old) == newest(now) {
			return err
		}
	}
	return err
}

func newest(files []rotatedFile) string {
	if len(files) == 0 {
		return ""
	}
	return files[len(files)-1].path
}

// beginAfter is begin, given the rotated files that there are.
func (r *Reader) beginAfter(old []rotatedFile) error {
	if err := r.bound(old); err != nil {
		return err
	}
	paths := make([]string, 0, len(old)+1)
	for _, f := range old {
		paths = append(paths, f.path)
	}
	paths = append(paths, r.path)
	first, offset := 0, int64(0)
	r.lines = -1
	if r.opts.Tail != nil {
		var err error
		if first, offset, err = findTail(paths, max(*r.opts.Tail, 0)); err != nil {
			return err
		}
		if !r.opts.Follow {
			r.lines = max(*r.opts.Tail, 0)
		}
	}
	// The last write to a file is not older than its last line.
	for ; first < len(old) && !r.opts.Since.IsZero(); first, offset = first+1, 0 {
		info, err := os.Stat(paths[first])
		if err == nil && !info.ModTime().Before(r.opts.Since) {
			break
		}
	}
	return r.open(old, first, offset)
}

// bound finds where to stop.
func (r *Reader) bound(old []rotatedFile) error {
	r.stop = math.MaxInt64
	if r.opts.Follow {
		return nil
	}
	info, err := os.Stat(r.path)
	switch begins := ends(old); {
	case errors.Is(err, fs.ErrNotExist) && len(old) > 0: // between two files
		return nil
	case err != nil:
		return err
	case begins != unknown:
		r.stop = begins + info.Size()
	}
	return nil
}

// ends is where in the whole log a sequence of its first files ends.
func ends(files []rotatedFile) int64 {
	if len(files) == 0 {
		return 0
	}
	return files[len(files)-1].end
}

// load opens one of the files: a rotated one or, beyond them, the one that is
// written to. start is where in the whole log it begins.
func (r *Reader) load(old []rotatedFile, i int) (f *os.File, start int64, err error) {
	if i == len(old) {
		f, err = os.Open(r.path)
		return f, ends(old), err
	}
	if f, err = os.Open(old[i].path); err != nil {
		return nil, unknown, err
	}
	info, err := f.Stat()
	if err != nil {
		return nil, unknown, errors.Join(err, f.Close())
	}
	if start = old[i].end; start != unknown {
		start -= info.Size()
	}
	return f, start, nil
}

// open goes on with one of the files, at an offset.
func (r *Reader) open(old []rotatedFile, i int, offset int64) error {
	f, start, err := r.load(old, i)
	if errors.Is(err, fs.ErrNotExist) && i > 0 && i == len(old) {
		// Between two files: the place is the end of the one before.
		f, start, err = r.load(old, i-1)
		offset = math.MaxInt64
	}
	if err != nil {
		return err
	}
	if info, err := f.Stat(); err == nil {
		offset = min(offset, info.Size())
	}
	if _, err := f.Seek(offset, io.SeekStart); err != nil {
		return errors.Join(err, f.Close())
	}
	r.use(f, start, offset)
	return nil
}

// use goes on with another file, which begins at start in the whole log and is at
// offset.
func (r *Reader) use(f *os.File, start, offset int64) {
	r.Close()
	var from io.Reader = f
	if start != unknown && r.stop != math.MaxInt64 {
		from = io.LimitReader(f, max(r.stop-start-offset, 0))
	}
	r.file, r.in, r.start, r.part = f, bufio.NewReaderSize(from, 32<<10), start, r.part[:0]
}

// readAll reads to the end of the newest file, or to where it is to stop.
func (r *Reader) readAll(ctx context.Context) error {
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
func (r *Reader) follow(ctx context.Context) error {
	watch := newWatcher()
	defer watch.close()
	for {
		watch.file(r.file)
		ended := isClosed(r.opts.Ended) // asked before reading: what is read then is all
		if err := r.readAll(ctx); err != nil {
			return err
		}
		if ended {
			if r.between {
				return ErrRemoved // nobody makes a new file any more
			}
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
		case <-watch.tick.C:
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
func (r *Reader) drain(ctx context.Context) error {
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
func (r *Reader) advance(ctx context.Context) (moved bool, err error) {
	mine, err := r.file.Stat()
	if err != nil {
		return false, err
	}
	at, err := r.file.Seek(0, io.SeekCurrent)
	if err != nil || r.start != unknown && r.start+at >= r.stop {
		return false, err
	}
	// As long as it is open, no other file can have its number.
	if newest, err := os.Stat(r.path); err == nil && os.SameFile(mine, newest) {
		r.between = false
		return r.rewind(mine.Size(), at)
	}
	if err := r.drain(ctx); err != nil {
		return false, err
	}
	if at, err = r.file.Seek(0, io.SeekCurrent); err != nil {
		return false, err
	}
	return r.next(mine, at)
}

// rewind begins again with a file that somebody has truncated.
func (r *Reader) rewind(size, at int64) (truncated bool, err error) {
	if size >= at {
		return false, nil
	}
	if _, err := r.file.Seek(0, io.SeekStart); err != nil {
		return false, err
	}
	r.in.Reset(r.file)
	r.start, r.part = unknown, r.part[:0]
	return true, r.out.notice("this log was truncated, and begins anew here")
}

// next goes on to the file that follows a rotated one, whose end is read; to the
// oldest, if that one is gone.
func (r *Reader) next(mine os.FileInfo, end int64) (moved bool, err error) {
	old, err := rotated(r.path)
	if err != nil {
		return false, err
	}
	next := 0
	for i := range old {
		if info, err := os.Stat(old[i].path); err == nil && os.SameFile(mine, info) {
			next = i + 1
		}
	}
	f, start, err := r.load(old, next)
	if errors.Is(err, fs.ErrNotExist) {
		r.between = next == len(old)
		return !r.between, nil // the files are others by now, or about to be
	}
	if err != nil {
		return false, err
	}
	if next == len(old) { // there may be another one in between by now
		if now, err := rotated(r.path); err != nil || newest(now) != newest(old) {
			return err == nil, errors.Join(err, f.Close())
		}
	}
	known := r.start != unknown && start != unknown
	missing := min(start, r.stop) - (r.start + end)
	r.between = false
	r.use(f, start, 0)
	if known && missing > 0 {
		return true, r.out.notice("%d bytes of this log were removed before they could be read", missing)
	}
	return true, nil
}
