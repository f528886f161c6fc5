package engine

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// fullDisk returns an empty directory of a file system without a free block, or
// without a free inode, and a function that makes it so: before, files can be
// made in it.
func fullDisk(t *testing.T, options string) (dir string, fill func()) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can mount")
	}
	dir = t.TempDir()
	if err := unix.Mount("disk", dir, "tmpfs", 0, "mode=700,"+options); err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	return dir, func() {
		t.Helper()
		blocks, err := os.Create(filepath.Join(dir, "blocks"))
		for err == nil {
			_, err = blocks.Write(make([]byte, 4096))
		}
		for i := 0; i < 100 && strings.Contains(options, "nr_inodes"); i++ {
			err = os.WriteFile(filepath.Join(dir, fmt.Sprint("inode", i)), nil, 0o600)
		}
		if !errors.Is(err, unix.ENOSPC) {
			t.Fatalf("the disk is not full: %v", err)
		}
	}
}

// TestLockOnFullDisk: the lock is taken on a full disk, whatever its file said
// before; and it says who has it, or nothing that is not true.
func TestLockOnFullDisk(t *testing.T) {
	t.Parallel()
	for name, before := range map[string]string{
		"nothing":               "",
		"a former holder":       `{"pid":1,"command":"sampan serve"}`,
		"what an engine leaves": strings.Repeat(" ", holderSize),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir, fill := fullDisk(t, "size=1m")
			if err := os.WriteFile(lockPath(dir), []byte(before), 0o600); err != nil {
				t.Fatal(err)
			}
			fill()
			for range 2 { // the second finds what the first leaves
				l, err := lockDir(dir, "sampan serve")
				if err != nil {
					t.Fatal(err)
				}
				l.listening("127.0.0.1:7443")
				h, held, err := holderOf(dir)
				if err != nil || !held || h.PID != os.Getpid() {
					t.Errorf("%+v, %v, %v", h, held, err)
				}
				if before != "" && (h.Command != "sampan serve" || h.Listen != "127.0.0.1:7443") {
					t.Errorf("there was room, and it says %+v", h)
				}
				var inUse *InUseError
				if _, err := lockDir(dir, "other"); !errors.As(err, &inUse) || !strings.Contains(err.Error(), fmt.Sprint("process ", os.Getpid())) {
					t.Errorf("a second one: %v", err)
				}
				l.release()
				if h, held, err = holderOf(dir); err != nil || held {
					t.Errorf("released: %+v, %v, %v", h, held, err)
				}
				if text, err := os.ReadFile(lockPath(dir)); err != nil || strings.TrimSpace(string(text)) != "" {
					t.Errorf("released, it says %q, %v", text, err)
				}
			}
		})
	}
}

// TestStopGoesByTheLock: who is ended is who has the lock, not who had it once
// and could not take back his name.
func TestStopGoesByTheLock(t *testing.T) {
	t.Parallel()
	bystander := exec.Command("sleep", "60")
	if err := bystander.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { bystander.Wait(); close(ended) }()
	t.Cleanup(func() { bystander.Process.Kill(); <-ended })
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	holder := holdLock(t, dir)
	text := fmt.Sprintf(`{"pid":%d,"command":"sampan serve"}`, bystander.Process.Pid)
	if err := os.WriteFile(lockPath(dir), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if did, err := Stop(t.Context(), dir, time.Second); err != nil || did != "stopped the engine; no container was running" {
		t.Errorf("%q, %v", did, err)
	}
	if !holder.ended(5 * time.Second) {
		t.Error("the holder was not ended")
	}
	if bystander.Process.Signal(syscall.Signal(0)) != nil {
		t.Error("the bystander was ended")
	}
}

func TestFlockHolder(t *testing.T) {
	t.Parallel()
	f, err := os.Create(filepath.Join(t.TempDir(), "f"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		t.Fatal(err)
	}
	file := fmt.Sprintf("%02x:%02x:%d", unix.Major(st.Dev), unix.Minor(st.Dev), st.Ino)
	for text, want := range map[string]int{
		"1: FLOCK  ADVISORY  WRITE 4711 " + file + " 0 EOF\n":                                                              4711,
		"1: POSIX  ADVISORY  WRITE 12 " + file + " 0 EOF\n2: FLOCK  ADVISORY  WRITE 13 " + file + " 0 EOF\n":               13,
		"1: FLOCK  ADVISORY  READ 4711 " + file + " 0 EOF\n":                                                               0,
		"1: FLOCK  ADVISORY  WRITE 4711 " + file + "1 0 EOF\n":                                                             0,
		"1: FLOCK  ADVISORY  WRITE 1 00:00:0 0 EOF\n1: -> FLOCK  ADVISORY  WRITE 4711 " + file + " 0 EOF\n\n1: FLOCK\nx\n": 0,
		"": 0,
	} {
		if got := flockHolder(text, f); got != want {
			t.Errorf("%q: %d", text, got)
		}
	}
}

// TestWritePrivateOnFullDisk: what is there and says the same stays, and what
// says something else is written over where it has the room. Nothing but the
// user's own file is.
func TestWritePrivateOnFullDisk(t *testing.T) {
	t.Parallel()
	for name, options := range map[string]string{"blocks": "size=1m", "inodes": "size=4m,nr_inodes=20"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir, fill := fullDisk(t, options)
			path, linked, link := filepath.Join(dir, "kubeconfig"), filepath.Join(dir, "linked"), filepath.Join(dir, "link")
			for _, p := range []string{path, linked} {
				if err := os.WriteFile(p, []byte("server: 127.0.0.1:7443"), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if err := errors.Join(os.Link(linked, linked+"2"), os.Symlink(linked, link)); err != nil {
				t.Fatal(err)
			}
			fill()
			for _, text := range []string{"server: 127.0.0.1:7443", "server: 127.0.0.1:40000", "server: [::1]:1"} {
				if err := writePrivate(path, []byte(text)); err != nil {
					t.Fatal(err)
				}
				got, err := os.ReadFile(path)
				if err != nil || string(got) != text {
					t.Errorf("it says %q, %v", got, err)
				}
				if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o600 {
					t.Errorf("%v, %v", st.Mode(), err)
				}
			}
			err := writePrivate(path, make([]byte, 8192))
			if !errors.Is(err, unix.ENOSPC) || !strings.Contains(err.Error(), path+": ") || !strings.Contains(err.Error(), "make room") {
				t.Errorf("too long: %v", err)
			}
			for _, p := range []string{linked, link} {
				if err := writePrivate(p, []byte("something else")); !errors.Is(err, unix.ENOSPC) {
					t.Errorf("%s: %v", p, err)
				}
			}
			if got, err := os.ReadFile(linked); err != nil || string(got) != "server: 127.0.0.1:7443" {
				t.Errorf("another's file says %q, %v", got, err)
			}
		})
	}
}

// TestLockOfTheDead has a lock whose holder has died, while a process that it forked
// just before has a copy of it for a moment longer: the next engine waits for that,
// instead of naming the dead.
func TestLockOfTheDead(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	// flock(1) takes the lock and ends; what holds it on is sleep.
	script := `exec 9>>"$1"; flock 9; sleep 0.5 & `
	if err := exec.Command("sh", "-c", script, "sh", lockPath(dir)).Run(); err != nil {
		t.Fatal(err)
	}
	if _, held, err := holderOf(dir); err != nil || !held {
		t.Fatalf("nobody holds it: %v", err)
	}
	began := time.Now()
	l, err := lockDir(dir, "the next")
	if err != nil {
		t.Fatal(err)
	}
	if waited := time.Since(began); waited > 2*time.Second {
		t.Errorf("waited for %s", waited)
	}
	began = time.Now()
	var inUse *InUseError
	if _, err := lockDir(dir, "another"); !errors.As(err, &inUse) || time.Since(began) > time.Second {
		t.Errorf("a lock of the living: %v after %s", err, time.Since(began))
	}
	l.release()
}
