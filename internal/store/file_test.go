package store

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"go.etcd.io/bbolt"

	"github.com/sampan-batch/sampan/internal/change"
)

// edit changes a database behind the store's back.
func edit(t *testing.T, path string, do func(tx *bbolt.Tx) error) {
	t.Helper()
	db, err := bbolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := db.Update(do); err != nil {
		t.Fatal(err)
	}
}

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	made := func(t *testing.T, do func(tx *bbolt.Tx) error) string {
		path := filepath.Join(t.TempDir(), "store.db")
		s := mustOpen(t, Options{Path: path})
		mustApply(t, s, createSet(key("pods", "a"), "1", false))
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		edit(t, path, do)
		return path
	}
	for name, tc := range map[string]struct {
		path func(t *testing.T) string
		want string
	}{
		"newer format": {func(t *testing.T) string {
			return made(t, func(tx *bbolt.Tx) error {
				return tx.Bucket(metaBucket).Put(formatKey, binary.BigEndian.AppendUint64(nil, formatVersion+1))
			})
		}, "has format 2, this program knows none above 1"},
		"no format": {func(t *testing.T) string {
			return made(t, func(tx *bbolt.Tx) error { return tx.Bucket(metaBucket).Delete(formatKey) })
		}, "does not say which format"},
		"another database": {func(t *testing.T) string {
			path := filepath.Join(t.TempDir(), "other.db")
			edit(t, path, func(tx *bbolt.Tx) error { _, err := tx.CreateBucket([]byte("key")); return err })
			return path
		}, "is a database, but not one of Sampan"},
		"no database": {func(t *testing.T) string {
			path := filepath.Join(t.TempDir(), "text")
			if err := os.WriteFile(path, []byte(strings.Repeat("hello ", 4000)), 0o600); err != nil {
				t.Fatal(err)
			}
			return path
		}, "is not a database"},
		"cut short": {func(t *testing.T) string {
			path := made(t, func(tx *bbolt.Tx) error { return nil })
			if err := os.Truncate(path, 12288); err != nil {
				t.Fatal(err)
			}
			return path
		}, "is cut short"},
		"empty file": {func(t *testing.T) string {
			path := filepath.Join(t.TempDir(), "empty")
			if err := os.WriteFile(path, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			return path
		}, "is empty"},
		"directory": {func(t *testing.T) string { return t.TempDir() }, "is a directory"},
		"pipe": {func(t *testing.T) string {
			path := filepath.Join(t.TempDir(), "pipe")
			if err := syscall.Mkfifo(path, 0o600); err != nil {
				t.Fatal(err)
			}
			return path
		}, "is not a file"},
		"no directory": {func(t *testing.T) string {
			return filepath.Join(t.TempDir(), "none", "store.db")
		}, "no such file or directory"},
		"damaged key": {func(t *testing.T) string {
			return made(t, func(tx *bbolt.Tx) error { return tx.Bucket(objectsBucket).Put([]byte("pods"), make([]byte, 20)) })
		}, `damaged entry at "pods"`},
		"damaged object": {func(t *testing.T) string {
			return made(t, func(tx *bbolt.Tx) error {
				return tx.Bucket(objectsBucket).Put(encodeKey(key("pods", "b")), encodeValue(encodeKey(key("pods", "b")), []byte("nonsense"), 1))
			})
		}, `decode pods/ns/b`},
		"damaged byte": {func(t *testing.T) string {
			return made(t, func(tx *bbolt.Tx) error {
				k := encodeKey(key("pods", "a"))
				v := bytes.Clone(tx.Bucket(objectsBucket).Get(k))
				v[20] ^= 1
				return tx.Bucket(objectsBucket).Put(k, v)
			})
		}, "wrong checksum"},
		"past the mark": {func(t *testing.T) string {
			return made(t, func(tx *bbolt.Tx) error { return tx.Bucket(metaBucket).Delete(markKey) })
		}, "past the mark"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := tc.path(t)
			s, err := Open(Options{Path: path, Codec: jsonCodec{}})
			if err == nil {
				s.Close()
				t.Fatal("opened")
			}
			if !strings.Contains(err.Error(), tc.want) || !strings.Contains(err.Error(), path) {
				t.Errorf("want %q with the path, got: %v", tc.want, err)
			}
		})
	}
}

func TestOpenRefusesWhatIsInUse(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "store.db")
	s := mustOpen(t, Options{Path: path})
	if _, err := Open(Options{Path: path, Codec: jsonCodec{}}); err == nil || !strings.Contains(err.Error(), path+" is in use by another process") {
		t.Errorf("second open: %v", err)
	}
	mustApply(t, s, createSet(key("pods", "a"), "1", false))
}

// A creation that was cut short at any point is begun again.
func TestOpenAfterHalfACreation(t *testing.T) {
	t.Parallel()
	whole := filepath.Join(t.TempDir(), "whole")
	if err := mustOpen(t, Options{Path: whole}).Close(); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(whole)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{0, 1, 4096, 8192, 12288, len(data)} {
		path := filepath.Join(t.TempDir(), "store.db")
		if err := os.WriteFile(path+".new", data[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		s := mustOpen(t, Options{Path: path})
		mustApply(t, s, createSet(key("pods", "a"), "1", false))
		if exists(path + ".new") {
			t.Errorf("after %d bytes: the draft is still there", n)
		}
	}
}

func TestCheckFindsDamage(t *testing.T) {
	t.Parallel()
	open := func(t *testing.T) *Store {
		s, err := Open(Options{Path: filepath.Join(t.TempDir(), "store.db"), Codec: jsonCodec{}, Index: indexData})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		mustApply(t, s, createSet(key("pods", "a"), "1", false))
		if err := s.Check(); err != nil {
			t.Fatal(err)
		}
		return s
	}
	for name, tc := range map[string]struct {
		damage func(s *Store) error
		want   string
	}{
		"a changed file": {func(s *Store) error {
			return s.file.db.Update(func(tx *bbolt.Tx) error {
				k := encodeKey(key("pods", "a"))
				v := encodeValue(k, []byte("other"), 1)
				s.file.sealed.remove(k, tx.Bucket(objectsBucket).Get(k))
				s.file.sealed.add(k, v)
				return tx.Bucket(objectsBucket).Put(k, v)
			})
		}, "the file holds something else"},
		"more in the file": {func(s *Store) error {
			return s.file.db.Update(func(tx *bbolt.Tx) error {
				k := encodeKey(key("pods", "b"))
				v := encodeValue(k, []byte("other"), 1)
				s.file.sealed.add(k, v)
				return tx.Bucket(objectsBucket).Put(k, v)
			})
		}, "the file holds 2 objects, memory 1"},
		"more than was counted": {func(s *Store) error {
			return s.file.db.Update(func(tx *bbolt.Tx) error {
				k := encodeKey(key("pods", "b"))
				return tx.Bucket(objectsBucket).Put(k, encodeValue(k, []byte("other"), 1))
			})
		}, "there are 2 objects instead of 1"},
		"nonsense in the file": {func(s *Store) error {
			return s.file.db.Update(func(tx *bbolt.Tx) error {
				return tx.Bucket(objectsBucket).Put(encodeKey(key("pods", "b")), []byte("other"))
			})
		}, `damaged entry at "pods`},
		"an object changed in place": {func(s *Store) error {
			obj, _ := s.View().Get(key("pods", "a"))
			obj.SetResourceVersion("7")
			return nil
		}, "is at revision 1, says 7"},
		"an index entry lost": {func(s *Store) error {
			v := s.View()
			v.tables["pods"].terms.Delete(&termed{"value", v.item(key("pods", "a"))})
			return nil
		}, `is not indexed under "value"`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := open(t)
			if err := tc.damage(s); err != nil {
				t.Fatal(err)
			}
			if err := s.Check(); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("want %q, got: %v", tc.want, err)
			}
		})
	}
}

func TestEncodingErrors(t *testing.T) {
	t.Parallel()
	s, err := Open(Options{Path: filepath.Join(t.TempDir(), "store.db"), Codec: badCodec{}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := s.Apply(context.Background(), createSet(key("pods", "a"), "1", false)); !errors.Is(err, errBad) {
		t.Error(err)
	}
	if s.View().Rev() != 0 {
		t.Error("something was written")
	}
	if _, err := Open(Options{Path: filepath.Join(t.TempDir(), "store.db")}); err == nil {
		t.Error("opened without a codec")
	}
}

var errBad = errors.New("bad object")

type badCodec struct{ jsonCodec }

func (badCodec) Encode(change.Object) ([]byte, error) { return nil, errBad }
