package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sampan-batch/sampan/internal/change"
)

// draftOf makes a store of records and opens it.
func draftOf(t *testing.T, rev uint64, records []Record) *Store {
	t.Helper()
	path := filepath.Join(t.TempDir(), "store.db")
	d, err := NewDraft(path, rev)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range records {
		if err := d.Put(r); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	return mustOpen(t, Options{Path: path})
}

// collect is an emit that keeps what it is given.
func collect(records *[]Record) func(Record) error {
	return func(r Record) error {
		*records = append(*records, Record{bytes.Clone(r.Key), bytes.Clone(r.Value)})
		return nil
	}
}

func TestCopyAndDraft(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "store.db")
	s := mustOpen(t, Options{Path: path})
	for i := range 500 {
		mustApply(t, s, createSet(damageKey(i), fmt.Sprint(i), false))
	}
	c := s.Copy()
	want := contentOf(s.View())
	mustApply(t, s, createSet(key("pods", "later"), "1", false)) // not in the copy
	var records []Record
	if err := c.Each(collect(&records)); err != nil {
		t.Fatal(err)
	}
	if c.Rev() != 500 || len(records) != 500 || c.Objects()["pods"] != 166 {
		t.Errorf("revision %d, %d records, %v", c.Rev(), len(records), c.Objects())
	}
	const rev = 1000000500
	restored := draftOf(t, rev, records)
	if got := contentOf(restored.View()); !maps.Equal(got, want) {
		t.Errorf("%d objects instead of %d", len(got), len(want))
	}
	if restored.View().Rev() != rev {
		t.Errorf("at revision %d", restored.View().Rev())
	}
	for _, after := range []uint64{0, 500, 501, rev - 1} {
		if _, err := restored.Watch("pods", after); !errors.Is(err, ErrGone) {
			t.Errorf("a watch after %d: %v", after, err)
		}
	}
	if _, err := restored.Watch("pods", rev); err != nil {
		t.Error(err)
	}
	if res := mustApply(t, restored, createSet(key("pods", "new"), "1", false)); res.Rev != rev+1 {
		t.Errorf("goes on at %d", res.Rev)
	}
}

func TestDraftRefuses(t *testing.T) {
	t.Parallel()
	k, v := entryOf(t, key("pods", "a"), 7)
	broken := bytes.Clone(v)
	broken[3] ^= 1
	for name, tc := range map[string]struct {
		records []Record
		want    string
	}{
		"damaged":       {[]Record{{k, broken}}, "pods/ns/a: wrong checksum"},
		"twice":         {[]Record{{k, v}, {k, v}}, "pods/ns/a comes twice"},
		"of the future": {[]Record{{k, mustValue(t, k, 9)}}, "at revision 9, and the store at 8"},
		"no key":        {[]Record{{[]byte("x"), v}}, "damaged entry"},
	} {
		path := filepath.Join(t.TempDir(), "store.db")
		d, err := NewDraft(path, 8)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range tc.records {
			if err == nil {
				err = d.Put(r)
			}
		}
		if err == nil {
			err = d.Close()
		}
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := NewDraft(os.Args[0], 1); err == nil {
		t.Error("a file was written over")
	}
}

func mustValue(t *testing.T, k []byte, rev uint64) []byte {
	t.Helper()
	data, err := jsonCodec{}.Encode(object(key("pods", "a"), "1"))
	if err != nil {
		t.Fatal(err)
	}
	return encodeValue(k, data, rev)
}

func TestInspect(t *testing.T) {
	t.Parallel()
	data, want := realStore(t, 600)
	path := filepath.Join(t.TempDir(), "store.db")
	if err := os.WriteFile(path, data, 0o400); err != nil {
		t.Fatal(err)
	}
	var records []Record
	sum, err := Inspect(path, jsonCodec{}, collect(&records))
	if err != nil {
		t.Fatal(err)
	}
	if len(records) != len(want) || !sum.Sealed || sum.InUse || len(sum.Warnings) > 0 || sum.Objects["pods"] == 0 {
		t.Errorf("%d records instead of %d: %+v", len(records), len(want), sum)
	}
	if now, _ := os.ReadFile(path); !bytes.Equal(now, data) {
		t.Error("the file was changed")
	}
	if got := contentOf(draftOf(t, sum.Revision, records).View()); !maps.Equal(got, want) {
		t.Error("another content")
	}
}

// A file is inspected while it is open, and written to.
func TestInspectInUse(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "store.db")
	s := mustOpen(t, Options{Path: path})
	for i := range 100 {
		mustApply(t, s, createSet(damageKey(i), fmt.Sprint(i), false))
	}
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for i := 1000; ; i++ {
			select {
			case <-stop:
				return
			default:
				mustApply(t, s, createSet(damageKey(i), fmt.Sprint(i), false))
			}
		}
	}()
	read := 0
	for range 30 {
		sum, err := Inspect(path, jsonCodec{}, nil)
		switch {
		case err == nil && !sum.InUse:
			t.Error("not in use")
		case err == nil:
			read++
		case !errors.Is(err, errMoved) && !strings.Contains(err.Error(), "written to while it was read"):
			t.Fatal(err)
		}
	}
	close(stop)
	<-done
	if sum, err := Inspect(path, jsonCodec{}, nil); err != nil || !sum.InUse {
		t.Errorf("at rest: %+v %v", sum, err)
	}
	t.Logf("%d of 30 times while it was written to", read)
}

// What can be read of a damaged file is put into another: everything but what hangs on
// the damage, and nothing that is not as it was.
func TestSalvage(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	data, want := realStore(t, 600)
	path := filepath.Join(t.TempDir(), "store.db")
	saved, lost := 0, 0
	for range 60 {
		damaged, what := damage(r, bytes.Clone(data))
		if err := os.WriteFile(path, damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		var records []Record
		sum, err := Salvage(path, jsonCodec{}, collect(&records))
		if err != nil {
			continue // cut to nothing
		}
		got := contentOf(draftOf(t, sum.Revision, records).View())
		for k, v := range got {
			if want[k] != v && len(sum.Left) == 0 {
				t.Fatalf("%s: salvaged %s = %q, which was %q; %+v", what, k, v, want[k], sum)
			}
		}
		if len(got) < len(want) && len(sum.Left) == 0 {
			t.Fatalf("%s: %d of %d objects, and nothing said: %+v", what, len(got), len(want), sum)
		}
		saved, lost = saved+len(got), lost+len(want)-len(got)
	}
	t.Logf("%d objects saved, %d not", saved, lost)
	if saved < 2*lost {
		t.Errorf("%d objects saved, and %d not", saved, lost)
	}
}

// One object is broken: the others are saved, and it is named.
func TestSalvageNamesTheObject(t *testing.T) {
	t.Parallel()
	data, want := realStore(t, 300)
	name := []byte(`"name":"object-000010"`)
	if !bytes.Contains(data, name) {
		t.Fatal("no such object")
	}
	data = bytes.ReplaceAll(data, name, bytes.ToUpper(name)) // dead copies, too
	path := filepath.Join(t.TempDir(), "store.db")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Open(Options{Path: path, Codec: jsonCodec{}})
	if err == nil || !strings.Contains(err.Error(), "/ns/object-000010: wrong checksum") {
		t.Errorf("open: %v", err)
	}
	n := 0
	sum, err := Salvage(path, jsonCodec{}, func(Record) error { n++; return nil })
	if err != nil || n != len(want)-1 || len(sum.Left) != 2 || !strings.Contains(sum.Left[0], "object-000010") || !strings.HasPrefix(sum.Left[1], "objects, or newer states") {
		t.Errorf("%d of %d, %+v, %v", n, len(want), sum, err)
	}
}

// A count that is one less loses nothing: the page's content tells what it was.
func TestSalvageOfHeaders(t *testing.T) {
	t.Parallel()
	data, want := realStore(t, 600)
	page := data[rootOf(t, data)*os.Getpagesize():]
	binary.NativeEndian.PutUint16(page[10:], binary.NativeEndian.Uint16(page[10:])-1)
	clear(data[:2*os.Getpagesize()]) // and both meta pages
	path := filepath.Join(t.TempDir(), "store.db")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	n := 0
	sum, err := Salvage(path, jsonCodec{}, func(Record) error { n++; return nil })
	if err != nil || n != len(want) || len(sum.Left) > 1 {
		t.Errorf("%d of %d: %+v %v", n, len(want), sum, err)
	}
}

func TestInspectUnknown(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "store.db")
	s := mustOpen(t, Options{Path: path})
	mustApply(t, s, change.Set{Writes: []change.Write{{Op: change.Create, Key: key("xq", "a"), Object: object(key("xq", "a"), "1")}}})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = mustOpen(t, Options{Path: path})
	var records []Record
	if err := s.Copy().Each(collect(&records)); err != nil || len(records) != 1 || s.Copy().Objects()["xq"] != 1 {
		t.Errorf("%d records, %v", len(records), err)
	}
	if got := draftOf(t, 5, records).Unknown(); got["xq"] != 1 {
		t.Errorf("unknown: %v", got)
	}
}
