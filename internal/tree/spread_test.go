package tree_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sampan-batch/sampan/internal/tree"
)

// TestSpread: the flag is there where the file system knows it, and the others stay.
func TestSpread(t *testing.T) {
	const noDump, top = 0x40, 0x20000 // chattr(1): "d", "T"
	dir := t.TempDir()
	f, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	set := func(flags int) error { return unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, flags) }
	before, err := unix.IoctlGetUint32(int(f.Fd()), unix.FS_IOC_GETFLAGS)
	knows := err == nil && set(int(before)|top) == nil && set(int(before)|noDump) == nil
	for range 2 { // the second time it is there
		if err := tree.Spread(dir); (err == nil) != knows {
			t.Fatalf("the file system knows the flag: %t; got %v", knows, err)
		}
	}
	if got, err := unix.IoctlGetUint32(int(f.Fd()), unix.FS_IOC_GETFLAGS); knows && (err != nil || got != before|noDump|top) {
		t.Errorf("%#x became %#x, %v", before|noDump, got, err)
	}
	if err := tree.Spread(filepath.Join(dir, "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}
