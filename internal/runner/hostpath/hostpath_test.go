package hostpath

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sampan-batch/sampan/internal/runner/hostpath/hangs"
	"github.com/sampan-batch/sampan/internal/runner/reap"
)

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

// hanging returns a directory that does not answer.
func hanging(t *testing.T) (string, *hangs.FS) {
	t.Helper()
	dir := t.TempDir()
	f, err := hangs.Mount(dir)
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, fs.ErrNotExist) {
		t.Skip("there is nothing here that hangs: ", err)
	}
	must(t, err)
	t.Cleanup(f.Release)
	return dir, f
}

func TestStat(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	must(t, os.WriteFile(in("file"), nil, 0o640))
	must(t, os.Symlink(in("made"), in("link")))
	must(t, os.Symlink(dir, in("back")))
	must(t, unix.Mkfifo(in("fifo"), 0o600))
	s := New(reap.New())
	for _, test := range []struct {
		path string
		make Make
		mode uint32
		err  string
	}{
		{dir, Nothing, unix.S_IFDIR | 0o755, ""},
		{dir, Directory, unix.S_IFDIR | 0o755, ""},
		{in("file"), File, unix.S_IFREG | 0o640, ""},
		{in("fifo"), File, unix.S_IFIFO | 0o600, ""},
		{dir + "/e//b/../c/", Directory, unix.S_IFDIR | 0o755, ""},
		{in("a/b/c"), Nothing, 0, "stat " + in("a/b/c") + ": no such file or directory"},
		{in("a/b/c"), Directory, unix.S_IFDIR | 0o755, ""},
		{in("a/x/y"), File, 0, "open " + in("a/x/y") + ": no such file or directory"},
		{in("back/a//d/"), Directory, unix.S_IFDIR | 0o755, ""},
		{in("link"), File, unix.S_IFREG | 0o644, ""},
		{in("file/x/y"), Directory, 0, "stat " + in("file/x/y") + ": not a directory"},
		{in("fifo/x"), Nothing, 0, "stat " + in("fifo/x") + ": not a directory"},
		{"/proc/sampan/x", Directory, 0, "mkdir /proc/sampan: no such file or directory"},
		{dir + "/\x00", Nothing, 0, "stat " + dir + "/\x00: invalid argument"},
		{"", Nothing, 0, "stat : no such file or directory"},
		{"/" + strings.Repeat("x", 5000), Directory, 0, "stat /" + strings.Repeat("x", 5000) + ": file name too long"},
		{dir + strings.Repeat("/x", 1800), Directory, unix.S_IFDIR | 0o755, ""},
	} {
		mode, err := s.Stat(t.Context(), test.path, test.make)
		text := ""
		if err != nil {
			text = err.Error()
			var pathErr *fs.PathError
			if !errors.As(err, &pathErr) {
				t.Errorf("%s: %#v", test.path, err)
			}
		}
		if text != test.err || err == nil && mode != test.mode {
			t.Errorf("%s: got %o %q, want %o %q", test.path, mode, text, test.mode, test.err)
		}
	}
	if _, err := os.Stat(in("a/b/c")); err != nil {
		t.Error(err)
	}
}

func TestOpen(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "file"), []byte("x"), 0o644))
	must(t, os.Symlink("/", filepath.Join(dir, "out")))
	must(t, unix.Chmod(dir, 0o2775))
	s := New(reap.New())
	for _, test := range []struct {
		path, sub string
		leads     string
		dir       bool
		err       string
	}{
		{dir, "", dir, true, ""},
		{dir + "/file", "", dir + "/file", false, ""},
		{dir, "file", dir + "/file", false, ""},
		{dir, "a/b", dir + "/a/b", true, ""},
		{dir, "a/b", dir + "/a/b", true, ""},
		{dir, ".", dir, true, ""},
		{dir, "out/tmp", "", false, `subPath "out/tmp": it escapes from the volume`},
		{dir, "out/tmp/new", "", false, `subPath "out/tmp/new": it escapes from the volume`},
		{dir, "../x", "", false, "it escapes from the volume"},
		{dir, "file/x", "", false, `subPath "file/x": not a directory`},
		{dir + "/nosuch", "", "", false, "no such file or directory"},
	} {
		fd, is, err := s.Open(t.Context(), test.path, test.sub)
		if err != nil {
			if err.Error() != test.err {
				t.Errorf("%s, %s: got %v, want %q", test.path, test.sub, err, test.err)
			}
			continue
		}
		leads, err := os.Readlink(FDPath(fd))
		must(t, err)
		flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
		must(t, err)
		if leads != test.leads || is != test.dir || test.err != "" || flags&unix.FD_CLOEXEC == 0 {
			t.Errorf("%s, %s: got %s, a directory: %v, flags %x", test.path, test.sub, leads, is, flags)
		}
		unix.Close(fd)
	}
	for name, want := range map[string]fs.FileMode{"a": 0o755, "a/b": 0o775} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Mode() != want|fs.ModeDir|fs.ModeSetgid {
			t.Errorf("%s: %v %v", name, info.Mode(), err)
		}
	}
}

// What does not answer is given up: with the caller's context, and when that has
// time, in ours. Nobody is sent after one who has not come back.
func TestNoAnswer(t *testing.T) { // alone: it counts processes
	dir, hangs := hanging(t)
	s := New(reap.New())
	s.patience = time.Hour
	stat := func(ctx context.Context) error {
		_, err := s.Stat(ctx, dir, Directory)
		return err
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 2)
	go func() { ended <- stat(ctx) }()
	go func() {
		_, _, err := s.Open(ctx, dir, "x")
		ended <- err
	}()
	eventually(t, "two wait", func() bool { return hangs.Waiting() == 2 })
	cancel()
	for range 2 {
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("with a context that ends: %v", err)
		}
	}
	lost := func() (n int) {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.all
	}
	eventually(t, "two are lost", func() bool { return lost() == 2 })
	for range 100 {
		if err := stat(t.Context()); err != ErrNoAnswer {
			t.Fatal(err)
		}
	}
	if n := children(t); n != 2 { // else the count below means nothing
		t.Errorf("there are %d children", n)
	}
	if _, err := s.Stat(t.Context(), t.TempDir(), Nothing); err != nil {
		t.Errorf("another path: %v", err)
	}
	s.patience = time.Millisecond
	other, _ := hanging(t)
	if _, err := s.Stat(t.Context(), other, Directory); !errors.Is(err, ErrNoAnswer) {
		t.Errorf("out of patience: %v", err)
	}
	s.patience = time.Hour
	hangs.Release()
	eventually(t, "the lost come back", func() bool { return lost() == 0 && children(t) <= 1 })
	if err := stat(t.Context()); err != nil {
		t.Error(err)
	}
}

// children counts those processes of this one that look at paths.
func children(t *testing.T) (n int) {
	t.Helper()
	list, err := filepath.Glob("/proc/[0-9]*/stat")
	must(t, err)
	for _, path := range list {
		text, err := os.ReadFile(path)
		exe, exeErr := os.Readlink(filepath.Join(filepath.Dir(path), "exe"))
		if err != nil || exeErr != nil || !strings.Contains(exe, "memfd:") {
			continue
		}
		_, rest, _ := strings.Cut(string(text), ") ")
		if strings.Fields(rest)[1] == strconv.Itoa(os.Getpid()) {
			n++
		}
	}
	return n
}

func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for range 1000 {
		if is() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("it is not so that %s", what)
}

// A process of which some look at what does not answer can end, and be killed,
// and leaves no lock.
func TestProcessCanEnd(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"stat", "open", "naive"} {
		for _, kill := range []bool{false, true} {
			t.Run(fmt.Sprint(how, kill), func(t *testing.T) {
				t.Parallel()
				dir, hangs := hanging(t)
				lock := filepath.Join(t.TempDir(), "lock")
				cmd := exec.Command("/proc/self/exe", lock, dir)
				cmd.Env = append(os.Environ(), asVar+"="+how)
				cmd.Stderr = os.Stderr
				in, err := cmd.StdinPipe()
				must(t, err)
				// That of the process, and of those that it sends: they must not keep it.
				out, err := cmd.StdoutPipe()
				must(t, err)
				must(t, cmd.Start())
				lines := bufio.NewReader(out)
				if line, err := lines.ReadString('\n'); line != "ready\n" {
					t.Fatal(line, err)
				}
				eventually(t, "all wait", func() bool { return hangs.Waiting() >= lookers })
				if kill {
					must(t, cmd.Process.Signal(syscall.SIGKILL))
				} else {
					in.Close()
				}
				ended := make(chan error, 1)
				go func() {
					_, _ = io.Copy(io.Discard, lines)
					ended <- cmd.Wait()
				}()
				patience := 10 * time.Second
				if how == "naive" {
					patience = time.Second
				}
				select {
				case err := <-ended:
					if how == "naive" {
						t.Error("the attack does not work where nothing is done against it")
					}
					if err != nil && !kill {
						t.Error(err)
					}
				case <-time.After(patience):
					if how != "naive" {
						t.Error("it does not end")
					}
				}
				f, err := os.OpenFile(lock, os.O_RDWR, 0)
				must(t, err)
				defer f.Close()
				if free := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil; free != (how != "naive") {
					t.Errorf("the lock is free: %v", free)
				}
				hangs.Release()
			})
		}
	}
}

func BenchmarkStat(b *testing.B) {
	s, dir := New(reap.New()), b.TempDir()
	for b.Loop() {
		if _, err := s.Stat(b.Context(), dir, Directory); err != nil {
			b.Fatal(err)
		}
	}
}
