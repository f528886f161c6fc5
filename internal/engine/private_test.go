package engine

import (
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// another user of the machine.
const another = 54321

// someone is a keeper for this process's user, in whose eyes nobody else is
// trusted.
func someone(t *testing.T) (keeper, *strings.Builder) {
	t.Helper()
	var log strings.Builder
	return newKeeper(slog.New(slog.NewTextHandler(&log, nil))), &log
}

func mkdir(t *testing.T, mode os.FileMode, parts ...string) string {
	t.Helper()
	dir := filepath.Join(parts...)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	chmod(t, dir, mode)
	return dir
}

func chmod(t *testing.T, path string, mode os.FileMode) {
	t.Helper()
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

func write(t *testing.T, path string, mode os.FileMode) string {
	t.Helper()
	if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	chmod(t, path, mode)
	return path
}

func symlink(t *testing.T, to, path string) string {
	t.Helper()
	if err := os.Symlink(to, path); err != nil {
		t.Fatal(err)
	}
	return path
}

func mode(t *testing.T, path string) os.FileMode {
	t.Helper()
	st, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	return st.Mode() & (os.ModePerm | os.ModeSticky)
}

// give makes path another user's; only root can.
func give(t *testing.T, path string) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can give a file away")
	}
	if err := os.Lchown(path, another, another); err != nil {
		t.Fatal(err)
	}
	return path
}

const sticky = os.ModeSticky | 0o777

// Whoever else could put something in the directory, or another in its place,
// is a reason to refuse it.
func TestUnsafeDirs(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		make func(t *testing.T, top string) string
		says string
	}{
		"others can write it":         {func(t *testing.T, top string) string { return mkdir(t, 0o707, top, "d") }, "can be written by others (mode 0707)"},
		"its group can write it":      {func(t *testing.T, top string) string { return mkdir(t, 0o770, top, "d") }, "`chmod go-w "},
		"sticky is not enough for it": {func(t *testing.T, top string) string { return mkdir(t, sticky, top, "d") }, "can be written by others"},
		"another user's":              {func(t *testing.T, top string) string { return give(t, mkdir(t, 0o700, top, "d")) }, "belongs to user 54321"},
		"others can move it": {func(t *testing.T, top string) string {
			return filepath.Join(mkdir(t, 0o777, top, "open"), "d")
		}, "who could replace what is kept in it"},
		"a group can move it": {func(t *testing.T, top string) string {
			dir := mkdir(t, 0o775, top, "open")
			if err := os.Chown(dir, -1, 4242); err != nil {
				t.Skip("not a member of another group")
			}
			return filepath.Join(dir, "d")
		}, "who could replace what is kept in it"},
		"another user can move it": {func(t *testing.T, top string) string {
			return filepath.Join(give(t, mkdir(t, 0o755, top, "his")), "d")
		}, "belongs to user 54321, who could replace"},
		"far above": {func(t *testing.T, top string) string {
			mkdir(t, 0o777, top, "open")
			return mkdir(t, 0o700, top, "open", "a", "b", "d")
		}, "can be written by others"},
		"behind a link": {func(t *testing.T, top string) string {
			mkdir(t, 0o777, top, "open")
			return symlink(t, "open/d", filepath.Join(top, "link"))
		}, "can be written by others"},
		"another user's link in /tmp": {func(t *testing.T, top string) string {
			tmp := mkdir(t, sticky, top, "tmp")
			return give(t, symlink(t, mkdir(t, 0o700, top, "mine"), filepath.Join(tmp, "link")))
		}, "is a link of user 54321"},
		"another user's directory in /tmp": {func(t *testing.T, top string) string {
			return give(t, mkdir(t, 0o700, mkdir(t, sticky, top, "tmp"), "sampan-1"))
		}, "belongs to user 54321"},
		"a file":         {func(t *testing.T, top string) string { return write(t, filepath.Join(top, "f"), 0o600) }, "not a directory"},
		"a link to self": {func(t *testing.T, top string) string { return symlink(t, "l", filepath.Join(top, "l")) }, "too many levels"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k, _ := someone(t)
			path := test.make(t, t.TempDir())
			_, err := k.dir(path)
			if err == nil || !strings.Contains(err.Error(), test.says) {
				t.Errorf("got %v, want %q", err, test.says)
			}
		})
	}
}

// What is the user's own is used, made, and closed to others.
func TestSafeDirs(t *testing.T) {
	t.Parallel()
	top := t.TempDir()
	tmp := mkdir(t, sticky, top, "tmp")
	target := mkdir(t, 0o700, top, "target")
	symlink(t, "../target", filepath.Join(tmp, "relative"))
	symlink(t, target, filepath.Join(top, "absolute"))
	open := mkdir(t, 0o755, top, "open")
	for path, want := range map[string]string{
		filepath.Join(top, "a/b/c"):              filepath.Join(top, "a/b/c"),
		filepath.Join(tmp, "sampan-1"):           filepath.Join(tmp, "sampan-1"),
		filepath.Join(tmp, "relative"):           target,
		filepath.Join(tmp, "relative", "../new"): filepath.Join(tmp, "new"), // as Abs reads it
		filepath.Join(top, "absolute", "sub"):    filepath.Join(target, "sub"),
		open:                                     open,
	} {
		k, _ := someone(t)
		got, err := k.dir(path)
		if err != nil || got != want {
			t.Errorf("%s: got %s, %v", path, got, err)
			continue
		}
		if mode(t, got) != 0o700 {
			t.Errorf("%s: mode %v", got, mode(t, got))
		}
	}
	k, log := someone(t)
	if _, err := k.dir(mkdir(t, 0o755, top, "shown")); err != nil || !strings.Contains(log.String(), "others could read it") {
		t.Errorf("%v; the log is %q", err, log)
	}
}

// Files with secrets become their owner's alone; what is no such file is not
// taken for one.
func TestPrivateFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	k, log := someone(t)
	shown, closed := write(t, filepath.Join(dir, "shown"), 0o644), write(t, filepath.Join(dir, "closed"), 0o600)
	if err := k.files(dir, "shown", "closed", "absent"); err != nil || mode(t, shown) != 0o600 || mode(t, closed) != 0o600 {
		t.Errorf("%v, %v, %v", err, mode(t, shown), mode(t, closed))
	}
	if strings.Count(log.String(), "others could read it") != 1 {
		t.Errorf("the log is %q", log)
	}
	write(t, filepath.Join(dir, "written"), 0o620)
	mkdir(t, 0o700, dir, "directory")
	if err := unix.Mkfifo(filepath.Join(dir, "fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"written", "directory", "fifo"} {
		if err := k.files(dir, name); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
	his := give(t, write(t, filepath.Join(dir, "his"), 0o600))
	if err := k.files(dir, "his"); err == nil {
		t.Errorf("%s was taken", his)
	}
}

// config is one whose directories are below dir.
func config(t *testing.T, dir string) Config {
	t.Helper()
	c := Default()
	c.DataDir = dir
	if err := c.complete(); err != nil {
		t.Fatal(err)
	}
	return c
}

// An engine looks at all that it keeps, before it opens any of it.
func TestKeepDirs(t *testing.T) { // not parallel: the umask is the process's
	dir := filepath.Join(t.TempDir(), "new", "data")
	c := config(t, dir)
	old := unix.Umask(0)
	err := c.keepDirs()
	unix.Umask(old)
	if err != nil {
		t.Fatal(err)
	}
	for _, sub := range []string{"..", "", "pki", "run", "images"} {
		if got := mode(t, filepath.Join(dir, sub)); got != 0o700 {
			t.Errorf("%q has mode %v", sub, got)
		}
	}
	for _, name := range []string{"lock", "store.db", "kubeconfig", "pki/ca.key", "pki/admin.key", "pki/apiserver.key"} {
		path := write(t, filepath.Join(dir, name), 0o644)
		if err := c.keepDirs(); err != nil || mode(t, path) != 0o600 {
			t.Errorf("%s: %v, mode %v", name, err, mode(t, path))
		}
	}
	for _, sub := range []string{"pki", "run", "images"} {
		c := config(t, filepath.Join(t.TempDir(), "data"))
		mkdir(t, 0o777, c.DataDir, sub)
		var unsafe *UnsafePathError
		if _, err := New(c); !errors.As(err, &unsafe) || filepath.Base(unsafe.Path) != sub {
			t.Errorf("%s: got %v", sub, err)
		}
	}
	c = config(t, filepath.Join(t.TempDir(), "data"))
	c.Kubeconfig = filepath.Join(mkdir(t, 0o777, t.TempDir(), "open"), "kubeconfig")
	var unsafe *UnsafePathError
	if err := c.keepDirs(); !errors.As(err, &unsafe) {
		t.Errorf("a kubeconfig that others can replace: %v", err)
	}
	c.Kubeconfig = filepath.Join(mkdir(t, sticky, t.TempDir(), "tmp"), "kubeconfig")
	if err := c.keepDirs(); err != nil {
		t.Errorf("a kubeconfig in /tmp: %v", err)
	}
}

// Without a home the name of the data directory can be guessed. Who takes it
// first gets nothing, and gives nothing either.
func TestGuessableDir(t *testing.T) {
	tmp := mkdir(t, sticky, t.TempDir(), "tmp")
	t.Setenv("HOME", "")
	t.Setenv("XDG_DATA_HOME", "")
	t.Setenv("TMPDIR", tmp)
	if os.Geteuid() == 0 {
		t.Skip("root does not need a home; see TestUnsafeDirs")
	}
	dir := defaultDataDir()
	if filepath.Dir(dir) != tmp {
		t.Fatalf("got %s", dir)
	}
	mkdir(t, 0o777, dir)
	write(t, filepath.Join(dir, "kubeconfig"), 0o600)
	if got := Kubeconfig(); got != "" {
		t.Errorf("clients would use %s", got)
	}
	c := config(t, dir)
	if err := c.keepDirs(); err == nil || !strings.Contains(err.Error(), "HOME") {
		t.Errorf("got %v", err)
	}
	chmod(t, dir, 0o700)
	if got := Kubeconfig(); got != filepath.Join(dir, "kubeconfig") {
		t.Errorf("one's own: %q", got)
	}
}

// What somebody else did to a lock does not say which process is ended.
func TestStopOfAnothersDir(t *testing.T) {
	t.Parallel()
	trap := func(mode os.FileMode) (string, *lockHolder) {
		dir := mkdir(t, mode, t.TempDir(), "trap")
		return dir, holdLock(t, dir)
	}
	dir, victim := trap(0o777)
	victims := map[string]*lockHolder{dir: victim}
	if os.Geteuid() == 0 {
		dir, victim := trap(0o755)
		victims[give(t, dir)] = victim
	}
	for dir, victim := range victims {
		var unsafe *UnsafePathError
		if _, err := Stop(t.Context(), dir, time.Second); !errors.As(err, &unsafe) {
			t.Errorf("got %v", err)
		}
		if victim.ended(50 * time.Millisecond) {
			t.Fatal("the process was ended")
		}
	}
	// In a directory of the user's own the same lock has its effect.
	dir, victim = trap(0o700)
	if did, err := Stop(t.Context(), dir, time.Second); err != nil || did != "stopped the engine; no container was running" {
		t.Errorf("%q, %v", did, err)
	}
	if !victim.ended(5 * time.Second) {
		t.Error("the holder was not ended: the test shows nothing")
	}
}

// lockHolder is a process that has the lock of a directory, as an engine has.
type lockHolder struct {
	cmd  *exec.Cmd
	done chan struct{}
}

func (h *lockHolder) ended(within time.Duration) bool {
	select {
	case <-h.done:
		return true
	case <-time.After(within):
		return false
	}
}

// holdLock starts one, which writes down who it is.
func holdLock(t *testing.T, dir string) *lockHolder {
	t.Helper()
	if _, err := exec.LookPath("flock"); err != nil {
		t.Skip("no flock(1)")
	}
	h := &lockHolder{cmd: exec.Command("flock", "--no-fork", lockPath(dir), "sleep", "60"), done: make(chan struct{})}
	if err := h.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { h.cmd.Wait(); close(h.done) }()
	t.Cleanup(func() { h.cmd.Process.Kill(); <-h.done })
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		if _, held, err := holderOf(dir); err == nil && held {
			break
		} else if err != nil || time.Now().After(deadline) {
			t.Fatalf("flock does not take the lock: %v", err)
		}
	}
	text, err := json.Marshal(Holder{PID: h.cmd.Process.Pid, Command: "a test"})
	if err == nil {
		err = os.WriteFile(lockPath(dir), text, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	return h
}
