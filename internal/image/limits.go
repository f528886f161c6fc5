package image

import (
	"fmt"
	"io"
	"time"

	"golang.org/x/sys/unix"
)

// Limits bound what one image may take of the machine, and how long a registry
// may take. A zero field is its default.
type Limits struct {
	// Bytes is what the layers of an image, or an archive of images, may unpack
	// to: as streams and as files. Default: 256 GiB.
	Bytes int64
	// Files is how many entries the layers may have together. Default: 4,000,000.
	Files int64
	// Layers is how many there may be. Default: 499, since overlayfs mounts 500, of which one is ours.
	Layers int
	// Metadata is how large a manifest, an index or a configuration may be, in
	// bytes. Default: 4 MiB.
	Metadata int64
	// Reserve and ReserveFiles are the bytes and inodes that unpacking leaves free
	// on the disk. Default: 256 MiB and 10,000, of a small disk a sixteenth.
	Reserve, ReserveFiles int64
	// Idle is how long a registry may send nothing. Default: a minute.
	Idle time.Duration
	// Rate is how many bytes a second a registry must send, on the average over
	// RateOver of waiting for it. Default: 1 KiB over three minutes.
	Rate     int64
	RateOver time.Duration
}

func (l Limits) withDefaults() Limits {
	set := func(have *int64, value int64) {
		if *have == 0 {
			*have = value
		}
	}
	set(&l.Bytes, 256<<30)
	set(&l.Files, 4_000_000)
	set(&l.Metadata, 4<<20)
	set(&l.Rate, 1<<10)
	if l.Layers == 0 {
		l.Layers = 499
	}
	if l.Idle == 0 {
		l.Idle = time.Minute
	}
	if l.RateOver == 0 {
		l.RateOver = 3 * time.Minute
	}
	return l
}

// budget is what is left of the limits while one image or archive is written.
type budget struct {
	dir    string // on the disk that is written to
	limits Limits

	streamed, bytes, files int64 // so far
	// What may be written before the disk is asked again.
	freeBytes, freeFiles int64
}

// The disk is asked again after so many bytes and files: others write, too.
const (
	askBytes = 16 << 20
	askFiles = 500
)

func newBudget(dir string, l Limits) *budget { return &budget{dir: dir, limits: l} }

// stream counts bytes as they come out of a decompressor.
func (b *budget) stream(n int) error {
	if b.streamed += int64(n); b.streamed > b.limits.Bytes {
		return badImage("it unpacks to more than the limit of %d bytes", b.limits.Bytes)
	}
	return nil
}

// entry counts a file, directory or link.
func (b *budget) entry() error {
	if b.files++; b.files > b.limits.Files {
		return badImage("it has more than the limit of %d files", b.limits.Files)
	}
	if b.freeFiles--; b.freeFiles < 0 {
		return b.ask()
	}
	return nil
}

// write counts bytes that are about to be written.
func (b *budget) write(n int) error {
	if b.bytes += int64(n); b.bytes > b.limits.Bytes {
		return badImage("its files take more than the limit of %d bytes", b.limits.Bytes)
	}
	if b.freeBytes -= int64(n); b.freeBytes < 0 {
		return b.ask()
	}
	return nil
}

// declared refuses a file that cannot have a place before it is filled.
func (b *budget) declared(name string, size int64) error {
	switch {
	case size < 0 || size > b.limits.Bytes-b.bytes:
		return badImage("layer entry %q declares %d bytes; the limit of an image is %d", name, size, b.limits.Bytes)
	case size <= b.freeBytes:
		return nil
	}
	free, _, err := b.free()
	if err == nil && size > free {
		err = badImage("layer entry %q declares %d bytes; the disk has %d left for images", name, size, max(free, 0))
	}
	return err
}

// free returns the bytes and inodes that the disk has beyond the reserve.
func (b *budget) free() (bytes, files int64, err error) {
	var st unix.Statfs_t
	if err := unix.Statfs(b.dir, &st); err != nil {
		return 0, 0, fmt.Errorf("statfs %s: %w", b.dir, err)
	}
	bytes, files = int64(st.Bavail)*st.Bsize-reserve(b.limits.Reserve, 256<<20, int64(st.Blocks)*st.Bsize), askFiles
	if st.Files > 0 { // some file systems have no fixed number
		files = int64(st.Ffree) - reserve(b.limits.ReserveFiles, 10_000, int64(st.Files))
	}
	return bytes, files, nil
}

// reserve is what stays free of all that a disk has.
func reserve(limit, usual, all int64) int64 {
	if limit != 0 {
		return limit
	}
	return min(usual, all/16)
}

func (b *budget) ask() error {
	bytes, files, err := b.free()
	if err != nil {
		return err
	}
	if bytes <= 0 {
		return badImage("it does not fit on the disk, of which a reserve of bytes must stay free")
	}
	if files <= 0 {
		return badImage("it does not fit on the disk, of which a reserve of inodes must stay free")
	}
	b.freeBytes, b.freeFiles = min(bytes, askBytes), min(files, askFiles)
	return nil
}

// Write counts what an archive is spooled to; see spool.
func (b *budget) Write(p []byte) (int, error) { return len(p), b.write(len(p)) }

// copyWithin copies within the budget, the count before the bytes.
func (b *budget) copyWithin(w io.Writer, r io.Reader) error {
	_, err := io.Copy(io.MultiWriter(b, w), r)
	return err
}
