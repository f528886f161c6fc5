package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"

	"github.com/sampan-batch/sampan/internal/change"
)

// formatVersion is written into every file. Raise it when a former program
// would misread what this one writes.
const formatVersion = 1

// The layout of the file:
//
//	meta/format   the format version, 8 bytes
//	meta/mark     the revision mark, 8 bytes
//	objects/KEY   the encoded object, then its revision in 8 bytes
//
// KEY is resource NUL namespace NUL name, so that a cursor walks the objects
// in the order of the trees.
var (
	metaBucket    = []byte("meta")
	objectsBucket = []byte("objects")
	formatKey     = []byte("format")
	markKey       = []byte("mark")
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
	path  string
	db    *bbolt.DB
	fault func(label string) error
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

func openFile(path string, fault func(string) error) (*file, error) {
	if fault == nil {
		fault = func(string) error { return nil }
	}
	if err := fault(faultOpen); err != nil {
		return nil, fmt.Errorf("store: open %s: %w", path, err)
	}
	_, statErr := os.Stat(path)
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{
		Timeout:        time.Nanosecond, // try the lock once
		NoFreelistSync: true,
		FreelistType:   bbolt.FreelistMapType,
		NoStatistics:   true,
	})
	if errors.Is(err, berrors.ErrTimeout) {
		return nil, fmt.Errorf("store: %s is in use by another process", path)
	}
	if err != nil {
		return nil, fmt.Errorf("store: open %s: %w", path, err)
	}
	f := &file{path: path, db: db, fault: fault}
	if err := f.init(); err != nil {
		return nil, errors.Join(err, f.close())
	}
	if errors.Is(statErr, os.ErrNotExist) {
		if err := syncDir(filepath.Dir(path)); err != nil {
			return nil, errors.Join(fmt.Errorf("store: sync directory of %s: %w", path, err), f.close())
		}
	}
	return f, nil
}

// init checks the format of an old file and lays out a new one.
func (f *file) init() error {
	var version uint64
	err := f.db.View(func(tx *bbolt.Tx) error {
		if meta := tx.Bucket(metaBucket); meta != nil {
			version = number(meta.Get(formatKey))
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("store: read %s: %w", f.path, err)
	}
	if version > formatVersion {
		return fmt.Errorf("store: %s has format %d, this program knows formats up to %d; use the newer program", f.path, version, formatVersion)
	}
	if version == formatVersion {
		return nil
	}
	err = f.db.Update(func(tx *bbolt.Tx) error {
		meta, err := tx.CreateBucketIfNotExists(metaBucket)
		if err != nil {
			return err
		}
		if _, err := tx.CreateBucketIfNotExists(objectsBucket); err != nil {
			return err
		}
		return meta.Put(formatKey, binary.BigEndian.AppendUint64(nil, formatVersion))
	})
	if err != nil {
		return fmt.Errorf("store: create %s: %w", f.path, err)
	}
	return nil
}

// load yields every object in the order of the trees and returns the mark.
func (f *file) load(codec Codec, yield func(*item)) (mark uint64, err error) {
	err = f.db.View(func(tx *bbolt.Tx) error {
		mark = number(tx.Bucket(metaBucket).Get(markKey))
		return tx.Bucket(objectsBucket).ForEach(func(k, v []byte) error {
			it, err := decode(codec, k, v)
			if err != nil {
				return err
			}
			if it.rev > mark {
				return fmt.Errorf("%s is at revision %d, past the mark %d", it.key, it.rev, mark)
			}
			yield(it)
			return nil
		})
	})
	if err != nil {
		return 0, fmt.Errorf("store: load %s: %w", f.path, err)
	}
	return mark, nil
}

func decode(codec Codec, k, v []byte) (*item, error) {
	parts := bytes.Split(k, []byte{0})
	if len(parts) != 3 || len(v) < 8 {
		return nil, fmt.Errorf("damaged entry at %q", k)
	}
	it := &item{key: change.Key{Resource: string(parts[0]), Namespace: string(parts[1]), Name: string(parts[2])}}
	data, rev := v[:len(v)-8], v[len(v)-8:]
	it.rev = binary.BigEndian.Uint64(rev)
	obj, err := codec.Decode(it.key.Resource, data)
	if err != nil {
		return nil, fmt.Errorf("decode %s: %w", it.key, err)
	}
	obj.SetResourceVersion(strconv.FormatUint(it.rev, 10))
	it.obj = obj
	return it, nil
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
	if err := f.fill(tx, b); err != nil {
		return errors.Join(err, tx.Rollback())
	}
	id := tx.ID()
	err = tx.Commit()
	if err == nil {
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
	key := st.next.key
	k := make([]byte, 0, len(key.Resource)+len(key.Namespace)+len(key.Name)+2)
	k = append(append(append(append(append(k, key.Resource...), 0), key.Namespace...), 0), key.Name...)
	if st.op == change.Delete {
		return objects.Delete(k)
	}
	return objects.Put(k, binary.BigEndian.AppendUint64(st.data, st.next.rev))
}

func (f *file) close() error {
	if err := f.db.Close(); err != nil {
		return fmt.Errorf("store: close %s: %w", f.path, err)
	}
	return nil
}

func number(b []byte) uint64 {
	if len(b) != 8 {
		return 0
	}
	return binary.BigEndian.Uint64(b)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
