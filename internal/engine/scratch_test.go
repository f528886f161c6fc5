package engine

import (
	"os"
	"path/filepath"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

func TestScratch(t *testing.T) {
	t.Parallel()
	parent := t.TempDir()
	alive, err := NewScratch(parent)
	if err != nil {
		t.Fatal(err)
	}
	dead, err := NewScratch(parent)
	if err != nil {
		t.Fatal(err)
	}
	dead.Release() // as the kernel does, of who is killed

	// What looks like one, and is not: somebody's own, of another name, a link.
	own, other := filepath.Join(parent, "sampan-run-1"), filepath.Join(parent, "sampan-run-mine")
	for _, dir := range []string{own, other} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "run.json"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(other, scratchMark), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(other, filepath.Join(parent, "sampan-run-2")); err != nil {
		t.Fatal(err)
	}

	// A supervisor still ends what runs in it.
	busy, err := NewScratch(parent)
	if err != nil {
		t.Fatal(err)
	}
	busy.Release()
	home := filepath.Join(busy.Dir, "run", string(classes[0]))
	if err := os.MkdirAll(home, 0o700); err != nil {
		t.Fatal(err)
	}
	lock, err := os.Create(filepath.Join(home, "lock"))
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}

	found := Abandoned(parent)
	if len(found) != 1 || found[0].Dir != dead.Dir {
		t.Fatalf("abandoned are %v, want %s", found, dead.Dir)
	}
	if again := Abandoned(parent); len(again) != 0 {
		t.Errorf("another one finds %v, too", again)
	}
	if err := found[0].Discard(); err != nil {
		t.Fatal(err)
	}
	lock.Close()
	if found = Abandoned(parent); len(found) != 1 || found[0].Dir != busy.Dir {
		t.Fatalf("abandoned are %v, want %s", found, busy.Dir)
	}
	for _, s := range append(found, alive) {
		if err := s.Discard(); err != nil {
			t.Error(err)
		}
	}
	left, err := os.ReadDir(parent)
	if err != nil {
		t.Fatal(err)
	}
	if len(left) != 3 {
		t.Errorf("%v are left, want what is somebody's", left)
	}
}

// TestScratchRace has some make directories while others look for abandoned ones: nobody loses his.
func TestScratchRace(t *testing.T) {
	t.Parallel()
	parent := t.TempDir()
	var makers, sweepers sync.WaitGroup
	done := make(chan struct{})
	for range 2 {
		sweepers.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				for _, s := range Abandoned(parent) {
					if err := s.Discard(); err != nil {
						t.Error(err)
					}
				}
			}
		})
		makers.Go(func() {
			for range 300 {
				s, err := NewScratch(parent)
				if err != nil {
					t.Error(err)
					return
				}
				if err := os.WriteFile(filepath.Join(s.Dir, "mine"), nil, 0o600); err != nil {
					t.Errorf("it is gone: %v", err)
				}
				if err := s.Discard(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	makers.Wait()
	close(done)
	sweepers.Wait()
	for _, s := range Abandoned(parent) {
		_ = s.Discard()
	}
	if left, _ := os.ReadDir(parent); len(left) != 0 {
		t.Errorf("%v are left", left)
	}
}
