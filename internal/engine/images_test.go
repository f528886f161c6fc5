package engine

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestHoldingALayer: the lock of a directory that has been removed, and perhaps made
// again, keeps nothing.
func TestHoldingALayer(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "layer")
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if !stillAt(path, f) {
		t.Error("it is there")
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if stillAt(path, f) {
		t.Error("it is gone")
	}
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	if stillAt(path, f) {
		t.Error("it is another one")
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil { // who removes it has the lock
		t.Fatal(err)
	}
	n := newNodeImages(nil, false)
	if err := n.holdLocked("uid", path); err != nil {
		t.Errorf("the one that is there: %v", err)
	}
	g, err := os.Open(path + "/../layer")
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	if unix.Flock(int(g.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
		t.Error("it is not held")
	}
	other := path + "2"
	if err := os.Mkdir(other, 0o700); err != nil {
		t.Fatal(err)
	}
	o, err := os.Open(other)
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	if err := unix.Flock(int(o.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	if err := n.holdLocked("uid", other); err == nil || !strings.Contains(err.Error(), "is being removed") {
		t.Errorf("one that is being removed: %v", err)
	}
}
