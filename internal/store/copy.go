package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"go.etcd.io/bbolt"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/disk"
)

// Record is an object as the file holds it: what a backup consists of.
type Record struct {
	Key   []byte // resource NUL namespace NUL name
	Value []byte // the encoded object, its revision (8 bytes), a CRC-32C of key and all this (4)
}

// Check reports whether the record is what was written, and returns whose it is.
func (r Record) Check() (key change.Key, rev uint64, err error) {
	key, _, rev, err = unpack(r.Key, r.Value)
	return key, rev, err
}

// Copy is one state of the store, to be written elsewhere. It holds up nobody: the
// state is in memory, no page of the file is kept for it, and what it costs while
// it is held are the objects of that state that have been replaced since.
type Copy struct {
	store *Store
	view  *View
}

// Copy returns the latest committed state.
func (s *Store) Copy() *Copy { return &Copy{s, s.View()} }

// Rev is the revision of the last write that the copy contains.
func (c *Copy) Rev() uint64 { return c.view.rev }

// Objects returns how many objects there are of each resource, also of those
// that nobody here knows.
func (c *Copy) Objects() map[string]int {
	n := c.view.opaque.counts()
	for name, tab := range c.view.tables {
		if tab.items.Len() > 0 {
			n[string(name)] = tab.items.Len()
		}
	}
	return n
}

// Each calls emit for every object, in the order of the keys but for those that
// nobody here knows, which come last.
func (c *Copy) Each(emit func(Record) error) error {
	var err error
	for _, name := range slices.Sorted(maps.Keys(c.view.tables)) {
		c.view.tables[name].items.Scan(func(it *item) bool {
			var r Record
			if r.Key, r.Value, err = it.encode(c.store.opts.Codec); err == nil {
				err = emit(r)
			}
			return err == nil
		})
		if err != nil {
			return err
		}
	}
	for _, e := range c.view.opaque.entries {
		if err := emit(Record{e.Key, e.Value}); err != nil {
			return err
		}
	}
	return nil
}

// Draft is a store that is being made. Nothing else has it open, and a crash
// before Close leaves no whole one.
type Draft struct {
	path string
	db   *bbolt.DB
	seal seal
	part []Record
	size int
}

// draftPart is how many bytes one transaction of a Draft writes.
const draftPart = 4 << 20

// NewDraft makes a store at path, where there must be nothing. The revision line
// of who opens it goes on behind rev: every watch of before is Gone.
func NewDraft(path string, rev uint64) (*Draft, error) {
	opened := func(name string, flag int, mode os.FileMode) (*os.File, error) {
		return os.OpenFile(name, flag|os.O_EXCL, mode)
	}
	db, err := openDB(path, opened)
	if err != nil {
		return nil, err
	}
	db.NoSync = true
	d := &Draft{path: path, db: db, seal: seal{mark: rev}}
	err = db.Update(func(tx *bbolt.Tx) error {
		_, err := tx.CreateBucket(metaBucket)
		if err == nil {
			_, err = tx.CreateBucket(objectsBucket)
		}
		return err
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("store: make %s: %w", path, err), db.Close())
	}
	return d, nil
}

// Put adds an object. The draft keeps the record until it is written.
func (d *Draft) Put(r Record) error {
	key, rev, err := r.Check()
	if err != nil {
		return fmt.Errorf("store: %w", err)
	}
	if rev > d.seal.mark {
		return fmt.Errorf("store: %s is at revision %d, and the store at %d", key, rev, d.seal.mark)
	}
	d.part = append(d.part, r)
	if d.size += len(r.Key) + len(r.Value); d.size >= draftPart {
		return d.write(false)
	}
	return nil
}

func (d *Draft) write(last bool) error {
	slices.SortFunc(d.part, func(a, b Record) int { return strings.Compare(string(a.Key), string(b.Key)) })
	err := d.db.Update(func(tx *bbolt.Tx) error {
		meta, objects := tx.Bucket(metaBucket), tx.Bucket(objectsBucket)
		for _, r := range d.part {
			if objects.Get(r.Key) != nil {
				key, _, _ := r.Check()
				return fmt.Errorf("%s comes twice", key)
			}
			d.seal.add(r.Key, r.Value)
			if err := objects.Put(r.Key, r.Value); err != nil {
				return err
			}
		}
		if !last {
			return nil
		}
		d.seal.tx = uint64(tx.ID())
		return errors.Join(
			meta.Put(formatKey, binary.BigEndian.AppendUint64(nil, formatVersion)),
			meta.Put(markKey, binary.BigEndian.AppendUint64(nil, d.seal.mark)),
			meta.Put(sealKey, d.seal.encode()))
	})
	d.part, d.size = nil, 0
	if err != nil {
		return fmt.Errorf("store: write %s: %w", d.path, err)
	}
	return nil
}

// Close makes the store whole and durable.
func (d *Draft) Close() error {
	err := d.write(true)
	if err == nil {
		err = d.db.Sync()
	}
	err = errors.Join(err, d.db.Close())
	if err != nil {
		return err
	}
	return disk.SyncDir(filepath.Dir(d.path))
}

// Abandon removes the draft.
func (d *Draft) Abandon() error { return errors.Join(d.db.Close(), os.Remove(d.path)) }
