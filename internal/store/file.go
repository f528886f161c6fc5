package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"syscall"
	"time"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"

	"github.com/sampan-batch/sampan/internal/disk"
)

// Labels of the disk calls that a test can make to fail.
const (
	faultOpen   = "open"
	faultBegin  = "begin"
	faultPut    = "put"
	faultCommit = "commit" // before the transaction is committed: nothing is written
	faultSync   = "sync"   // after it: the outcome is unknown
)

// file is the database on disk. Its methods are called by one goroutine at a
// time.
type file struct {
	path   string
	db     *bbolt.DB
	fault  func(label string) error
	writes int   // since the file was opened
	sealed seal  // of the last transaction that is on disk
	lost   error // bbolt met something that cannot be, and is not called any more
	erase  eraser
	diskReserve

	most  int64        // how many bytes it may hold; 0: any number
	holds atomic.Int64 // how many it does; read by whoever stages a set
}

// unknownError wraps a failure after which the file may hold the old state or
// the new one: the meta page was written, but not synced. The store stops
// writing: after a failed fsync the kernel may have dropped the page, a later
// success would prove nothing, and pages that the old state needs would be
// written over.
type unknownError struct{ err error }

func (e *unknownError) Error() string {
	return fmt.Sprintf("%v; restart to continue from what the disk holds", e.err)
}
func (e *unknownError) Unwrap() error { return e.err }

// openFile opens the database at path, which it makes where there is none, and
// returns what it holds. Nothing of it is given to bbolt before all of it was read
// and found to be whole.
func openFile(o Options, decode decodeFunc) (*file, *contents, error) {
	f := &file{path: o.Path, fault: o.fault, most: o.Most, diskReserve: diskReserve{path: o.Path, bytes: o.Reserve}}
	if f.fault == nil {
		f.fault = func(string) error { return nil }
	}
	if err := f.fault(faultOpen); err != nil {
		return nil, nil, fmt.Errorf("store: open %s: %w", f.path, err)
	}
	if !exists(f.path) {
		if err := create(f.path); err != nil {
			return nil, nil, err
		}
	}
	opened, err := openLocked(f.path)
	if err != nil {
		return nil, nil, err
	}
	f.erase.file = opened
	c, err := f.read(decode)
	if err != nil {
		return nil, nil, errors.Join(err, opened.Close())
	}
	f.sealed = c.seal
	err = f.guard(func() (err error) {
		f.db, err = openDB(f.path, func(string, int, os.FileMode) (*os.File, error) { return opened, nil })
		return err
	})
	if err != nil {
		opened.Close() // bbolt may have done so
		return nil, nil, err
	}
	size := int64(f.db.Info().PageSize) * int64(c.high)
	f.db.NoSync = o.Volatile
	f.forget(size)
	f.keep(size, f.free)
	f.weigh(size)
	return f, c, nil
}

// openLocked opens a file that is there and takes its lock, which is the one that
// bbolt takes: the file cannot change between our reading and its.
func openLocked(path string) (*os.File, error) {
	f, err := openFileAt(path, os.O_RDWR)
	if err != nil {
		return nil, err
	}
	if err := lock(f); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// openFileAt opens what must be a file.
func openFileAt(path string, flag int) (*os.File, error) {
	f, err := os.OpenFile(path, flag|syscall.O_NONBLOCK, 0) // a pipe would block
	if errors.Is(err, syscall.EISDIR) {
		return nil, &DamagedError{path, errors.New("it is a directory")}
	}
	if err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	info, err := f.Stat()
	switch {
	case err != nil:
		err = fmt.Errorf("store: %w", err)
	case info.IsDir():
		err = &DamagedError{path, errors.New("it is a directory")}
	case !info.Mode().IsRegular():
		err = &DamagedError{path, fmt.Errorf("it is not a file (%s)", info.Mode())}
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func lock(f *os.File) error {
	for end := time.Now().Add(lockWait); ; time.Sleep(lockWait / 20) {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		switch {
		case err == nil:
			return nil
		case !errors.Is(err, syscall.EWOULDBLOCK):
			return fmt.Errorf("store: lock %s: %w", f.Name(), err)
		case time.Now().After(end):
			return fmt.Errorf("store: %s is in use by another process", f.Name())
		}
	}
}

// read reads and checks what the file holds, and writes a meta page anew that was
// damaged.
func (f *file) read(decode decodeFunc) (*contents, error) {
	c, repair, err := readFile(f.erase.file, decode)
	var newer *FormatError
	switch {
	case errors.As(err, &newer):
		return nil, fmt.Errorf("store: %s %w", f.path, newer)
	case err != nil:
		return nil, &DamagedError{f.path, err}
	case repair == nil:
		return c, nil
	}
	data, at := repair.EncodeMeta() // the map is gone, but what this needs is not in it
	if _, err = f.erase.file.WriteAt(data, at); err == nil {
		err = f.erase.file.Sync()
	}
	if err != nil {
		return nil, fmt.Errorf("store: write the meta page of %s anew: %w", f.path, err)
	}
	return c, nil
}

// lockWait is how long to try for the file's lock. A process that this one is
// just forking holds a copy of every lock until it executes its program, also
// of those that were given up meanwhile.
const lockWait = 300 * time.Millisecond

func openDB(path string, open func(string, int, os.FileMode) (*os.File, error)) (*bbolt.DB, error) {
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{
		Timeout:        lockWait,
		NoFreelistSync: true, // else every commit writes it, however long it is
		FreelistType:   bbolt.FreelistMapType,
		OpenFile:       open,
	})
	if errors.Is(err, berrors.ErrTimeout) {
		return nil, fmt.Errorf("store: %s is in use by another process", path)
	}
	if err != nil {
		return nil, fmt.Errorf("store: open %s: %w", path, err)
	}
	return db, nil
}

// create makes an empty database at path. It is laid out under another name
// first, so that a half made file is never found at path.
func create(path string) error {
	draft := path + ".new"
	db, err := openDB(draft, openEmpty)
	if err != nil {
		return err
	}
	return errors.Join(layOut(db, draft, path), db.Close())
}

// openEmpty opens a file and drops what a creation that was cut short may have
// left in it. If another process is at work there, the engine says so later; if
// that has finished just now, the file has its final name, and stays as it is.
func openEmpty(name string, flag int, mode os.FileMode) (*os.File, error) {
	f, err := os.OpenFile(name, flag, mode)
	if err != nil {
		return nil, err
	}
	if syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) != nil {
		return f, nil
	}
	opened, err := f.Stat()
	if err == nil {
		named, _ := os.Stat(name)
		if os.SameFile(opened, named) {
			err = f.Truncate(0)
		}
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func layOut(db *bbolt.DB, draft, path string) error {
	if exists(path) { // somebody was faster
		os.Remove(draft)
		return nil
	}
	err := db.Update(func(tx *bbolt.Tx) error {
		meta, err := tx.CreateBucketIfNotExists(metaBucket)
		if err != nil {
			return err
		}
		if _, err := tx.CreateBucketIfNotExists(objectsBucket); err != nil {
			return err
		}
		if err := meta.Put(formatKey, binary.BigEndian.AppendUint64(nil, formatVersion)); err != nil {
			return err
		}
		return meta.Put(sealKey, seal{tx: uint64(tx.ID())}.encode())
	})
	if err == nil {
		err = os.Rename(draft, path)
	}
	if err == nil {
		err = disk.SyncDir(filepath.Dir(path))
	}
	if err != nil {
		return fmt.Errorf("store: create %s: %w", path, err)
	}
	return nil
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// forgetEvery is how many transactions may read pages before they are forgotten.
const forgetEvery = 64

// forget unmaps the pages of the file from this process, so that they do not
// count as its memory for ever: the objects are held in another form. Reading
// one again costs a fault in the page cache.
func (f *file) forget(size int64) {
	// Advice cannot fail in a way that matters.
	_, _, _ = syscall.Syscall(syscall.SYS_MADVISE, f.db.Info().Data, uintptr(size), syscall.MADV_DONTNEED)
}

// workers is how many goroutines decode objects.
func workers() int { return runtime.GOMAXPROCS(0) }

// write commits a batch and returns when it is on disk. After an error nothing
// of it is, unless the error is an *unknownError.
func (f *file) write(b *batch) error {
	err := f.commit(b)
	if err == nil {
		return nil
	}
	return fmt.Errorf("store: write %s: %w", f.path, err)
}

func (f *file) commit(b *batch) error {
	if err := f.fault(faultBegin); err != nil {
		return err
	}
	return f.guard(func() error { return f.transact(b) })
}

func (f *file) transact(b *batch) error {
	tx, err := f.db.Begin(true)
	if err != nil {
		return err
	}
	var next seal
	if err = f.erase.begin(tx, b.last); err == nil {
		next, err = f.fill(tx, b)
	}
	if err != nil {
		return errors.Join(err, tx.Rollback())
	}
	id, size := tx.ID(), tx.Size()
	err = tx.Commit()
	if err == nil {
		f.sealed = next
		if f.writes++; f.writes%forgetEvery == 0 {
			f.forget(size)
		}
		f.erase.note(b)
		f.keep(size, f.free)
		f.weigh(size)
		err = f.fault(faultSync)
	}
	if err != nil && f.reached(id) {
		return &unknownError{err}
	}
	return err
}

// reached reports whether transaction id came as far as its last step, the
// write of the meta page. Before it, all that was written are pages that
// nothing refers to, and the next transaction may follow as if nothing was.
func (f *file) reached(id int) bool {
	last := id
	err := f.db.View(func(tx *bbolt.Tx) error {
		last = tx.ID()
		return nil
	})
	return err != nil || last >= id
}

// weigh takes note of how much is in a file that is size long.
func (f *file) weigh(size int64) {
	if f.most > 0 {
		stats := f.db.Stats() // pending is what was given up in the last transaction
		f.holds.Store(size - int64(stats.FreePageN+stats.PendingPageN)*int64(f.db.Info().PageSize))
	}
}

// free is how much of the file can be used again.
func (f *file) free() int64 {
	return int64(f.db.Stats().FreePageN) * int64(f.db.Info().PageSize)
}

// fill puts a batch into a transaction and returns the seal of what the file
// holds then.
func (f *file) fill(tx *bbolt.Tx, b *batch) (next seal, err error) {
	meta, objects := tx.Bucket(metaBucket), tx.Bucket(objectsBucket)
	next = f.sealed
	for _, commits := range [][]*commit{b.lazy, b.commits} {
		for _, c := range commits {
			for i := range c.steps {
				if err := f.fault(faultPut); err != nil {
					return next, err
				}
				if err := next.put(objects, &c.steps[i]); err != nil {
					return next, f.damage(err)
				}
			}
		}
	}
	next.tx, next.mark = uint64(tx.ID()), b.mark
	if err := meta.Put(markKey, binary.BigEndian.AppendUint64(nil, b.mark)); err != nil {
		return next, err
	}
	if err := meta.Put(sealKey, next.encode()); err != nil {
		return next, err
	}
	return next, f.fault(faultCommit)
}

// damage names the file of an object that it has lost.
func (f *file) damage(err error) error {
	var lost *lostError
	if errors.As(err, &lost) {
		return &DamagedError{f.path, err}
	}
	return err
}

func (f *file) close() error {
	if f.lost != nil {
		// bbolt may hold its own locks for ever; the file's goes with the descriptor.
		return f.erase.file.Close()
	}
	if err := f.db.Close(); err != nil {
		return fmt.Errorf("store: close %s: %w", f.path, err)
	}
	return nil
}
