package store

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sampan-batch/sampan/internal/change"
)

// marked is a value that can be found again, small or over several pages.
func marked(name string, times int) string { return strings.Repeat("marker-of-"+name+";", times) }

// remains reports which of the names' values can be found in a file.
func remains(t *testing.T, path string, names ...string) (found []string) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if bytes.Contains(data, []byte("marker-of-"+name)) {
			found = append(found, name)
		}
	}
	return found
}

// secretLives writes, replaces and deletes secrets among other objects, and
// returns what must be gone, and what must not.
func secretLives(t *testing.T, s *Store) (gone, kept []string) {
	t.Helper()
	apply := func(build func(*change.Set)) Result {
		t.Helper()
		var set change.Set
		build(&set)
		result, err := s.Apply(t.Context(), set)
		if err != nil {
			t.Fatal(err)
		}
		return result
	}
	for i := range 60 {
		other, secret := key("others", fmt.Sprint("o", i)), key("secrets", fmt.Sprint("s", i))
		size := 1 + 300*(i%5) // up to 5 pages
		apply(func(set *change.Set) { set.Create(other, object(other, marked(fmt.Sprint("other", i), 10))) })
		first := apply(func(set *change.Set) { set.Create(secret, object(secret, marked(fmt.Sprint("first", i, "."), size))) })
		second := apply(func(set *change.Set) {
			set.Update(secret, revOf(t, first.Objects[0]), object(secret, marked(fmt.Sprint("second", i, "."), size)))
		})
		gone = append(gone, fmt.Sprint("first", i, "."))
		kept = append(kept, fmt.Sprint("other", i))
		if i%2 == 0 {
			apply(func(set *change.Set) { set.Delete(secret, revOf(t, second.Objects[0])) })
			gone = append(gone, fmt.Sprint("second", i, "."))
		} else {
			kept = append(kept, fmt.Sprint("second", i, "."))
		}
	}
	return gone, kept
}

func openErasing(t *testing.T, path string, resources ...change.Resource) *Store {
	t.Helper()
	s, err := Open(Options{Path: path, Codec: jsonCodec{}, Erase: erases(resources...), Strict: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// What was deleted or replaced is not in the file: after Close, after a while,
// and, where the process was killed, after the next start.
func TestErase(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name string
		end  func(t *testing.T, s *Store, path string) string
	}{
		{"close", func(t *testing.T, s *Store, path string) string {
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			return path
		}},
		{"a while", func(t *testing.T, s *Store, path string) string {
			time.Sleep(5 * flushAfter)
			return path
		}},
		{"a crash", func(t *testing.T, s *Store, path string) string {
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			crashed := path + ".crashed"
			if err := os.WriteFile(crashed, data, 0o600); err != nil {
				t.Fatal(err)
			}
			openErasing(t, crashed, "secrets")
			time.Sleep(5 * flushAfter)
			return crashed
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				path := filepath.Join(t.TempDir(), "store.db")
				s := openErasing(t, path, "secrets")
				gone, kept := secretLives(t, s)
				path = test.end(t, s, path)
				if left := remains(t, path, gone...); left != nil {
					t.Errorf("%d of %d remain: %v", len(left), len(gone), left)
				}
				if left := remains(t, path, kept...); len(left) != len(kept) {
					t.Errorf("only %d of %d that were not deleted remain", len(left), len(kept))
				}
			})
		})
	}
	path := filepath.Join(t.TempDir(), "store.db")
	s := openErasing(t, path)
	gone, _ := secretLives(t, s)
	s.Close()
	if left := remains(t, path, gone...); left == nil {
		t.Error("nothing remains even without erasing: the test shows nothing")
	}
}

// An idle store that has nothing to erase does not write.
func TestEraseEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := openErasing(t, filepath.Join(t.TempDir(), "store.db"), "secrets")
		secretLives(t, s)
		time.Sleep(10 * flushAfter)
		writes := s.file.writes
		time.Sleep(100 * flushAfter)
		if s.file.writes != writes {
			t.Errorf("%d transactions for nothing", s.file.writes-writes)
		}
	})
}

// BenchmarkErase is a secret's replacement in a store with 64 MB of free pages,
// and what erasing adds.
func BenchmarkErase(b *testing.B) {
	for name, resources := range map[string]func(change.Resource) bool{"kept": nil, "erased": erases("secrets")} {
		b.Run(name, func(b *testing.B) {
			s, err := Open(Options{Path: filepath.Join(b.TempDir(), "store.db"), Codec: jsonCodec{}, Erase: resources})
			if err != nil {
				b.Fatal(err)
			}
			defer s.Close()
			apply := func(set change.Set) Result {
				result, err := s.Apply(b.Context(), set)
				if err != nil {
					b.Fatal(err)
				}
				return result
			}
			var fill, clear change.Set
			for i := range 64 {
				k := key("others", fmt.Sprint(i))
				fill.Create(k, object(k, strings.Repeat("x", 1<<20)))
			}
			for i, obj := range apply(fill).Objects {
				clear.Delete(key("others", fmt.Sprint(i)), change.RevOf(obj))
			}
			apply(clear)
			k := key("secrets", "s")
			var create change.Set
			create.Create(k, object(k, "x"))
			rev := change.RevOf(apply(create).Objects[0])
			for range 10 { // the rounds that are due
				var set change.Set
				set.Update(k, rev, object(k, "y"))
				rev = change.RevOf(apply(set).Objects[0])
			}
			for i := 0; b.Loop(); i++ {
				var set change.Set
				set.Update(k, rev, object(k, fmt.Sprint(i)))
				rev = change.RevOf(apply(set).Objects[0])
			}
		})
	}
}
