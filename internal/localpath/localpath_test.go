package localpath

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"
)

// open returns the volumes in a directory of the test, which does not exist yet.
func open(t *testing.T) *Volumes {
	t.Helper()
	v, err := Open(filepath.Join(t.TempDir(), "data", "volumes"), slog.New(slog.DiscardHandler), nil)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func modeOf(t *testing.T, path string) string {
	t.Helper()
	info, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Mode().String()
}

// gone waits until there is nothing in what was set aside.
func gone(t *testing.T, v *Volumes) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		left, err := os.ReadDir(filepath.Join(v.dir, aside))
		if err == nil && len(left) == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("left are %v, %v", left, err)
		}
	}
}

func TestMake(t *testing.T) {
	t.Parallel()
	v := open(t)
	if _, err := os.Lstat(v.Dir()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("it is there before there is a volume: %v", err)
	}
	// What was left by a Make that was cut short is no volume, and in nobody's way.
	if err := os.MkdirAll(filepath.Join(v.dir, ".new-pvc-a"), 0o700); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := v.Make("pvc-a"); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(v.dir, "pvc-a")
	if got, want := modeOf(t, v.dir)+" "+modeOf(t, path), "drwx------ drwxrwxrwx"; got != want {
		t.Errorf("modes %s, want %s", got, want)
	}
	if err := os.WriteFile(filepath.Join(path, "f"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := v.Make("pvc-a"); err != nil || modeOf(t, filepath.Join(path, "f")) == "" {
		t.Errorf("made again: %v", err)
	}
	if err := os.WriteFile(filepath.Join(v.dir, "pvc-file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/", filepath.Join(v.dir, "pvc-link")); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"pvc-file", "pvc-link"} {
		if err := v.Make(name); !errors.Is(err, syscall.ENOTDIR) {
			t.Errorf("%s is taken for a volume: %v", name, err)
		}
	}
}

// A removal takes one rename, whatever there is; what it did not finish, the next engine does.
func TestRemove(t *testing.T) {
	t.Parallel()
	v := open(t)
	if err := v.Remove("pvc-none"); err != nil {
		t.Errorf("one that is not there: %v", err)
	}
	if err := v.Make("pvc-a"); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(t.TempDir(), "out")
	if err := os.WriteFile(out, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(v.dir, "pvc-a")
	if err := os.Symlink(filepath.Dir(out), filepath.Join(path, "link")); err != nil {
		t.Fatal(err)
	}
	for i := range 20_000 {
		if err := os.WriteFile(filepath.Join(path, fmt.Sprint(i)), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := v.Remove("pvc-a"); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the volume is there when Remove has returned: %v", err)
	}
	if err := v.Make("pvc-a"); err != nil {
		t.Errorf("its name is not free: %v", err)
	}
	gone(t, v)
	if _, err := os.Lstat(out); err != nil {
		t.Errorf("a link led out: %v", err)
	}

	if err := os.Rename(path, filepath.Join(v.dir, aside, "pvc-a.left")); err != nil {
		t.Fatal(err)
	}
	next, err := Open(v.dir, slog.New(slog.DiscardHandler), nil)
	if err != nil {
		t.Fatal(err)
	}
	gone(t, next)
}

// A disk that takes no directory says so, and leaves nothing that would be taken for a volume.
func TestNoRoom(t *testing.T) {
	t.Parallel()
	v := open(t)
	if err := os.MkdirAll(filepath.Dir(v.dir), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(v.dir, nil, 0o600); err != nil { // a file has its place
		t.Fatal(err)
	}
	if err := v.Make("pvc-a"); !errors.Is(err, syscall.ENOTDIR) {
		t.Errorf("made: %v", err)
	}
	if err := v.Remove("pvc-a"); err == nil {
		t.Error("removed from a file")
	}
}

// What a crash has left empty goes; whatever has a volume, or files, stays.
func TestTidy(t *testing.T) {
	t.Parallel()
	v := open(t)
	none := func(string) bool { return false }
	if err := v.Tidy(none); err != nil {
		t.Errorf("there is nothing: %v", err)
	}
	for _, name := range []string{"pvc-known", "pvc-left", "pvc-full", "default"} {
		if err := v.Make(name); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.WriteFile(filepath.Join(v.dir, "pvc-full", "f"), nil, 0o600), os.Mkdir(filepath.Join(v.dir, ".new-pvc-x"), 0o700)); err != nil {
		t.Fatal(err)
	}
	if err := v.Tidy(func(name string) bool { return name == "pvc-known" }); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(v.dir)
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if want := []string{"default", "pvc-full", "pvc-known"}; err != nil || !slices.Equal(names, want) {
		t.Errorf("left are %v, %v, want %v", names, err, want)
	}
}
