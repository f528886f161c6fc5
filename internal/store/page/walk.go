package page

import "fmt"

// Visit is given the entries of a leaf of a bucket, in the order of the keys; none
// if the bucket is empty. They are part of the mapped file.
type Visit func(bucket string, leaf []Entry) error

// Walk goes through every page of the state, bucket by bucket, in the order of
// their names. It ends with the first fault, or the first error of visit. If skip
// is not nil, it is told of each fault instead, and what hangs on that page is left out.
func (f *File) Walk(visit Visit, skip func(*Fault)) error {
	f.seen = make([]bool, f.High)
	w := &walk{file: f, visit: visit, skip: skip}
	root := func(_ string, leaf []Entry) error {
		for _, e := range leaf {
			if err := w.pass(w.bucket(e)); err != nil {
				return err
			}
		}
		return nil
	}
	top := &walk{file: f, visit: root, skip: skip, root: true}
	if err := top.pass(top.page(f.Root, nil, nil, 0)); err != nil {
		return err
	}
	return w.pass(f.checkFreelist())
}

// walk is on its way through one bucket after the other.
type walk struct {
	file  *File
	visit Visit
	skip  func(*Fault)
	name  string
	root  bool // this is the bucket that holds the others
}

// pass lets a fault pass if it is to be skipped.
func (w *walk) pass(err error) error {
	if fault, ok := err.(*Fault); ok && w.skip != nil {
		w.skip(fault)
		return nil
	}
	return err
}

// bucket walks the bucket that an entry of the root bucket describes.
func (w *walk) bucket(e Entry) error {
	w.name = string(e.Key)
	if !e.bucket || len(e.Value) < bucketSize {
		return fault(w.file.Root, "%q is not a bucket", e.Key)
	}
	root := order.Uint64(e.Value)
	if root != 0 {
		if len(e.Value) != bucketSize {
			return fault(w.file.Root, "the bucket %q is described by %d bytes", e.Key, len(e.Value))
		}
		return w.page(root, nil, nil, 0)
	}
	n, err := readInline(e.Value[bucketSize:])
	if err != nil {
		return fault(w.file.Root, "the bucket %q: %v", e.Key, err)
	}
	return w.leaf(w.file.Root, n, nil, nil)
}

// readInline takes apart the page of a small bucket, which is the rest of its entry.
func readInline(b []byte) (*node, error) {
	if len(b) < headerSize {
		return nil, fmt.Errorf("its page has %d bytes", len(b))
	}
	flags, count, overflow := order.Uint16(b[8:]), int(order.Uint16(b[10:])), order.Uint32(b[12:])
	if flags != flagLeaf || overflow != 0 {
		return nil, fmt.Errorf("its page has flags %#x and flows over %d pages", flags, overflow)
	}
	size, err := nodeSize(b, true, count)
	if err == nil && size != int64(len(b)) {
		err = fmt.Errorf("its page has %d bytes, and what is in it takes %d", len(b), size)
	}
	if err != nil {
		return nil, err
	}
	return takeApart(b, true, count), nil
}

// page walks the tree below a page, whose keys are in a range.
func (w *walk) page(id uint64, low, high []byte, depth int) error {
	if depth > deepest {
		return fault(id, "lies deeper than %d pages", deepest)
	}
	n, err := w.file.read(id)
	if err != nil {
		return err
	}
	if err := w.file.mark(id, n); err != nil {
		return err
	}
	if n.leaf {
		if len(n.entries) == 0 && depth > 0 {
			return fault(id, "is an empty leaf")
		}
		return w.leaf(id, n, low, high)
	}
	if err := n.checkOrder(id, low, high); err != nil {
		return err
	}
	for i, child := range n.children {
		next := high
		if i+1 < len(n.entries) {
			next = n.entries[i+1].Key
		}
		if err := w.pass(w.page(child, n.entries[i].Key, next, depth+1)); err != nil {
			return err
		}
	}
	return nil
}

func (w *walk) leaf(id uint64, n *node, low, high []byte) error {
	if err := n.checkOrder(id, low, high); err != nil {
		return err
	}
	if !w.root {
		for i := range n.entries {
			if n.entries[i].bucket {
				return fault(id, "%q is a bucket inside the bucket %q", n.entries[i].Key, w.name)
			}
		}
	}
	return w.visit(w.name, n.entries)
}

// mark notes that a page is in use, which it must be once.
func (f *File) mark(id uint64, n *node) error {
	for i := range n.size(f.PageSize) {
		if f.seen[id+i] {
			return fault(id+i, "is referred to twice")
		}
		f.seen[id+i] = true
	}
	return nil
}

// size returns how many pages a node takes.
func (n *node) size(pageSize int) uint64 {
	size := headerSize + len(n.entries)*elementSize
	for i := range n.entries {
		size += len(n.entries[i].Key) + len(n.entries[i].Value)
	}
	return uint64((size + pageSize - 1) / pageSize)
}

// checkFreelist holds a free list, which the store does not write but bbolt's
// own tools do, against what is in use.
func (f *File) checkFreelist() error {
	if f.Freelist == noFreelist {
		return nil
	}
	id := f.Freelist
	if id < 2 || id >= f.High {
		return fault(id, "is named as the free list, but there are only %d pages", f.High)
	}
	b := f.pages(id, 1)
	if b == nil {
		return fault(id, "lies behind the end of the file")
	}
	count, overflow := uint64(order.Uint16(b[10:])), uint64(order.Uint32(b[12:]))
	if order.Uint64(b) != id || order.Uint16(b[8:]) != flagFreelist || f.pages(id, overflow+1) == nil {
		return fault(id, "is not a free list")
	}
	b = f.pages(id, overflow+1)
	ids := b[headerSize:]
	if count == 0xffff {
		count, ids = order.Uint64(ids), ids[8:]
	}
	if count > uint64(len(ids))/8 {
		return fault(id, "has no room for %d free pages", count)
	}
	for i := range overflow + 1 {
		if f.seen[id+i] {
			return fault(id+i, "is referred to twice")
		}
		f.seen[id+i] = true
	}
	for i := range count {
		free := order.Uint64(ids[8*i:])
		if free < 2 || free >= f.High || f.seen[free] {
			return fault(id, "lists page %d, which is not free", free)
		}
		f.seen[free] = true
	}
	return nil
}

// Scan calls visit for every page of the file that is a leaf and whole, whether
// or not anything refers to it: what it holds may be current or long dead.
func (f *File) Scan(visit func(id uint64, leaf []Entry)) {
	all := &File{Meta: f.Meta, data: f.data}
	all.High = uint64(len(f.data) / f.PageSize)
	for id := uint64(2); id < all.High; id++ {
		if n, err := all.read(id); err == nil && n.leaf && n.checkOrder(id, nil, nil) == nil {
			visit(id, n.entries)
		}
	}
}

// Inline returns the entries of a bucket that is small enough to be described in
// place by e; nil if it is not.
func (e Entry) Inline() []Entry {
	if !e.bucket || len(e.Value) < bucketSize || order.Uint64(e.Value) != 0 {
		return nil
	}
	n, err := readInline(e.Value[bucketSize:])
	if err != nil || n.checkOrder(0, nil, nil) != nil {
		return nil
	}
	return n.entries
}
