package store

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sampan-batch/sampan/internal/change"
)

// TestNoDeleteIsRefused: creates, and updates that make objects larger, fill the
// store until it takes no more. All the same every object can be marked as
// deleted and deleted, one by one, with the store opened anew in between; and when
// there is room again, things are created again.
func TestNoDeleteIsRefused(t *testing.T) {
	t.Parallel()
	t.Run("a full disk", func(t *testing.T) {
		t.Parallel()
		dir := smallDisk(t, "24m")
		// Others take all but what the store has and keeps.
		if err := fillAndEmpty(dir, rand.Uint64(), func() { fill(t, dir) }); err != nil {
			t.Error(err)
		}
	})
	t.Run("a file size limit", func(t *testing.T) { // the limit is the process's
		t.Parallel()
		if out, err := child(t, "empty", t.TempDir()).CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, out)
		}
	})
}

// emptyLimited is fillAndEmpty in a process whose files may not be longer.
func emptyLimited(dir string) error {
	signal.Ignore(syscall.SIGXFSZ)
	return fillAndEmpty(dir, rand.Uint64(), func() {
		_ = syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: 4 << 20, Max: unix.RLIM_INFINITY})
	})
}

func fillAndEmpty(dir string, seed uint64, full func()) error {
	r := rand.New(rand.NewPCG(seed, 0))
	path := filepath.Join(dir, "store.db")
	open := func() (*Store, error) {
		return Open(Options{Path: path, Codec: jsonCodec{}, Index: indexData, Reserve: 2 << 20})
	}
	s, err := open()
	if err != nil {
		return err
	}
	text := func(n int) string { return strings.Repeat("x", n) }
	apply := func(op change.Op, k change.Key, obj change.Object) error {
		_, rev := state(s.View(), k)
		_, err := s.Apply(context.Background(), change.Set{Writes: []change.Write{{Op: op, Key: k, Rev: rev, Object: obj}}})
		return err
	}
	var keys []change.Key
	create := func() error {
		k := key("configmaps", fmt.Sprintf("o%06d", r.IntN(1e6)))
		if has(s, k) {
			return nil
		}
		err := apply(change.Create, k, object(k, text(100+r.IntN(60000)*r.IntN(2))))
		if err == nil {
			keys = append(keys, k)
		}
		return err
	}
	for range 40 {
		if err := create(); err != nil {
			return fmt.Errorf("seed %d: with room: %w", seed, err)
		}
	}
	full()
	for refused := 0; refused < 200; { // small ones may fit where large ones do not
		err := create()
		if err == nil {
			k := keys[r.IntN(len(keys))]
			err = apply(change.Update, k, object(k, text(60000)))
		}
		var room *RoomError
		switch {
		case err == nil:
		case !errors.As(err, &room) || !errors.Is(err, unix.ENOSPC) || room.Path != path || !strings.Contains(err.Error(), path):
			return fmt.Errorf("seed %d: refused for another reason, after %d objects: %w", seed, len(keys), err)
		default:
			refused++
		}
	}
	if err := s.Writable(); !errors.Is(err, unix.ENOSPC) {
		return fmt.Errorf("seed %d: the store says that it is well: %v", seed, err)
	}
	r.Shuffle(len(keys), func(i, j int) { keys[i], keys[j] = keys[j], keys[i] })
	for i, k := range keys {
		obj, _ := s.View().Get(k)
		marked := obj.DeepCopyObject().(change.Object)
		now := metav1.Now()
		marked.SetDeletionTimestamp(&now)
		marked.SetFinalizers([]string{"example.com/later"})
		err := apply(change.Update, k, marked)
		if err == nil {
			err = apply(change.Delete, k, nil)
		}
		if err != nil {
			return fmt.Errorf("seed %d: delete %d of %d: %w", seed, i, len(keys), err)
		}
		if i%(len(keys)/5) != 0 {
			continue
		}
		if err := s.Close(); err != nil {
			return fmt.Errorf("seed %d: close: %w", seed, err)
		}
		if s, err = open(); err != nil {
			return fmt.Errorf("seed %d: open: %w", seed, err)
		}
	}
	if err := create(); err != nil {
		return fmt.Errorf("seed %d: with room again: %w", seed, err)
	}
	return errors.Join(s.Check(), s.Close())
}

// TestQuota: a store that holds as much as it may takes nothing new, whatever room the disk has, until
// there is less in it; what there is can be changed all the while, and after a restart.
func TestQuota(t *testing.T) {
	t.Parallel()
	const most = 1 << 20
	path := filepath.Join(t.TempDir(), "store.db")
	open := func() *Store {
		s, err := Open(Options{Path: path, Codec: jsonCodec{}, Most: most})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	s := open()
	apply := func(op change.Op, name string, size int) error {
		k := key("configmaps", name)
		_, rev := state(s.View(), k)
		w := change.Write{Op: op, Key: k, Rev: rev}
		if op != change.Delete {
			w.Object = object(k, strings.Repeat("x", size))
		}
		_, err := s.Apply(t.Context(), change.Set{Writes: []change.Write{w}})
		return err
	}
	var full *FullError
	n := 0
	for ; !errors.As(apply(change.Create, fmt.Sprint("o", n), 10_000), &full); n++ {
		if n > most/10_000 {
			t.Fatalf("it has taken %d objects of 10 kB", n)
		}
	}
	if n < most/20_000 || full.Path != path || full.Most != most || full.Holds <= most || !strings.Contains(full.Error(), "holds 1 MiB, and may hold 1:") {
		t.Errorf("after %d objects: %v", n, full)
	}
	for range 2 {
		if err := apply(change.Update, "o1", 10_100); err != nil {
			t.Errorf("what there is cannot be changed: %v", err)
		}
		if err := apply(change.Update, "o1", 20_000); !errors.As(err, &full) {
			t.Errorf("it can become larger: %v", err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = open()
	}
	for i := range n / 4 {
		if err := apply(change.Delete, fmt.Sprint("o", i), 0); err != nil {
			t.Fatal(err)
		}
	}
	if err := apply(change.Create, "new", 10_000); err != nil {
		t.Errorf("with room again: %v", err)
	}
	if err := errors.Join(s.Check(), s.Close()); err != nil {
		t.Error(err)
	}
}
