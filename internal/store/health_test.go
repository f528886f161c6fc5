package store

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"
)

// TestWritable: the store says that no write can succeed, and why, from the first
// that was refused until one succeeds, for which nobody has to ask.
func TestWritable(t *testing.T) {
	t.Parallel()
	for _, refusal := range []error{syscall.ENOSPC, syscall.EDQUOT, syscall.EFBIG, syscall.EIO, syscall.EROFS} {
		for _, label := range []string{faultBegin, faultPut, faultCommit} {
			t.Run(fmt.Sprint(label, refusal), func(t *testing.T) {
				t.Parallel()
				path := filepath.Join(t.TempDir(), "store.db")
				synctest.Test(t, func(t *testing.T) {
					d := &faultyDisk{}
					s := mustOpen(t, Options{Path: path, fault: d.fault})
					mustApply(t, s, createSet(key("pods", "first"), "", false))
					if err := s.Writable(); err != nil {
						t.Errorf("at first: %v", err)
					}
					d.set(label, refusal)
					set := createSet(key("leases", "node"), "", true)
					if _, err := s.Apply(t.Context(), set); err != nil {
						t.Fatal(err)
					}
					time.Sleep(2 * flushAfter)
					if err := s.Writable(); !errors.Is(err, refusal) || !strings.Contains(err.Error(), path) {
						t.Errorf("after a refusal: %v", err)
					}
					if s.Err() != nil {
						t.Errorf("a restart would cure it: %v", s.Err())
					}
					d.set(label, nil)
					time.Sleep(2 * flushAfter)
					if err := s.Writable(); err != nil {
						t.Errorf("after a success: %v", err)
					}
				})
			})
		}
	}
}

// TestWritableOfADiskThatHangs: a disk that does not answer is no disk to write to.
func TestWritableOfADiskThatHangs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := &faultyDisk{}
		s := mustOpen(t, Options{fault: d.fault})
		release := d.stop()
		start(s, createSet(key("pods", "a"), "", false))
		if err := s.Writable(); err != nil {
			t.Errorf("at once: %v", err)
		}
		time.Sleep(slowWrite + time.Second)
		if err := s.Writable(); err == nil || !strings.HasSuffix(err.Error(), "the disk has not answered for 11s") {
			t.Errorf("later: %v", err)
		}
		release()
		synctest.Wait()
		if err := s.Writable(); err != nil {
			t.Errorf("after it has: %v", err)
		}
	})
}

// TestFailStopIsTold: who waits for it hears that only a restart helps.
func TestFailStopIsTold(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := &faultyDisk{}
		s := mustOpen(t, Options{fault: d.fault})
		d.set(faultSync, unix.EIO)
		if _, err := s.Apply(t.Context(), createSet(key("pods", "a"), "", false)); err == nil {
			t.Fatal("the disk was not asked")
		}
		select {
		case <-s.Failed():
		default:
			t.Error("nobody was told")
		}
		for _, err := range []error{s.Err(), s.Writable()} {
			if !errors.Is(err, unix.EIO) || !strings.Contains(err.Error(), "restart") {
				t.Errorf("got %v", err)
			}
		}
	})
}
