package crilog

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// smallDisk mounts a file system of its own. fill takes all that is left of it, and
// returns what gives it back.
func smallDisk(t *testing.T, options string) (dir string, fill func() (free func())) {
	t.Helper()
	dir = t.TempDir()
	if err := unix.Mount("small", dir, "tmpfs", 0, options); err != nil {
		t.Fatalf("mount a small file system, which only root may: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	return dir, func() func() {
		var names []string
		block := make([]byte, 4096)
		for n := 0; ; n++ {
			name := filepath.Join(dir, fmt.Sprint("filler", n))
			f, err := os.Create(name)
			if err == nil {
				names = append(names, name)
				for err == nil {
					_, err = f.Write(block)
				}
				f.Close()
			}
			if errors.Is(err, unix.ENOSPC) {
				return func() {
					for _, name := range names {
						if err := os.Remove(name); err != nil {
							t.Fatal(err)
						}
					}
				}
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestWriteOnFullDisk: what is lost is counted to the byte, and what was begun is
// ended, so that the log consists of whole lines.
func TestWriteOnFullDisk(t *testing.T) {
	t.Parallel()
	dir, fill := smallDisk(t, "size=1m")
	path := filepath.Join(dir, "0.log")
	w := mustOpen(t, path, Limits{})
	said, lost := int64(0), int64(0)
	write := func(stream Stream, text string) {
		t.Helper()
		said += int64(len(text))
		var l *LostError
		if err := w.Write(stream, []byte(text)); errors.As(err, &l) {
			if !errors.Is(err, unix.ENOSPC) {
				t.Errorf("got %v", err)
			}
			lost += l.Bytes
		} else if err != nil {
			t.Fatal(err)
		}
	}
	long := strings.Repeat("long ", MaxLine/4) + "\n"
	write(Stdout, "first\n")
	for range 3 { // rounds of a disk that is full and is not
		free := fill()
		before := lost
		for i := range 2000 {
			write([]Stream{Stdout, Stderr}[i%2], fmt.Sprintf("line %d\n", i))
		}
		write(Stdout, long)
		if lost == before {
			t.Error("the disk was not full")
		}
		free()
		write(Stdout, "there is room\n")
	}
	fill()
	for i := range 100 {
		write(Stdout, fmt.Sprintf("line %d\n", i))
	}
	var l *LostError
	if err := w.Close(); errors.As(err, &l) {
		lost += l.Bytes
	}
	got := mustRead(t, path, Options{})
	for line := range strings.Lines(got) {
		if strings.Contains(line, "stdout") || strings.Contains(line, "stderr") {
			t.Errorf("two lines in one: %.200q", line)
		}
	}
	if strings.Count(got, "there is room\n") != 3 {
		t.Error("what was written when there was room is not there")
	}
	// Of a line that is cut off at the end its own header may be counted, too.
	if missing := said - int64(len(got)); lost < missing || lost > missing+40 {
		t.Errorf("%d bytes are missing, %d are counted", missing, lost)
	}
}

// TestRotateWithoutInodes: where no new file can be made the log goes on in the
// old one, and is rotated when it can be.
func TestRotateWithoutInodes(t *testing.T) {
	t.Parallel()
	dir, _ := smallDisk(t, "size=4m,nr_inodes=10")
	inodes := func() (free func()) { // fill takes blocks, of which there are some to be left
		var names []string
		for n := 0; ; n++ {
			name := filepath.Join(dir, fmt.Sprint("taken", n))
			if err := os.WriteFile(name, nil, 0o600); errors.Is(err, unix.ENOSPC) {
				return func() { _ = os.Remove(names[0]) }
			} else if err != nil {
				t.Fatal(err)
			}
			names = append(names, name)
		}
	}
	path := filepath.Join(dir, "0.log")
	w := mustOpen(t, path, Limits{Size: 1000, Files: 3})
	free := inodes()
	for i := 1; i <= 100; i++ {
		var l *LostError
		if err := w.Write(Stdout, fmt.Appendf(nil, "line %d\n", i)); errors.As(err, &l) {
			t.Fatal(err)
		}
	}
	if got := mustRead(t, path, Options{}); got != lines(1, 100) {
		t.Errorf("got %d lines", strings.Count(got, "\n"))
	}
	free()
	mustWrite(t, w, Stdout, "line 101\n")
	if old, err := Rotated(path); err != nil || len(old) != 1 {
		t.Errorf("kept %v, %v", old, err)
	}
	if got := mustRead(t, path, Options{}); got != lines(1, 101) {
		t.Errorf("got %d lines", strings.Count(got, "\n"))
	}
}
