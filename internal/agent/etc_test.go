package agent

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestRemoveFile: a file that a container has made immutable goes too, and one
// that stays is said.
func TestRemoveFile(t *testing.T) {
	t.Parallel()
	var said bytes.Buffer
	a := &Agent{log: slog.New(slog.NewTextHandler(&said, nil))}
	dir := t.TempDir()
	path := filepath.Join(dir, "hosts")
	a.removeFile(path)
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() == 0 {
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		const immutable = 0x10
		if err := unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, immutable); err == nil && unix.Unlink(path) == nil {
			t.Fatal("the attribute does nothing")
		}
		f.Close()
	}
	a.removeFile(path)
	if _, err := os.Lstat(path); !os.IsNotExist(err) || said.Len() > 0 {
		t.Errorf("it stays: %v, %s", err, &said)
	}
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() == 0 { // a mount is what root cannot remove
		if err := unix.Mount("stays", path, "tmpfs", 0, ""); err != nil {
			t.Skip(err)
		}
		defer unix.Unmount(path, unix.MNT_DETACH)
	} else if err := os.Chmod(dir, 0o500); err != nil {
		t.Fatal(err)
	} else {
		defer os.Chmod(dir, 0o700)
	}
	if a.removeFile(path); strings.Count(said.String(), "cannot be removed") != 1 || !strings.Contains(said.String(), path) {
		t.Errorf("said %s", &said)
	}
}
