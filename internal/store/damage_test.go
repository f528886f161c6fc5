package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.etcd.io/bbolt"

	"github.com/sampan-batch/sampan/internal/change"
)

// realStore makes a file such as an engine leaves when it is killed: objects of
// several resources, large and small, updated and deleted, and returns its bytes
// and what it holds. The newest meta page leads to the last write.
func realStore(t *testing.T, n int) (data []byte, want map[string]string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "store.db")
	s, err := Open(Options{Path: path, Codec: jsonCodec{}})
	if err != nil {
		t.Fatal(err)
	}
	var revs []uint64
	for i := 0; i < n; {
		var set change.Set
		for ; len(set.Writes) < 100 && i < n; i++ {
			k := damageKey(i)
			obj := object(k, fmt.Sprint(i))
			obj.Data["padding"] = strings.Repeat("x", i*7%900)
			if i%97 == 0 {
				obj.Data["padding"] = strings.Repeat("y", 20000)
			}
			set.Create(k, obj)
		}
		for _, obj := range mustApply(t, s, set).Objects {
			revs = append(revs, change.RevOf(obj))
		}
	}
	for i := 0; i < n; i += 11 {
		var set change.Set
		if i%2 == 0 {
			set.Delete(damageKey(i), revs[i])
		} else {
			set.Update(damageKey(i), revs[i], object(damageKey(i), "again"))
		}
		mustApply(t, s, set)
	}
	want = contentOf(s.View())
	if data, err = os.ReadFile(path); err != nil { // as it is now: killed
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return data, want
}

func damageKey(i int) change.Key {
	return key([]change.Resource{"configmaps", "jobs.batch", "pods"}[i%3], fmt.Sprintf("object-%06d", i))
}

// contentOf returns all that a view says.
func contentOf(v *View) map[string]string {
	content := map[string]string{}
	for name := range v.tables {
		for obj := range v.List(name, "") {
			content[string(name)+"/"+obj.GetName()] = obj.GetResourceVersion() + " " + valueOf(obj)
		}
	}
	return content
}

// laterWrites are made to a damaged store that was opened: enough to use free pages.
const laterWrites = 4

// openDamaged opens a file that holds data, and demands that the store holds want,
// exactly, or that the file is refused as damaged, named, and left as it is.
// Then it is written to and opened again, for damage that shows itself later.
func openDamaged(t *testing.T, path string, data []byte, want map[string]string) (opened bool, warnings []string) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := Open(Options{Path: path, Codec: jsonCodec{}})
	if err != nil {
		var damaged *DamagedError
		var format *FormatError
		if !errors.As(err, &damaged) && !errors.As(err, &format) || !strings.Contains(err.Error(), path) {
			t.Fatalf("refused with another error: %v", err)
		}
		if now, _ := os.ReadFile(path); !bytes.Equal(now, data) {
			t.Fatal("a file that was refused was changed")
		}
		return false, nil
	}
	got := contentOf(s.View())
	if len(got) != len(want) {
		t.Fatalf("opened with %d objects instead of %d; warnings %v", len(got), len(want), s.Warnings())
	}
	for k, v := range want {
		if got[k] != v {
			t.Fatalf("opened with %s = %q instead of %q", k, got[k], v)
		}
	}
	for i := range laterWrites {
		mustApply(t, s, createSet(key("pods", fmt.Sprint("later-", i)), "1", false))
	}
	if err := s.Check(); err != nil {
		t.Fatal(err)
	}
	warnings = s.Warnings()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if s, err = Open(Options{Path: path, Codec: jsonCodec{}}); err != nil {
		t.Fatalf("opened once, and not again: %v", err)
	}
	defer s.Close()
	if got := len(contentOf(s.View())); got != len(want)+laterWrites {
		t.Fatalf("at the second start there are %d objects instead of %d", got, len(want)+laterWrites)
	}
	return true, warnings
}

// A real store is damaged in many random ways. It opens with exactly the right
// content, or is refused; it never panics, and never holds less in silence.
func TestRandomDamage(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	data, want := realStore(t, 1500)
	path := filepath.Join(t.TempDir(), "store.db")
	rounds := 200
	if testing.Short() {
		rounds = 40
	}
	refused := 0
	for round := range rounds {
		damaged := bytes.Clone(data)
		var what string
		for range 1 + r.IntN(2)*r.IntN(3) {
			damaged, what = damage(r, damaged)
		}
		opened, _ := openDamaged(t, path, damaged, want)
		if t.Failed() {
			t.Fatalf("round %d: %s", round, what)
		}
		if !opened {
			refused++
		}
	}
	t.Logf("%d of %d were refused", refused, rounds)
	if refused == 0 || refused == rounds {
		t.Errorf("%d of %d were refused: the damage is not what it should be", refused, rounds)
	}
}

// damage changes data in one random way.
func damage(r *rand.Rand, data []byte) (damaged []byte, what string) {
	pageSize := os.Getpagesize()
	// Mostly pages that are in use: those with a header.
	id := r.IntN(len(data) / pageSize)
	for range 50 {
		if id = r.IntN(len(data) / pageSize); binary.NativeEndian.Uint64(data[id*pageSize:]) == uint64(id) {
			break
		}
	}
	page := data[id*pageSize:][:pageSize]
	switch r.IntN(9) {
	case 0:
		at := r.IntN(len(data))
		data[at] ^= 1 << r.IntN(8)
		return data, fmt.Sprintf("bit of byte %d", at)
	case 1:
		data = data[:r.IntN(len(data))]
		return data, fmt.Sprintf("cut to %d", len(data))
	case 2:
		count := binary.NativeEndian.Uint16(page[10:])
		binary.NativeEndian.PutUint16(page[10:], count+uint16(r.IntN(5)-2))
		return data, fmt.Sprintf("count of page %d", id)
	case 3:
		binary.NativeEndian.PutUint32(page[12:], uint32(r.IntN(6)))
		return data, fmt.Sprintf("overflow of page %d", id)
	case 4:
		at := r.IntN(16)
		page[at] ^= 1 << r.IntN(8)
		return data, fmt.Sprintf("header byte %d of page %d", at, id)
	case 5: // the elements
		at := 16 + r.IntN(400)
		page[at] = byte(r.IntN(256))
		return data, fmt.Sprintf("byte %d of page %d", at, id)
	case 6: // another page in its place
		from := r.IntN(len(data) / pageSize)
		copy(page, data[from*pageSize:][:pageSize])
		if r.IntN(2) == 0 {
			binary.NativeEndian.PutUint64(page, uint64(id))
		}
		return data, fmt.Sprintf("page %d over page %d", from, id)
	case 7:
		clear(page)
		return data, fmt.Sprintf("zeros over page %d", id)
	default:
		for i := range page {
			page[i] = byte(r.Uint32())
		}
		return data, fmt.Sprintf("noise over page %d", id)
	}
}

// newestMeta returns the offset of the newer meta page.
func newestMeta(data []byte) int {
	size := os.Getpagesize()
	tx := func(at int) uint64 { return binary.NativeEndian.Uint64(data[at+16+48:]) }
	if tx(0) > tx(size) {
		return 0
	}
	return size
}

// rootOf returns the page of the objects' tree, as the newest meta page leads to it.
func rootOf(t *testing.T, data []byte) int {
	t.Helper()
	size := os.Getpagesize()
	root := int(binary.NativeEndian.Uint64(data[newestMeta(data)+16+16:]))
	page := data[root*size:][:size]
	at := bytes.Index(page, []byte("objects")) // its value follows: the root page's number
	if at < 0 {
		t.Fatal("no objects bucket")
	}
	return int(binary.NativeEndian.Uint64(page[at+len("objects"):]))
}

// leavesOf returns the leaves below a page.
func leavesOf(data []byte, id int) (leaves []int) {
	page := data[id*os.Getpagesize():]
	if binary.NativeEndian.Uint16(page[8:]) == 2 {
		return []int{id}
	}
	for i := range int(binary.NativeEndian.Uint16(page[10:])) {
		leaves = append(leaves, leavesOf(data, int(binary.NativeEndian.Uint64(page[16+16*i+8:])))...)
	}
	return leaves
}

// Damage that made objects vanish without a word, each as it was found.
func TestDamageThatWasSilent(t *testing.T) {
	t.Parallel()
	data, want := realStore(t, 1500)
	size := os.Getpagesize()
	root := rootOf(t, data)
	branch := data[root*size:]
	if binary.NativeEndian.Uint16(branch[8:]) != 1 {
		t.Fatal("the root of the objects is not a branch page")
	}
	leaves := leavesOf(data, root)
	count := func(page []byte) uint16 { return binary.NativeEndian.Uint16(page[10:]) }
	overflow := func(page []byte) uint32 { return binary.NativeEndian.Uint32(page[12:]) }
	first := func(data []byte, want func(page []byte) bool) []byte {
		for _, id := range leaves {
			if page := data[id*size:]; want(page) {
				return page
			}
		}
		t.Fatal("no such leaf")
		return nil
	}
	for name, do := range map[string]func(data []byte){
		"branch count": func(data []byte) {
			page := data[root*size:]
			binary.NativeEndian.PutUint16(page[10:], count(page)-1)
		},
		"leaf count": func(data []byte) {
			page := first(data, func(page []byte) bool { return count(page) > 2 })
			binary.NativeEndian.PutUint16(page[10:], count(page)-1)
		},
		"leaf overflow": func(data []byte) {
			binary.NativeEndian.PutUint32(first(data, func(page []byte) bool { return overflow(page) == 0 })[12:], 1)
		},
		"leaf overflow, less": func(data []byte) {
			binary.NativeEndian.PutUint32(first(data, func(page []byte) bool { return overflow(page) > 0 })[12:], 0)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			damaged := bytes.Clone(data)
			do(damaged)
			if opened, _ := openDamaged(t, filepath.Join(t.TempDir(), "store.db"), damaged, want); opened {
				t.Error("opened")
			}
		})
	}
}

// An old page in the place of a new one is right in itself: only the sum tells.
func TestOldPages(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "store.db")
	s := mustOpen(t, Options{Path: path})
	var rev uint64
	for i := range 200 {
		res := mustApply(t, s, createSet(key("pods", fmt.Sprint("pod-", i)), "1", false))
		rev = res.Rev
	}
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var set change.Set
	set.Update(key("pods", "pod-199"), rev, object(key("pods", "pod-199"), "2"))
	mustApply(t, s, set)
	after, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	size := os.Getpagesize()
	oldRoot, newRoot := rootOf(t, before), rootOf(t, after)
	if oldRoot == newRoot {
		t.Fatal("the tree did not move")
	}
	stale := bytes.Clone(after)
	copy(stale[newRoot*size:][:size], before[oldRoot*size:][:size])
	binary.NativeEndian.PutUint64(stale[newRoot*size:], uint64(newRoot))
	if opened, _ := openDamaged(t, filepath.Join(t.TempDir(), "store.db"), stale, contentOf(s.View())); opened {
		t.Error("opened")
	}
}

// The newest meta page is lost after a kill: the last acknowledged write is found
// all the same, and the page is written anew.
func TestNewestMetaPageLost(t *testing.T) {
	t.Parallel()
	data, want := realStore(t, 300)
	for name, do := range map[string]func(meta []byte){
		"zeros": func(meta []byte) { clear(meta) },
		"a bit": func(meta []byte) { meta[16+40] ^= 4 },
		"the transaction": func(meta []byte) {
			binary.NativeEndian.PutUint64(meta[16+48:], binary.NativeEndian.Uint64(meta[16+48:])-2)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			damaged := bytes.Clone(data)
			do(damaged[newestMeta(damaged):][:os.Getpagesize()])
			opened, warnings := openDamaged(t, filepath.Join(t.TempDir(), "store.db"), damaged, want)
			if !opened || len(warnings) != 1 || !strings.Contains(warnings[0], "was found whole") {
				t.Errorf("opened %v, warnings %q", opened, warnings)
			}
		})
	}
	t.Run("the older one", func(t *testing.T) {
		damaged := bytes.Clone(data)
		clear(damaged[os.Getpagesize()-newestMeta(damaged):][:os.Getpagesize()])
		opened, warnings := openDamaged(t, filepath.Join(t.TempDir(), "store.db"), damaged, want)
		if !opened || len(warnings) != 1 || !strings.Contains(warnings[0], "nothing newer was found") {
			t.Errorf("opened %v, warnings %q", opened, warnings)
		}
	})
}

// unseal makes a file what an older program leaves: without a seal, or with one
// that it did not keep.
func unseal(t *testing.T, path string, do func(meta, objects *bbolt.Bucket) error) {
	t.Helper()
	edit(t, path, func(tx *bbolt.Tx) error { return do(tx.Bucket(metaBucket), tx.Bucket(objectsBucket)) })
}

// A store of an older program opens, and has a seal after its first commit.
func TestStoreWithoutSeal(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "store.db")
	s := mustOpen(t, Options{Path: path})
	mustApply(t, s, createSet(key("pods", "a"), "1", false))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	unseal(t, path, func(meta, _ *bbolt.Bucket) error { return meta.Delete(sealKey) })
	s = mustOpen(t, Options{Path: path})
	if len(s.Warnings()) != 0 {
		t.Errorf("warnings: %q", s.Warnings())
	}
	mustApply(t, s, createSet(key("pods", "b"), "1", false))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	// Now one of the two disappears, in a transaction that claims to be the sealed one.
	edit(t, path, func(tx *bbolt.Tx) error {
		if err := tx.Bucket(objectsBucket).Delete(encodeKey(key("pods", "a"))); err != nil {
			return err
		}
		s, err := decodeSeal(tx.Bucket(metaBucket).Get(sealKey))
		s.tx = uint64(tx.ID())
		return errors.Join(err, tx.Bucket(metaBucket).Put(sealKey, s.encode()))
	})
	_, err := Open(Options{Path: path, Codec: jsonCodec{}})
	var damaged *DamagedError
	if !errors.As(err, &damaged) || !strings.Contains(err.Error(), "1 of 2 objects are missing") {
		t.Errorf("got %v", err)
	}
}

// An older program writes to a newer store and leaves the seal as it is: that is
// said, and not taken for damage.
func TestStaleSeal(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "store.db")
	s := mustOpen(t, Options{Path: path})
	mustApply(t, s, createSet(key("pods", "a"), "1", false))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	unseal(t, path, func(meta, objects *bbolt.Bucket) error {
		k, v := entryOf(t, key("pods", "b"), 7)
		if err := meta.Put(markKey, binary.BigEndian.AppendUint64(nil, 7)); err != nil {
			return err
		}
		return objects.Put(k, v)
	})
	s = mustOpen(t, Options{Path: path})
	if n := s.Notes(); len(n) != 1 || !strings.Contains(n[0], "older program") || len(s.Warnings()) > 0 {
		t.Errorf("notes %q, warnings %q", n, s.Warnings())
	}
	if got := s.View().Len("pods"); got != 2 || s.View().Rev() != 7 {
		t.Errorf("%d pods at revision %d", got, s.View().Rev())
	}
	mustApply(t, s, createSet(key("pods", "c"), "1", false))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = mustOpen(t, Options{Path: path})
	if len(s.Notes()) != 0 {
		t.Errorf("notes after a commit: %q", s.Notes())
	}
}

func entryOf(t *testing.T, k change.Key, rev uint64) (key, value []byte) {
	t.Helper()
	data, err := jsonCodec{}.Encode(object(k, "1"))
	if err != nil {
		t.Fatal(err)
	}
	key = encodeKey(k)
	return key, encodeValue(key, data, rev)
}

// Objects of a newer program are left as they are, and are nobody's here.
func TestUnknownResources(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "store.db")
	s := mustOpen(t, Options{Path: path})
	mustApply(t, s, createSet(key("pods", "a"), "1", false))
	mustApply(t, s, createSet(key("xqueues.batch", "a"), "1", false))
	mustApply(t, s, createSet(key("xqueues.batch", "b"), "1", false))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	held := func() (v []byte) {
		edit(t, path, func(tx *bbolt.Tx) error {
			v = bytes.Clone(tx.Bucket(objectsBucket).Get(encodeKey(key("xqueues.batch", "b"))))
			return nil
		})
		return v
	}
	before := held()
	s = mustOpen(t, Options{Path: path})
	if got := s.Unknown(); len(got) != 1 || got["xqueues.batch"] != 2 {
		t.Errorf("unknown: %v", got)
	}
	if s.View().Len("xqueues.batch") != 0 || s.View().Len("pods") != 1 || s.View().Rev() != 3 {
		t.Errorf("%d queues, %d pods at revision %d", s.View().Len("xqueues.batch"), s.View().Len("pods"), s.View().Rev())
	}
	mustApply(t, s, createSet(key("pods", "b"), "1", false)) // and the strict check after it
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(held(), before) {
		t.Error("an unknown object was changed")
	}
}

// The file is damaged while the store is open: writes fail with an error that
// names it, and nothing panics.
func TestDamagedWhileOpen(t *testing.T) {
	t.Parallel()
	for name, do := range map[string]func(t *testing.T, path string){
		"noise": func(t *testing.T, path string) {
			f, err := os.OpenFile(path, os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			info, _ := f.Stat()
			noise := bytes.Repeat([]byte{0xa5}, int(info.Size())-2*os.Getpagesize())
			if _, err := f.WriteAt(noise, int64(2*os.Getpagesize())); err != nil {
				t.Fatal(err)
			}
		},
		"cut": func(t *testing.T, path string) {
			if err := os.Truncate(path, int64(2*os.Getpagesize())); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "store.db")
			s, err := Open(Options{Path: path, Codec: jsonCodec{}})
			if err != nil {
				t.Fatal(err)
			}
			for i := range 300 {
				mustApply(t, s, createSet(key("pods", fmt.Sprint(i)), "1", false))
			}
			do(t, path)
			_, err = s.Apply(t.Context(), createSet(key("pods", "new"), "1", false))
			var damaged *DamagedError
			if !errors.As(err, &damaged) || damaged.Path != path {
				t.Errorf("the write: %v", err)
			}
			if s.View().Len("pods") != 300 {
				t.Errorf("%d pods in view", s.View().Len("pods"))
			}
			s.Close() // ends, with an error
		})
	}
}

// The seal tells when an object that is replaced is not there any more.
func TestLostWhileOpen(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "store.db")
	s, err := Open(Options{Path: path, Codec: jsonCodec{}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	mustApply(t, s, createSet(key("pods", "a"), "1", false))
	err = s.file.db.Update(func(tx *bbolt.Tx) error { return tx.Bucket(objectsBucket).Delete(encodeKey(key("pods", "a"))) })
	if err != nil {
		t.Fatal(err)
	}
	var set change.Set
	set.Update(key("pods", "a"), 1, object(key("pods", "a"), "2"))
	_, err = s.Apply(t.Context(), set)
	var damaged *DamagedError
	if !errors.As(err, &damaged) || !strings.Contains(err.Error(), "pods/ns/a") {
		t.Errorf("got %v", err)
	}
}

// A meta page whose checksum is right and whose fields are wrong leads nowhere.
func TestMetaPageThatLies(t *testing.T) {
	t.Parallel()
	data, want := realStore(t, 300)
	for field, value := range map[int]uint64{16: 1 << 40, 32: 3, 40: 1 << 50, 48: 1<<64 - 1, 8: 12345} {
		damaged := bytes.Clone(data)
		meta := damaged[newestMeta(damaged)+16:]
		binary.NativeEndian.PutUint64(meta[field:], value)
		sum := fnv.New64a()
		sum.Write(meta[:56])
		binary.NativeEndian.PutUint64(meta[56:], sum.Sum64())
		openDamaged(t, filepath.Join(t.TempDir(), "store.db"), damaged, want)
	}
}
