package store

import (
	"errors"
	"fmt"
	"os"
	"syscall"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/store/page"
)

// Summary tells what a file holds.
type Summary struct {
	Bytes    int64
	Revision uint64 // no revision above it was ever visible
	// Objects are how many there are of each resource; Unknown are those of them
	// that the codec does not know.
	Objects, Unknown map[string]int
	// Sealed says that number and sum of the objects were there to be compared.
	Sealed bool
	// Left are the parts of the file, and the objects, that Salvage has left out, and
	// why; and that the rest is not what was written last, if it is not.
	Left     []string
	Warnings []string
	Notes    []string
	// InUse: an engine has the file open. What was read is one state of it all the same.
	InUse bool
}

// Inspect reads and checks a file without changing it, also one that is open
// elsewhere, and then calls emit, if it is not nil, for every object. Errors are as
// for Open.
func Inspect(path string, codec Codec, emit func(Record) error) (*Summary, error) {
	return inspect(path, codec, emit, false)
}

// Salvage is Inspect for a file that is damaged: it leaves out what cannot be
// read, and says so. It fails where there is nothing to begin with.
func Salvage(path string, codec Codec, emit func(Record) error) (*Summary, error) {
	return inspect(path, codec, emit, true)
}

// inspectTries is how often a file is read anew that is written to meanwhile.
const inspectTries = 5

// errMoved: an engine has written so much meanwhile that pages may be used again.
var errMoved = errors.New("was written to while it was read")

func inspect(path string, codec Codec, emit func(Record) error, salvage bool) (*Summary, error) {
	f, err := openFileAt(path, os.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	i := &inspection{codec: codec, emit: emit, salvage: salvage}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_SH|syscall.LOCK_NB)
	switch {
	case errors.Is(err, syscall.EWOULDBLOCK) && emit != nil:
		return nil, fmt.Errorf("store: %s is in use by another process", path)
	case errors.Is(err, syscall.EWOULDBLOCK):
		i.inUse = true
	case err != nil:
		return nil, fmt.Errorf("store: lock %s: %w", path, err)
	}
	for range inspectTries {
		if err = i.read(f); !errors.Is(err, errMoved) {
			break
		}
	}
	return i.result(path, err)
}

// inspection is the reading of one file.
type inspection struct {
	codec   Codec
	emit    func(Record) error
	salvage bool
	inUse   bool

	emitErr error
	Summary
	counted seal
	highest uint64
}

func (i *inspection) result(path string, err error) (*Summary, error) {
	var newer *FormatError
	switch {
	case i.emitErr != nil:
		return nil, i.emitErr
	case errors.Is(err, errMoved):
		return nil, fmt.Errorf("store: %s %w", path, err)
	case errors.As(err, &newer):
		return nil, fmt.Errorf("store: %s %w", path, newer)
	case err != nil:
		return nil, &DamagedError{path, err}
	}
	return &i.Summary, nil
}

func (i *inspection) read(f *os.File) error {
	data, unmap, err := mapFile(f)
	if err != nil {
		return err
	}
	i.Summary = Summary{Bytes: int64(len(data)), Objects: map[string]int{}, Unknown: map[string]int{}, InUse: i.inUse}
	i.counted, i.highest = seal{}, 0
	var began uint64
	err = page.Guard(func() error {
		if f, err := page.Open(data); err == nil {
			began = f.Tx
		}
		return nil
	})
	if err != nil {
		return errors.Join(err, unmap())
	}
	if i.salvage {
		err = page.Guard(func() error { return i.readBroken(data) })
	} else {
		err = page.Guard(func() error { return i.readWhole(data) })
	}
	if i.inUse && moved(data, began) {
		err = errMoved
	}
	return errors.Join(err, unmap())
}

// moved reports whether pages that transaction tx refers to may have been used
// again. The engine frees them in the next transaction. The one after that uses them, and
// writes them before the meta page by which it can be seen.
func moved(data []byte, tx uint64) (yes bool) {
	err := page.Guard(func() error {
		now, err := page.Open(data)
		yes = err == nil && now.Tx > tx
		return err
	})
	return yes || err != nil
}

func (i *inspection) readWhole(data []byte) error {
	c, repair, err := readMapped(data, func(k, v []byte) (*item, error) { return decode(i.codec, k, v) })
	if err != nil {
		return err
	}
	i.counted, i.Warnings, i.Notes, i.Revision = c.seal, c.warnings, c.notes, c.seal.mark
	_, i.Sealed = c.meta[string(sealKey)]
	i.Unknown = newOpaque(c.opaque).counts()
	for _, it := range c.items {
		i.Objects[string(it.key.Resource)]++
	}
	for name, n := range i.Unknown {
		i.Objects[name] = n
	}
	if i.emit == nil {
		return nil
	}
	state := repair
	if state == nil {
		if state, err = page.Open(data); err != nil {
			return err
		}
	}
	return state.Walk(func(bucket string, leaf []page.Entry) error {
		if bucket != string(objectsBucket) {
			return nil
		}
		return i.emitAll(leaf)
	}, nil)
}

func (i *inspection) emitAll(leaf []page.Entry) error {
	for _, e := range leaf {
		if i.emit == nil {
			return nil
		}
		if i.emitErr = i.emit(Record{e.Key, e.Value}); i.emitErr != nil {
			return i.emitErr
		}
	}
	return nil
}

// readBroken reads what can be read of a file.
func (i *inspection) readBroken(data []byte) error {
	f, err := page.Open(data)
	if err == nil && f.Bad != nil {
		if newer := newerState(f, f.Tx+1); newer != nil {
			f = newer
		}
	}
	if err != nil {
		i.leave(err)
		if f = newestSealed(data); f == nil {
			return err
		}
	}
	found := false
	var sealed seal
	visit := func(bucket string, leaf []page.Entry) error {
		found = true
		if bucket == string(metaBucket) {
			for _, e := range leaf {
				switch string(e.Key) {
				case string(formatKey):
					var newer *FormatError
					if err := checkFormat(number(e.Value)); errors.As(err, &newer) {
						return newer
					}
				case string(markKey):
					i.Revision = number(e.Value)
				case string(sealKey):
					if s, err := decodeSeal(e.Value); err == nil && s.tx == f.Tx {
						sealed, i.Sealed = s, true
					}
				}
			}
			return nil
		}
		return i.keep(leaf)
	}
	f.Lenient = true
	if err := f.Walk(visit, func(fault *page.Fault) { i.leave(fault) }); err != nil {
		return err
	}
	if !found {
		return errors.New("nothing in it can be read")
	}
	i.Revision = max(i.Revision, i.highest, sealed.mark)
	if i.Sealed && (sealed.count != i.counted.count || sealed.sum != i.counted.sum) {
		// A page that has come back from the past looks as good as any other.
		i.leave(fmt.Errorf("objects, or newer states of them: %d were written last, %d are here, and their sum is another", sealed.count, i.counted.count))
	}
	return nil
}

// newestSealed finds the newest state of a file whose meta pages do not tell.
func newestSealed(data []byte) (found *page.File) {
	raw := page.Raw(data)
	var newest uint64
	raw.Scan(func(id uint64, leaf []page.Entry) {
		if s, ok := sealIn(leaf); ok && s.tx >= newest {
			found, newest = raw.At(id, s.tx), s.tx
		}
	})
	return found
}

func (i *inspection) leave(what error) { i.Left = append(i.Left, what.Error()) }

// keep emits those objects of a leaf that can be read.
func (i *inspection) keep(leaf []page.Entry) error {
	for _, e := range leaf {
		key, _, rev, err := unpack(e.Key, e.Value)
		if err == nil {
			err = i.decodes(key, e)
		}
		if err != nil {
			i.leave(err)
			continue
		}
		i.counted.add(e.Key, e.Value)
		i.highest = max(i.highest, rev)
		i.Objects[string(key.Resource)]++
		if err := i.emitAll([]page.Entry{e}); err != nil {
			return err
		}
	}
	return nil
}

// decodes reports why an object that is whole cannot be read all the same.
func (i *inspection) decodes(key change.Key, e page.Entry) error {
	if !i.codec.Knows(key.Resource) {
		i.Unknown[string(key.Resource)]++
		return nil
	}
	return page.Guard(func() error {
		_, err := decode(i.codec, e.Key, e.Value)
		return err
	})
}
