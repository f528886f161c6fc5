package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sampan-batch/sampan/internal/change"
)

// smallDisk mounts a file system of its own that is as large as that.
func smallDisk(t *testing.T, size string) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root may mount a file system")
	}
	dir := t.TempDir()
	if err := unix.Mount("small", dir, "tmpfs", 0, "size="+size); err != nil {
		t.Skipf("mount: %v", err)
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	return dir
}

// fill takes every block that is left on a disk.
func fill(t *testing.T, dir string) {
	t.Helper()
	f, err := os.Create(filepath.Join(dir, "filler"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	block := make([]byte, 4096)
	for {
		if _, err := f.Write(block); errors.Is(err, syscall.ENOSPC) {
			return
		} else if err != nil {
			t.Fatal(err)
		}
	}
}

// TestReserveOfADiskThatOthersFill: what others have filled does not keep the store from changing and
// deleting objects, if it has a reserve, and does if it has none.
func TestReserveOfADiskThatOthersFill(t *testing.T) {
	t.Parallel()
	for _, reserved := range []int64{2 << 20, 0} {
		t.Run(fmt.Sprint(reserved), func(t *testing.T) {
			t.Parallel()
			dir := smallDisk(t, "8m")
			s := mustOpen(t, Options{Path: filepath.Join(dir, "store.db"), Codec: jsonCodec{}, Reserve: reserved})
			text := strings.Repeat("x", 10000)
			keys := make([]change.Key, 100)
			revs := make([]uint64, len(keys))
			for i := range keys {
				keys[i] = key("configmaps", fmt.Sprintf("o%d", i))
				var set change.Set
				set.Create(keys[i], object(keys[i], text))
				revs[i] = mustApply(t, s, set).Rev
			}
			fill(t, dir)
			var failed error
			for i := 0; i < 100 && failed == nil && (reserved == 0 || i < 40); i++ { // more than the file has free pages for
				k := key("configmaps", fmt.Sprintf("late%d", i))
				var set change.Set
				set.Create(k, object(k, text))
				_, failed = s.Apply(t.Context(), set)
			}
			for i := 0; i < len(keys) && failed == nil; i++ {
				var set change.Set
				if i%2 == 0 {
					set.Delete(keys[i], revs[i])
				} else {
					set.Update(keys[i], revs[i], object(keys[i], "changed"))
				}
				_, failed = s.Apply(t.Context(), set)
			}
			if failed != nil && !strings.Contains(failed.Error(), syscall.ENOSPC.Error()) {
				t.Errorf("failed for another reason: %v", failed)
			}
			if reserved > 0 && failed != nil {
				t.Errorf("with a reserve: %v", failed)
			}
			if reserved == 0 && failed == nil {
				t.Error("nothing failed without a reserve: the disk was not full")
			}
		})
	}
}

// TestReserveIsMadeAgain: what was used of it is there again when there is room.
func TestReserveIsMadeAgain(t *testing.T) {
	t.Parallel()
	dir := smallDisk(t, "16m")
	path := filepath.Join(dir, "file")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	blocks := func() int64 {
		var st unix.Stat_t
		if err := unix.Stat(path, &st); err != nil {
			t.Fatal(err)
		}
		return st.Blocks * 512
	}
	none := func() int64 { return 0 }
	r := diskReserve{path: path, bytes: 4 << 20}
	r.keep(1<<20, none)
	if got := blocks(); got != 5<<20 {
		t.Fatalf("got %d", got)
	}
	r.keep(3<<19, none) // an eighth is used: not worth it
	if got := blocks(); got != 5<<20 {
		t.Errorf("early: got %d", got)
	}
	fill(t, dir)
	r.keep(3<<20, none)
	if got := blocks(); got != 5<<20 {
		t.Errorf("on a full disk: got %d", got)
	}
	os.Remove(filepath.Join(dir, "filler"))
	r.keep(3<<20, none)
	if got := blocks(); got != 7<<20 {
		t.Errorf("when there is room: got %d", got)
	}
	if info, _ := os.Stat(path); info.Size() != 0 {
		t.Errorf("the file is %d bytes long", info.Size())
	}
}
