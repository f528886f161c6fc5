package store

import (
	"bytes"
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
	"golang.org/x/sync/errgroup"

	"github.com/sampan-batch/sampan/internal/change"
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
	writes int // since the file was opened
	erase  eraser
	diskReserve
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

func openFile(path string, fault func(string) error, reserved int64) (*file, error) {
	if fault == nil {
		fault = func(string) error { return nil }
	}
	if err := fault(faultOpen); err != nil {
		return nil, fmt.Errorf("store: open %s: %w", path, err)
	}
	if !exists(path) {
		if err := create(path); err != nil {
			return nil, err
		}
	}
	if err := inspect(path); err != nil {
		return nil, err
	}
	f := &file{path: path, fault: fault, diskReserve: diskReserve{path: path, bytes: reserved}}
	var err error
	f.db, err = openDB(path, false, func(name string, flag int, mode os.FileMode) (opened *os.File, err error) {
		opened, err = os.OpenFile(name, flag, mode)
		f.erase.file = opened
		return opened, err
	})
	if err != nil {
		return nil, err
	}
	var size int64
	err = f.db.View(func(tx *bbolt.Tx) error {
		size = tx.Size()
		return nil
	})
	f.keep(size, f.free)
	return f, err
}

// lockWait is how long to try for the file's lock. A process that this one is
// just forking holds a copy of every lock until it executes its program, also
// of those that were given up meanwhile.
const lockWait = 300 * time.Millisecond

func openDB(path string, readOnly bool, open func(string, int, os.FileMode) (*os.File, error)) (*bbolt.DB, error) {
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{
		Timeout:        lockWait,
		NoFreelistSync: true, // else every commit writes it, however long it is
		FreelistType:   bbolt.FreelistMapType,
		ReadOnly:       readOnly,
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
	db, err := openDB(draft, false, openEmpty)
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
		return meta.Put(formatKey, binary.BigEndian.AppendUint64(nil, formatVersion))
	})
	if err == nil {
		err = os.Rename(draft, path)
	}
	if err == nil {
		err = syncDir(filepath.Dir(path))
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

// inspect looks at a file before the engine trusts it: it must be ours, of a
// format that we know, and as long as it claims (reading past the end of a
// mapped file would kill the process).
func inspect(path string) error {
	db, err := openDB(path, true, os.OpenFile)
	if err != nil {
		return err
	}
	err = db.View(func(tx *bbolt.Tx) error {
		info, err := os.Stat(path)
		if err != nil {
			return fmt.Errorf("store: %w", err)
		}
		if info.Size() < tx.Size() {
			return fmt.Errorf("store: %s is cut short: %d of %d bytes", path, info.Size(), tx.Size())
		}
		meta := tx.Bucket(metaBucket)
		if meta == nil || tx.Bucket(objectsBucket) == nil {
			return fmt.Errorf("store: %s is a database, but not one of Sampan", path)
		}
		switch version := number(meta.Get(formatKey)); {
		case version > formatVersion:
			return fmt.Errorf("store: %s has format %d, this program knows none above %d: use the program that wrote it, or a newer one",
				path, version, formatVersion)
		case version == 0:
			return fmt.Errorf("store: %s does not say which format it has", path)
		}
		return nil
	})
	return errors.Join(err, db.Close())
}

// load decodes every object with the help of all processors and returns them
// in the order of the trees, with the mark.
func (f *file) load(decode func(k, v []byte) (*item, error)) (items []*item, mark uint64, err error) {
	var size int64
	err = f.db.View(func(tx *bbolt.Tx) error {
		size = tx.Size()
		mark = number(tx.Bucket(metaBucket).Get(markKey))
		var entries [][2][]byte
		err := tx.Bucket(objectsBucket).ForEach(func(k, v []byte) error {
			entries = append(entries, [2][]byte{k, v})
			return nil
		})
		if err != nil {
			return err
		}
		items = make([]*item, len(entries))
		return parallel(len(entries), func(i int) (err error) {
			items[i], err = decode(entries[i][0], entries[i][1])
			if err == nil && items[i].rev > mark {
				err = fmt.Errorf("%s is at revision %d, past the mark %d", items[i].key, items[i].rev, mark)
			}
			return err
		})
	})
	if err != nil {
		return nil, 0, fmt.Errorf("store: load %s: %w", f.path, err)
	}
	f.forget(size)
	return items, mark, nil
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

// parallel calls do for every i below n and returns one of its errors.
func parallel(n int, do func(i int) error) error {
	const chunk = 64
	var next atomic.Int64
	var group errgroup.Group
	for range min(runtime.GOMAXPROCS(0), n/chunk+1) {
		group.Go(func() error {
			for {
				end := int(next.Add(chunk))
				for i := end - chunk; i < min(end, n); i++ {
					if err := do(i); err != nil {
						return err
					}
				}
				if end >= n {
					return nil
				}
			}
		})
	}
	return group.Wait()
}

// verify compares the file with v: the same keys, revisions and bytes.
func (f *file) verify(v *View, encode func(change.Object) ([]byte, error)) error {
	var errs []error
	err := f.db.View(func(tx *bbolt.Tx) error {
		objects, n := tx.Bucket(objectsBucket), 0
		for _, tab := range v.tables {
			n += tab.items.Len()
			tab.items.Scan(func(it *item) bool {
				bare := it.obj.DeepCopyObject().(change.Object)
				bare.SetResourceVersion("")
				k := encodeKey(it.key)
				want, err := encode(bare)
				if err == nil && !bytes.Equal(objects.Get(k), encodeValue(k, want, it.rev)) {
					err = errors.New("the file holds something else")
				}
				if err != nil {
					errs = append(errs, fmt.Errorf("store: check: %s at revision %d: %w", it.key, it.rev, err))
				}
				return true
			})
		}
		if in := objects.Stats().KeyN; in != n {
			errs = append(errs, fmt.Errorf("store: check: the file holds %d objects, memory %d", in, n))
		}
		if mark := number(tx.Bucket(metaBucket).Get(markKey)); mark < v.rev {
			errs = append(errs, fmt.Errorf("store: check: revision %d is past the mark %d", v.rev, mark))
		}
		for err := range tx.Check() {
			errs = append(errs, fmt.Errorf("store: check: %s: %w", f.path, err))
		}
		return nil
	})
	return errors.Join(append(errs, err)...)
}

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
	tx, err := f.db.Begin(true)
	if err != nil {
		return err
	}
	if err = f.erase.begin(tx, b.last); err == nil {
		err = f.fill(tx, b)
	}
	if err != nil {
		return errors.Join(err, tx.Rollback())
	}
	id, size := tx.ID(), tx.Size()
	err = tx.Commit()
	if err == nil {
		if f.writes++; f.writes%forgetEvery == 0 {
			f.forget(size)
		}
		f.erase.note(b)
		f.keep(size, f.free)
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

// free is how much of the file can be used again.
func (f *file) free() int64 {
	return int64(f.db.Stats().FreePageN) * int64(f.db.Info().PageSize)
}

func (f *file) fill(tx *bbolt.Tx, b *batch) error {
	meta, objects := tx.Bucket(metaBucket), tx.Bucket(objectsBucket)
	for _, commits := range [][]*commit{b.lazy, b.commits} {
		for _, c := range commits {
			for i := range c.steps {
				if err := f.fault(faultPut); err != nil {
					return err
				}
				if err := put(objects, &c.steps[i]); err != nil {
					return err
				}
			}
		}
	}
	if err := meta.Put(markKey, binary.BigEndian.AppendUint64(nil, b.mark)); err != nil {
		return err
	}
	return f.fault(faultCommit)
}

func put(objects *bbolt.Bucket, st *step) error {
	k := encodeKey(st.next.key)
	if st.op == change.Delete {
		return objects.Delete(k)
	}
	return objects.Put(k, encodeValue(k, st.data, st.next.rev))
}

func (f *file) close() error {
	if err := f.db.Close(); err != nil {
		return fmt.Errorf("store: close %s: %w", f.path, err)
	}
	return nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
