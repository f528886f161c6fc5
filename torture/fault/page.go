// Package fault makes the faults of a disk: a database file with damaged pages, a
// disk that is full.
package fault

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
)

// pageSize is that of the databases that this machine makes.
var pageSize = 4096

// The layout of bbolt's pages, see its internal/common: a header of id (8 bytes),
// flags (2), count (2) and overflow (4), then elements of 16 bytes.
const (
	offFlags, offCount, offOverflow = 8, 10, 12
	headerSize, elementSize         = 16, 16
	branchPage, leafPage            = 1, 2
	metaTxID                        = headerSize + 48
)

// Damage is one way in which a file can be damaged.
type Damage struct {
	Name string
	// do changes a copy of the file; old is the file as it was some time before.
	do func(r *rand.Rand, file, old []byte) (changed []byte, what string)
}

// Apply returns a damaged copy, and what was done in words.
func (d Damage) Apply(r *rand.Rand, file, old []byte) ([]byte, string) {
	changed, what := d.do(r, slices.Clone(file), old)
	return changed, d.Name + ": " + what
}

// Damages are all ways.
func Damages() []Damage {
	return []Damage{
		{"bit flip", bitFlip},
		{"bit flip in a page in use", inPage(func(r *rand.Rand, page []byte) string {
			n := r.IntN(len(page))
			page[n] ^= 1 << r.IntN(8)
			return fmt.Sprintf("byte %d", n)
		})},
		{"page header: id", inPage(field(0, 8))},
		{"page header: flags", inPage(field(offFlags, 2))},
		{"page header: count", inPage(field(offCount, 2))},
		{"page header: overflow", inPage(field(offOverflow, 4))},
		{"page element", inPage(element)},
		{"page of zeros", inPage(func(_ *rand.Rand, page []byte) string { clear(page); return "all of it" })},
		{"page of noise", inPage(noise)},
		{"page as it was before", stalePage},
		{"two pages exchanged", exchanged},
		{"cut short", cut},
		{"cut to nothing", func(*rand.Rand, []byte, []byte) ([]byte, string) { return nil, "0 bytes" }},
		{"longer than it was", func(r *rand.Rand, file, _ []byte) ([]byte, string) {
			more := make([]byte, r.IntN(3*pageSize))
			noise(r, more)
			return append(file, more...), fmt.Sprintf("by %d bytes", len(more))
		}},
		{"newest meta page lost", metaLost},
		{"both meta pages damaged", func(r *rand.Rand, file, _ []byte) ([]byte, string) {
			noise(r, file[headerSize:128])
			noise(r, file[pageSize+headerSize:pageSize+128])
			return file, "both"
		}},
		{"noise instead of a file", func(r *rand.Rand, file, _ []byte) ([]byte, string) { return file, noise(r, file) }},
	}
}

// used are the branch and leaf pages of a file. Some are free: the file does not say.
func used(file []byte) (pages []int) {
	for n := 2; (n+1)*pageSize <= len(file); n++ {
		p := file[n*pageSize:]
		flags, id := binary.LittleEndian.Uint16(p[offFlags:]), binary.LittleEndian.Uint64(p)
		if id == uint64(n) && (flags == branchPage || flags == leafPage) {
			pages = append(pages, n)
		}
	}
	return pages
}

// inPage damages a page that is, or was, in use; every second time one of branches,
// if there are any, for they are few.
func inPage(do func(r *rand.Rand, page []byte) string) func(*rand.Rand, []byte, []byte) ([]byte, string) {
	return func(r *rand.Rand, file, _ []byte) ([]byte, string) {
		pages := used(file)
		branches := slices.DeleteFunc(slices.Clone(pages), func(n int) bool { return file[n*pageSize+offFlags] != branchPage })
		if len(branches) > 0 && r.IntN(2) == 0 {
			pages = branches
		}
		if len(pages) == 0 {
			return file, "no page"
		}
		n := pages[r.IntN(len(pages))]
		kind := "leaf"
		if file[n*pageSize+offFlags] == branchPage {
			kind = "branch"
		}
		return file, fmt.Sprintf("%s page %d, %s", kind, n, do(r, file[n*pageSize:(n+1)*pageSize]))
	}
}

// field makes a number of a header one more, one less, or anything.
func field(offset, size int) func(*rand.Rand, []byte) string {
	return func(r *rand.Rand, page []byte) string {
		b := page[offset : offset+size]
		var wide [8]byte
		copy(wide[:], b)
		was := binary.LittleEndian.Uint64(wide[:])
		now := []uint64{was + 1, was - 1, was ^ 1<<r.IntN(8*size), r.Uint64()}[r.IntN(4)]
		binary.LittleEndian.PutUint64(wide[:], now)
		copy(b, wide[:])
		return fmt.Sprintf("%d for %d", now, was)
	}
}

func element(r *rand.Rand, page []byte) string {
	count := int(binary.LittleEndian.Uint16(page[offCount:]))
	n := r.IntN(max(1, min(count, (len(page)-headerSize)/elementSize)))
	at := headerSize + n*elementSize + 4*r.IntN(4)
	return fmt.Sprintf("element %d at byte %d: %s", n, at, field(at, 4)(r, page))
}

func noise(r *rand.Rand, b []byte) string {
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return fmt.Sprintf("%d bytes", len(b))
}

func bitFlip(r *rand.Rand, file, _ []byte) ([]byte, string) {
	n := r.IntN(len(file))
	file[n] ^= 1 << r.IntN(8)
	return file, fmt.Sprintf("byte %d of page %d", n%pageSize, n/pageSize)
}

// stalePage is a write that the disk said it had done.
func stalePage(r *rand.Rand, file, old []byte) ([]byte, string) {
	var differ []int
	for _, n := range used(file) {
		if end := (n + 1) * pageSize; end <= len(old) && !slices.Equal(file[n*pageSize:end], old[n*pageSize:end]) {
			differ = append(differ, n)
		}
	}
	if len(differ) == 0 {
		return file, "no page"
	}
	n := differ[r.IntN(len(differ))]
	copy(file[n*pageSize:(n+1)*pageSize], old[n*pageSize:])
	return file, fmt.Sprintf("page %d", n)
}

func exchanged(r *rand.Rand, file, _ []byte) ([]byte, string) {
	pages := used(file)
	if len(pages) < 2 {
		return file, "no pages"
	}
	a, b := pages[r.IntN(len(pages))], pages[r.IntN(len(pages))]
	first, second := file[a*pageSize:(a+1)*pageSize], file[b*pageSize:(b+1)*pageSize]
	was := slices.Clone(first)
	copy(first, second)
	copy(second, was)
	return file, fmt.Sprintf("%d and %d", a, b)
}

func cut(r *rand.Rand, file, _ []byte) ([]byte, string) {
	n := r.IntN(len(file))
	if r.IntN(2) == 0 {
		n -= n % pageSize
	}
	return file[:n], fmt.Sprintf("%d of %d bytes", n, len(file))
}

// metaLost takes away the newest meta page: the engine would go on from the
// transaction before.
func metaLost(r *rand.Rand, file, _ []byte) ([]byte, string) {
	txid := func(n int) uint64 { return binary.LittleEndian.Uint64(file[n*pageSize+metaTxID:]) }
	newest := 0
	if txid(1) > txid(0) {
		newest = 1
	}
	file[newest*pageSize+headerSize+8+r.IntN(48)] ^= 1 << r.IntN(8)
	return file, fmt.Sprintf("page %d of transaction %d", newest, txid(newest))
}
