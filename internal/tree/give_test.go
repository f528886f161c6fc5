package tree

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// giveTo gives path to a group.
func giveTo(t *testing.T, path string, gid int, matching bool) error {
	t.Helper()
	fd, err := unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	must(t, err)
	defer unix.Close(fd)
	return Give(fd, gid, matching)
}

// groupAndMode says what a file is, whatever it is.
func groupAndMode(t *testing.T, path string) string {
	t.Helper()
	var st unix.Stat_t
	must(t, unix.Lstat(path, &st))
	return fmt.Sprintf("%d %o", st.Gid, st.Mode&0o7777)
}

func TestGive(t *testing.T) {
	t.Parallel()
	needRoot(t)
	dir := t.TempDir()
	top, out := filepath.Join(dir, "top"), filepath.Join(dir, "out")
	must(t, os.MkdirAll(top+"/a/b", 0o700), os.Mkdir(top+"/deep", 0o755), os.WriteFile(out, nil, 0o600), os.WriteFile(top+"/a/file", nil, 0o400),
		os.WriteFile(top+"/a/b/run", nil, 0o755), os.Chmod(top+"/a/b/run", 0o755|fs.ModeSetuid), os.Symlink(out, top+"/link"),
		os.Symlink(dir, top+"/up"), unix.Mkfifo(top+"/fifo", 0o600))
	chain(t, top+"/deep", "d", 3000)
	for range 2 {
		must(t, giveTo(t, top, 4321, false))
		for path, want := range map[string]string{
			top: "4321 2770", top + "/a": "4321 2770", top + "/a/b": "4321 2770", top + "/a/file": "4321 660", top + "/a/b/run": "4321 4775",
			top + "/link": "4321 777", top + "/fifo": "4321 660", top + "/deep/d/d": "4321 2775", out: "0 600", dir: groupAndMode(t, dir),
		} {
			if got := groupAndMode(t, path); got != want {
				t.Errorf("%s: %s, want %s", strings.TrimPrefix(path, dir), got, want)
			}
		}
	}

	must(t, os.WriteFile(top+"/new", nil, 0o600), os.Lchown(top+"/new", 0, 0))
	must(t, giveTo(t, top, 4321, true))
	if got, want := groupAndMode(t, top+"/new"), "0 600"; got != want {
		t.Errorf("a tree whose top is right: %s, want %s", got, want)
	}
	must(t, giveTo(t, top, 4322, true))
	if got, want := groupAndMode(t, top+"/new"), "4322 660"; got != want {
		t.Errorf("a tree whose top is not: %s, want %s", got, want)
	}
}

// Whoever puts a link in the place of a file in the very moment has nothing else given.
func TestGiveRaces(t *testing.T) {
	t.Parallel()
	needRoot(t)
	dir := t.TempDir()
	top, out := filepath.Join(dir, "top"), filepath.Join(dir, "out")
	must(t, os.MkdirAll(top, 0o777), os.MkdirAll(out, 0o700), os.WriteFile(out+"/f", nil, 0o600))
	stop := make(chan struct{})
	var swapping sync.WaitGroup
	for i := range 4 {
		at := fmt.Sprintf("%s/%d", top, i)
		swapping.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				_ = os.WriteFile(at, nil, 0o600)
				_ = os.Remove(at)
				_ = os.Symlink([]string{out, out + "/f"}[n%2], at)
				_ = os.Remove(at)
				_ = os.Mkdir(at, 0o700)
				_ = os.Remove(at)
			}
		})
	}
	for end := time.Now().Add(2 * time.Second); time.Now().Before(end); {
		if err := giveTo(t, top, 4321, false); err != nil {
			t.Error(err)
		}
	}
	close(stop)
	swapping.Wait()
	for path, want := range map[string]string{out: "0 700", out + "/f": "0 600"} {
		if got := groupAndMode(t, path); got != want {
			t.Errorf("%s: %s, want %s", path, got, want)
		}
	}
}

// What belongs to others stays theirs, and the rest is given all the same.
func TestGiveForeign(t *testing.T) {
	if !isChild() {
		needRoot(t)
		dir, err := os.MkdirTemp("/tmp", "sampan-tree-*")
		must(t, err, os.Chmod(dir, 0o755))
		defer os.RemoveAll(dir)
		top := dir + "/tree"
		must(t, os.MkdirAll(top+"/locked", 0o700), os.WriteFile(top+"/root's", nil, 0o600), os.WriteFile(top+"/mine", nil, 0o600),
			os.Chown(top, nobody, 0), os.Chown(top+"/mine", nobody, 0))
		t.Setenv(foreignVar, top)
		runAs(t, &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}, "TestGiveForeign")
		for path, want := range map[string]string{top: "65534 2770", top + "/mine": "65534 660", top + "/root's": "0 600", top + "/locked": "0 700"} {
			if got := groupAndMode(t, path); got != want {
				t.Errorf("%s: %s, want %s", path, got, want)
			}
		}
		return
	}
	must(t, giveTo(t, os.Getenv(foreignVar), nobody, false))
}
