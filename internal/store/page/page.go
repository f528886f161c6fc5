// Package page reads the pages of a bbolt file and trusts none of them.
//
// bbolt itself trusts what it maps: a number that is wrong makes it leave
// objects out, write over pages that are in use, panic, or read where there is
// nothing. So a file is walked here first. Every field of every page that the
// newest transaction refers to is held against the only value that bbolt can have
// written there, and what passes is safe to be given to bbolt. A disk that fails
// while a mapped file is read, or a file that gets shorter, is an error here: see Guard.
//
// What is not known here is whether a page that is right in itself is an old one.
// For that the store has a sum of all objects.
package page

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"os"
	"runtime/debug"

	"golang.org/x/sys/unix"
)

// The layout of a file, as go.etcd.io/bbolt/internal/common defines it. Numbers are
// in the byte order of the machine.
const (
	headerSize  = 16 // id 8, flags 2, count 2, overflow 4
	elementSize = 16 // of a leaf: flags, pos, ksize, vsize; of a branch: pos 4, ksize 4, page 8
	bucketSize  = 16 // root page 8, sequence 8
	metaSize    = 64 // without the page's header

	flagBranch   = 0x01
	flagLeaf     = 0x02
	flagFreelist = 0x10

	bucketEntry = 0x01 // in the flags of a leaf's element

	magic      = 0xED0CDAED
	version    = 2
	noFreelist = 1<<64 - 1

	longestKey   = 32768
	longestValue = 1<<31 - 2
	deepest      = 64
)

var order = binary.NativeEndian

// Fault is what is wrong with a page.
type Fault struct {
	Page uint64
	What string
}

func (f *Fault) Error() string { return fmt.Sprintf("page %d: %s", f.Page, f.What) }

// ErrNotBolt says that there is nothing in the file that bbolt could have written.
var ErrNotBolt = errors.New("is not a database")

// Meta is what one of the two meta pages says: where a state of the file begins.
type Meta struct {
	PageSize int
	Root     uint64 // the page of the root bucket
	Freelist uint64 // the page of the free list, or all ones
	High     uint64 // no page from it on is in use
	Tx       uint64 // the transaction that wrote it
}

// File is one state of a file.
type File struct {
	Meta
	// Bad is what is wrong with the meta page that Meta is not of; nil if nothing is.
	Bad *Fault
	// Lenient makes Walk read pages whose header is wrong, if their content tells
	// what it should say.
	Lenient bool

	data []byte
	seen []bool // pages that were come to
}

// Map maps a file of size bytes for reading. What is read there must be read
// under Guard. unmap ends it.
func Map(f *os.File, size int64) (data []byte, unmap func() error, err error) {
	if data, err = unix.Mmap(int(f.Fd()), 0, int(size), unix.PROT_READ, unix.MAP_SHARED); err != nil {
		return nil, nil, fmt.Errorf("cannot be mapped: %w", err)
	}
	return data, func() error { return unix.Munmap(data) }, nil
}

// Guard calls do, which reads a mapped file. Where that cannot be read, or makes
// do panic, Guard returns an error.
func Guard(do func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("cannot be read: %v", r)
		}
	}()
	return do()
}

// Open reads the meta pages of a file. The state is that of the newer one that is
// whole.
func Open(data []byte) (*File, error) {
	first, firstErr := readMeta(data, 0)
	pageSize := first.PageSize
	if firstErr != nil {
		pageSize = guessPageSize(data)
	}
	second, secondErr := readMeta(data, pageSize)
	f := &File{data: data}
	switch {
	case firstErr != nil && secondErr != nil:
		if errors.Is(firstErr, ErrNotBolt) && errors.Is(secondErr, ErrNotBolt) {
			return nil, ErrNotBolt
		}
		return nil, fmt.Errorf("both meta pages are damaged: %w; %w", firstErr, secondErr)
	case firstErr != nil:
		f.Meta, f.Bad = second, fault(0, "%v", firstErr)
	case secondErr != nil:
		f.Meta, f.Bad = first, fault(1, "%v", secondErr)
	case first.Tx > second.Tx:
		f.Meta = first
	default:
		f.Meta = second
	}
	if err := f.checkBounds(); err != nil {
		return nil, err
	}
	return f, nil
}

// At returns the state of the same file that begins at the page root, as no meta page says.
func (f *File) At(root, tx uint64) *File {
	m := Meta{PageSize: f.PageSize, Root: root, Freelist: noFreelist, High: uint64(len(f.data) / f.PageSize), Tx: tx}
	return &File{Meta: m, data: f.data}
}

// Raw returns a file whose meta pages say nothing, to be scanned.
func Raw(data []byte) *File {
	f := &File{Meta: Meta{PageSize: guessPageSize(data)}, data: data}
	f.High = uint64(len(data) / f.PageSize)
	return f
}

// checkBounds holds what the meta page says against the size of the file.
func (f *File) checkBounds() error {
	if have := uint64(len(f.data) / f.PageSize); f.High > have {
		return fmt.Errorf("is cut short: %d of %d pages", have, f.High)
	}
	if f.Tx > 1<<60 {
		return fault(f.Tx%2, "says that there were %d transactions", f.Tx)
	}
	if f.Root < 2 || f.Root >= f.High {
		return fault(f.Tx%2, "names page %d of %d as the root", f.Root, f.High)
	}
	return nil
}

// readMeta reads the meta page at an offset.
func readMeta(data []byte, at int) (Meta, error) {
	if len(data) < at+headerSize+metaSize {
		return Meta{}, ErrNotBolt
	}
	m := data[at+headerSize:][:metaSize]
	switch {
	case order.Uint32(m) != magic && order.Uint32(m[4:]) != version:
		return Meta{}, ErrNotBolt
	case order.Uint32(m) != magic:
		return Meta{}, errors.New("the meta page has another magic number")
	case order.Uint32(m[4:]) != version:
		return Meta{}, fmt.Errorf("the meta page has version %d instead of %d", order.Uint32(m[4:]), version)
	}
	sum := fnv.New64a()
	sum.Write(m[:metaSize-8])
	if sum.Sum64() != order.Uint64(m[metaSize-8:]) {
		return Meta{}, errors.New("the meta page has a wrong checksum")
	}
	meta := Meta{
		PageSize: int(order.Uint32(m[8:])),
		Root:     order.Uint64(m[16:]), Freelist: order.Uint64(m[32:]), High: order.Uint64(m[40:]), Tx: order.Uint64(m[48:]),
	}
	if meta.PageSize < 1024 || meta.PageSize > 1<<24 || meta.PageSize&(meta.PageSize-1) != 0 {
		return Meta{}, fmt.Errorf("the meta page says that pages have %d bytes", meta.PageSize)
	}
	return meta, nil
}

// guessPageSize finds out the size of pages where the first of them does not
// tell: there the second one is.
func guessPageSize(data []byte) int {
	for pageSize := 1024; pageSize <= 1<<24 && pageSize < len(data); pageSize *= 2 {
		if m, err := readMeta(data, pageSize); err == nil && m.PageSize == pageSize {
			return pageSize
		}
	}
	return os.Getpagesize()
}

// EncodeMeta returns the meta page that begins the state f, and its offset in
// the file.
func (f *File) EncodeMeta() (page []byte, at int64) {
	page = make([]byte, headerSize+metaSize)
	order.PutUint64(page, f.Tx%2)
	order.PutUint16(page[8:], 0x04)
	m := page[headerSize:]
	order.PutUint32(m, magic)
	order.PutUint32(m[4:], version)
	order.PutUint32(m[8:], uint32(f.PageSize))
	order.PutUint64(m[16:], f.Root)
	order.PutUint64(m[32:], noFreelist)
	order.PutUint64(m[40:], f.High)
	order.PutUint64(m[48:], f.Tx)
	sum := fnv.New64a()
	sum.Write(m[:metaSize-8])
	order.PutUint64(m[metaSize-8:], sum.Sum64())
	return page, int64(f.Tx%2) * int64(f.PageSize)
}

func fault(id uint64, format string, args ...any) *Fault {
	return &Fault{Page: id, What: fmt.Sprintf(format, args...)}
}

// Entry is a key and its value, or in the root bucket the header of a bucket.
type Entry struct {
	Key, Value []byte
	bucket     bool
}

// node is a page, taken apart.
type node struct {
	leaf     bool
	entries  []Entry  // of a leaf; of a branch: the keys
	children []uint64 // of a branch
}

// read reads the page id, with the pages that it flows over into.
func (f *File) read(id uint64) (*node, error) {
	if id < 2 || id >= f.High {
		return nil, fault(id, "is referred to, but there are only %d pages", f.High)
	}
	b := f.pages(id, 1)
	if b == nil {
		return nil, fault(id, "lies behind the end of the file")
	}
	n, err := f.readNode(id, b)
	if err != nil && f.Lenient {
		if likely := f.guess(id, b); likely != nil {
			return likely, nil
		}
	}
	return n, err
}

// guess takes apart a page whose header is wrong: the position of the first element
// tells how many there are, and the positions of all of them whether it is a leaf.
func (f *File) guess(id uint64, b []byte) *node {
	for _, leaf := range []bool{true, false} {
		at := 0
		if leaf {
			at = 4
		}
		count := int(order.Uint32(b[headerSize+at:]) / elementSize)
		if count == 0 || count > len(b)/elementSize {
			continue
		}
		size, err := nodeSize(b, leaf, count)
		if err != nil {
			continue
		}
		if whole := f.pages(id, uint64(size+int64(f.PageSize)-1)/uint64(f.PageSize)); whole != nil {
			return takeApart(whole, leaf, count)
		}
	}
	return nil
}

// readNode takes apart a page that begins with b.
func (f *File) readNode(id uint64, b []byte) (*node, error) {
	if got := order.Uint64(b); got != id {
		return nil, fault(id, "says that it is page %d", got)
	}
	flags, count, overflow := order.Uint16(b[8:]), int(order.Uint16(b[10:])), uint64(order.Uint32(b[12:]))
	if flags != flagLeaf && flags != flagBranch {
		return nil, fault(id, "is neither a leaf nor a branch (flags %#x)", flags)
	}
	size, err := nodeSize(b, flags == flagLeaf, count)
	if err != nil {
		return nil, fault(id, "%v", err)
	}
	pages := max(1, (size+int64(f.PageSize)-1)/int64(f.PageSize))
	if int64(overflow) != pages-1 {
		return nil, fault(id, "says that it has %d pages, and what is in it takes %d", overflow+1, pages)
	}
	if b = f.pages(id, overflow+1); b == nil {
		return nil, fault(id, "reaches behind the last page, %d", f.High-1)
	}
	return takeApart(b, flags == flagLeaf, count), nil
}

// pages returns n pages from id on; nil if they are not all below High.
func (f *File) pages(id, n uint64) []byte {
	end := (id + n) * uint64(f.PageSize)
	if id+n > f.High || end > uint64(len(f.data)) {
		return nil
	}
	return f.data[id*uint64(f.PageSize) : end]
}

// nodeSize returns how many bytes a page with count elements takes. bbolt writes
// the keys and values right behind the elements, without gaps and in order, so
// there is only one value that each position can have; a count that is wrong
// shows itself in the first. The elements of a page are all on its first one: only
// pages with few and large ones flow over.
func nodeSize(b []byte, leaf bool, count int) (int64, error) {
	end := int64(headerSize) + int64(count)*elementSize
	if end > int64(len(b)) {
		return 0, fmt.Errorf("%d elements are not on one page", count)
	}
	if count == 0 && !leaf {
		return 0, errors.New("is a branch without children")
	}
	for i := range count {
		at := int64(headerSize) + int64(i)*elementSize
		e := b[at:]
		pos, ksize, vsize := order.Uint32(e), order.Uint32(e[4:]), uint32(0)
		if leaf {
			pos, ksize, vsize = order.Uint32(e[4:]), order.Uint32(e[8:]), order.Uint32(e[12:])
			if flags := order.Uint32(e); flags&^bucketEntry != 0 {
				return 0, fmt.Errorf("element %d has flags %#x", i, flags)
			}
		}
		if at+int64(pos) != end {
			return 0, fmt.Errorf("element %d of %d lies at %d instead of %d", i, count, at+int64(pos), end)
		}
		if ksize == 0 || ksize > longestKey || vsize > longestValue {
			return 0, fmt.Errorf("element %d has a key of %d bytes and a value of %d", i, ksize, vsize)
		}
		end += int64(ksize) + int64(vsize)
	}
	return end, nil
}

// takeApart returns what is in a page that nodeSize has passed.
func takeApart(b []byte, leaf bool, count int) *node {
	n := &node{leaf: leaf, entries: make([]Entry, count)}
	at := headerSize + count*elementSize
	for i := range n.entries {
		e := b[headerSize+i*elementSize:]
		if !leaf {
			end := at + int(order.Uint32(e[4:]))
			n.entries[i].Key = b[at:end:end]
			n.children = append(n.children, order.Uint64(e[8:]))
			at = end
			continue
		}
		value := at + int(order.Uint32(e[8:]))
		end := value + int(order.Uint32(e[12:]))
		n.entries[i] = Entry{Key: b[at:value:value], Value: b[value:end:end], bucket: order.Uint32(e) == bucketEntry}
		at = end
	}
	return n
}

// checkOrder holds the keys of a page against each other and against the range
// that its parent gives it: from low, if not nil, to before high, if not nil.
func (n *node) checkOrder(id uint64, low, high []byte) error {
	for i := range n.entries {
		k := n.entries[i].Key
		switch {
		case i > 0 && bytes.Compare(n.entries[i-1].Key, k) >= 0:
			return fault(id, "key %d is not after the one before it", i)
		case i == 0 && low != nil && bytes.Compare(k, low) < 0:
			return fault(id, "begins before the key that leads to it")
		case high != nil && bytes.Compare(k, high) >= 0:
			return fault(id, "key %d belongs to the page after it", i)
		}
	}
	return nil
}
