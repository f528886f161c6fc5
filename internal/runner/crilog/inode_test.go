package crilog

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// needExt4 fails where the temporary directory is of a file system that gives no
// inode number out again.
func needExt4(t *testing.T, dir string) {
	t.Helper()
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		t.Fatal(err)
	}
	if fs.Type != unix.EXT4_SUPER_MAGIC {
		t.Fatalf("%s is not on ext4 but on a file system of type %#x; give TMPDIR a directory on ext4", dir, fs.Type)
	}
}

func inode(t *testing.T, path string) uint64 {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Sys().(*syscall.Stat_t).Ino
}

// TestFollowWhenAnInodeNumberReturns: the file that a follower waits at is rotated
// away and removed, and while it is busy a later one gets the number of that inode.
// It has to watch the new file all the same, and not only to look now and then.
func TestFollowWhenAnInodeNumberReturns(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	needExt4(t, dir)
	// Somebody else may take the number.
	for n := range 50 {
		if followReturned(t, filepath.Join(dir, fmt.Sprint(n), "0.log")) {
			return
		}
	}
	t.Fatal("no file gets the inode number of one that is removed")
}

func followReturned(t *testing.T, path string) (returned bool) {
	w := mustOpen(t, path, Limits{Size: 10_000, Files: 2})
	busy, free := make(chan bool), make(chan bool)
	f := &follower{t: t, seen: make(chan string, 1000), done: make(chan error, 1)}
	ctx, cancel := context.WithCancel(t.Context())
	defer func() { cancel(); <-f.done }()
	go func() {
		f.done <- Read(ctx, path, Options{Follow: true}, writerFunc(func(p []byte) {
			if bytes.Contains(p, []byte("busy")) {
				busy <- true
				<-free
			}
			f.seen <- string(p)
		}))
	}()
	mustWrite(t, w, Stdout, "first\n")
	f.await("first\n")
	first := inode(t, path)
	whole := strings.Repeat("x", 10_000) + "\n"
	mustWrite(t, w, Stdout, whole)
	mustWrite(t, w, Stdout, "busy"+whole)
	select {
	case <-busy: // with the second file; the first is closed
	case <-time.After(20 * time.Second):
		t.Fatal("the second file is not read")
	}
	for n := 0; n < 20 && !returned; n++ {
		mustWrite(t, w, Stdout, whole)
		returned = inode(t, path) == first
	}
	mustWrite(t, w, Stdout, "caught up\n")
	free <- true
	f.await("caught up\n")
	if !returned {
		return false
	}
	time.Sleep(50 * time.Millisecond) // it waits now
	began := time.Now()
	const lines = 5
	for i := range lines {
		text := fmt.Sprintf("late %d\n", i)
		mustWrite(t, w, Stdout, text)
		f.await(text)
	}
	if took := time.Since(began); took > lines*netInterval/2 {
		t.Errorf("%d lines took %s: the file is not watched", lines, took)
	}
	return true
}
