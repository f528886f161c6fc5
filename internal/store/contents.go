package store

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/sampan-batch/sampan/internal/store/page"
)

// contents is what a file holds, as read before bbolt is given it.
type contents struct {
	items []*item // in the order of the trees
	// opaque are the objects of resources that the codec does not know: a newer
	// program wrote them.
	opaque []page.Entry
	seal   seal   // as counted
	high   uint64 // how many pages are in use, at most
	// meta is the bucket of that name.
	meta map[string][]byte
	// warnings are what is wrong with the file and has cost nothing; notes what is
	// not as usual, and nothing wrong.
	warnings, notes []string
}

// decodeFunc decodes an entry; the error is errUnknown where the codec does not
// know the resource.
type decodeFunc func(k, v []byte) (*item, error)

// errUnknown: a newer program wrote the object.
var errUnknown = errors.New("unknown resource")

// readFile reads and checks everything that a file holds. An error is what is
// wrong with it. repair is the meta page to be written, where the newest one is
// damaged and what it led to was found all the same.
func readFile(file *os.File, decode decodeFunc) (c *contents, repair *page.File, err error) {
	data, unmap, err := mapFile(file)
	if err != nil {
		return nil, nil, err
	}
	err = page.Guard(func() (err error) {
		c, repair, err = readMapped(data, decode)
		return err
	})
	return c, repair, errors.Join(err, unmap())
}

func mapFile(file *os.File) (data []byte, unmap func() error, err error) {
	info, err := file.Stat()
	if err != nil {
		return nil, nil, err
	}
	if info.Size() == 0 {
		return nil, nil, errors.New("is empty")
	}
	return page.Map(file, info.Size())
}

func readMapped(data []byte, decode decodeFunc) (c *contents, repair *page.File, err error) {
	f, err := page.Open(data)
	if err != nil {
		return nil, nil, err
	}
	if f.Bad == nil {
		c, err = readState(f, decode)
		return c, nil, err
	}
	return readBehind(f, decode)
}

// readBehind reads a file of which a meta page is damaged. If that was the newer
// one, the other leads to the state of one transaction earlier, and the state that is
// missed lies in the file, sealed; it is found by its seal.
//
// A transaction that failed after it had written all of its pages looks the same.
// That it happens here, and that a write comes back which was refused, takes a disk
// that failed, a crash before the next write, and this damage.
func readBehind(f *page.File, decode decodeFunc) (*contents, *page.File, error) {
	newer := newerState(f, f.Tx+1)
	if newer == nil {
		c, err := readState(f, decode)
		if err == nil {
			c.warnings = append(c.warnings, fmt.Sprintf("%v; the other meta page is whole, and nothing newer was found", f.Bad))
		}
		return c, nil, err
	}
	c, err := readState(newer, decode)
	if err == nil && c.stale() {
		err = errors.New("its seal is of another transaction")
	}
	if err != nil {
		return nil, nil, fmt.Errorf("%w, and what it led to, transaction %d, cannot be read: %w", f.Bad, newer.Tx, err)
	}
	c.warnings = append(c.warnings, fmt.Sprintf("%v; what it led to, transaction %d, was found whole, and the page is written anew", f.Bad, newer.Tx))
	return c, newer, nil
}

// newerState finds the root of the state that transaction tx wrote; nil if it is
// not in the file.
func newerState(f *page.File, tx uint64) (found *page.File) {
	f.Scan(func(id uint64, leaf []page.Entry) {
		if s, ok := sealIn(leaf); ok && s.tx == tx {
			found = f.At(id, tx)
		}
	})
	return found
}

// sealIn returns the seal of a root page.
func sealIn(leaf []page.Entry) (s seal, ok bool) {
	for _, e := range leaf {
		if string(e.Key) != string(metaBucket) {
			continue
		}
		for _, e := range e.Inline() {
			if string(e.Key) == string(sealKey) {
				s, err := decodeSeal(e.Value)
				return s, err == nil
			}
		}
	}
	return s, false
}

// stale reports whether the last to write was a program that knows no seals.
func (c *contents) stale() bool {
	s, err := decodeSeal(c.meta[string(sealKey)])
	return err != nil || s.tx < c.seal.tx
}

// readState reads one state of a file.
func readState(f *page.File, decode decodeFunc) (*contents, error) {
	l := &loader{decode: decode, contents: contents{meta: map[string][]byte{}, seal: seal{tx: f.Tx}, high: f.High}, buckets: map[string]bool{}}
	l.group.SetLimit(workers())
	err := page.Guard(func() error { return f.Walk(l.visit, nil) })
	if err == nil {
		l.flush()
	}
	if workErr := l.group.Wait(); err == nil || errors.Is(err, errStop) {
		err = workErr
	}
	if err != nil {
		return nil, err
	}
	if err := l.finish(); err != nil {
		return nil, err
	}
	return &l.contents, nil
}

// loader decodes objects while the pages are walked.
type loader struct {
	contents
	decode  decodeFunc
	buckets map[string]bool
	group   errgroup.Group
	pending []page.Entry
	parts   [][]*item

	mu     sync.Mutex
	failed bool
}

// loadBatch is how many entries one goroutine decodes at a time.
const loadBatch = 128

var errStop = errors.New("stopped")

func (l *loader) visit(bucket string, leaf []page.Entry) error {
	l.buckets[bucket] = true
	switch bucket {
	case string(metaBucket):
		for _, e := range leaf {
			l.meta[string(e.Key)] = slices.Clone(e.Value)
		}
		l.seal.mark = number(l.meta[string(markKey)])
		return checkFormat(number(l.meta[string(formatKey)]))
	case string(objectsBucket):
		if l.pending = append(l.pending, leaf...); len(l.pending) >= loadBatch {
			l.flush()
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.failed {
		return errStop
	}
	return nil
}

// flush has the pending entries decoded.
func (l *loader) flush() {
	entries, mark := l.pending, l.seal.mark
	l.pending = nil
	l.mu.Lock()
	part := len(l.parts)
	l.parts = append(l.parts, nil)
	l.mu.Unlock()
	l.group.Go(func() error {
		var items []*item
		var opaque []page.Entry
		var sum seal
		err := page.Guard(func() (err error) {
			items, opaque, sum, err = decodeAll(entries, l.decode, mark)
			return err
		})
		l.mu.Lock()
		defer l.mu.Unlock()
		l.failed = l.failed || err != nil
		l.parts[part] = items
		l.opaque = append(l.opaque, opaque...)
		l.seal.count, l.seal.sum = l.seal.count+sum.count, l.seal.sum+sum.sum
		return err
	})
}

func decodeAll(entries []page.Entry, decode decodeFunc, mark uint64) (items []*item, opaque []page.Entry, sum seal, err error) {
	items = make([]*item, 0, len(entries))
	for _, e := range entries {
		sum.add(e.Key, e.Value)
		it, err := decode(e.Key, e.Value)
		if errors.Is(err, errUnknown) {
			opaque = append(opaque, page.Entry{Key: slices.Clone(e.Key), Value: slices.Clone(e.Value)})
			continue
		}
		if err == nil && it.rev > mark {
			err = fmt.Errorf("%s is at revision %d, past the mark %d", it.key, it.rev, mark)
		}
		if err != nil {
			return nil, nil, sum, err
		}
		items = append(items, it)
	}
	return items, opaque, sum, nil
}

// finish holds the seal against what was counted.
func (l *loader) finish() error {
	if !l.buckets[string(metaBucket)] || !l.buckets[string(objectsBucket)] {
		return errors.New("is a database, but not one of Sampan")
	}
	l.items = slices.Concat(l.parts...)
	slices.SortFunc(l.opaque, func(a, b page.Entry) int { return strings.Compare(string(a.Key), string(b.Key)) })
	value, sealed := l.meta[string(sealKey)]
	if !sealed {
		// A store from before there were seals has these two keys and no other.
		for k := range l.meta {
			if k != string(formatKey) && k != string(markKey) {
				return fmt.Errorf("there is no seal, but %q", k)
			}
		}
		return nil
	}
	s, err := decodeSeal(value)
	if err != nil {
		return err
	}
	stale, err := s.compare(l.seal, l.seal.tx)
	if stale {
		l.notes = append(l.notes, fmt.Sprintf("an older program has written to it since transaction %d, without keeping the sum of its objects; the sum is made anew", s.tx))
	}
	return err
}
