package tree

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// nobody is an ordinary user.
const nobody = 65534

const (
	childVar   = "SAMPAN_TREE_TEST_CHILD"   // in a process that runAs started
	foreignVar = "SAMPAN_TREE_TEST_FOREIGN" // the tree for TestForeign
)

// runAs runs a test of this package again in a process of its own.
func runAs(t *testing.T, attr *syscall.SysProcAttr, test string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe", "-test.run=^"+test+"$", "-test.v", "-test.timeout=5m")
	cmd.Dir = "/"
	cmd.Env = append(os.Environ(), "TMPDIR=/tmp", "HOME=/", childVar+"=1")
	cmd.SysProcAttr = attr
	if out, err := cmd.CombinedOutput(); err != nil || !bytes.Contains(out, []byte("\n--- PASS")) {
		t.Errorf("%v\n%s", err, out)
	}
}

func isChild() bool { return os.Getenv(childVar) != "" }

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can do this")
	}
}

// TestOrdinaryUser runs what is not root's business as nobody.
func TestOrdinaryUser(t *testing.T) {
	t.Parallel()
	needRoot(t)
	attr := &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	for _, test := range []string{"TestRemove", "TestModes", "TestFewDescriptors", "TestUnreadable", "TestUsage"} {
		runAs(t, attr, test)
	}
}

// chain makes n directories in one another below dir, with a file in every
// hundredth and in the last.
func chain(t *testing.T, dir, name string, n int) {
	t.Helper()
	at, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		t.Fatal(err)
	}
	for i := range n {
		if err := unix.Mkdirat(at, name, 0o755); err != nil {
			t.Fatal(err)
		}
		next, err := unix.Openat(at, name, unix.O_RDONLY|unix.O_DIRECTORY, 0)
		unix.Close(at)
		if err != nil {
			t.Fatal(err)
		}
		if at = next; i%100 == 99 || i == n-1 {
			f, err := unix.Openat(at, "file", unix.O_CREAT|unix.O_WRONLY, 0o600)
			if err != nil {
				t.Fatal(err)
			}
			unix.Close(f)
		}
	}
	unix.Close(at)
}

// memory returns a directory that is in memory where that can be had: a disk
// takes half a minute for a deep tree, and the walk is the same.
func memory(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "sampan-tree-*")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { must(t, Remove(dir)) })
	return dir
}

// cannotMove is a file system that does not let directories be moved.
func cannotMove(*remover, string) error { return unix.EXDEV }

func missing(t *testing.T, path string) {
	t.Helper()
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s is still there: %v", path, err)
	}
}

func TestRemove(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	outside := filepath.Join(dir, "outside")
	must(t, os.Mkdir(outside, 0o755), os.WriteFile(filepath.Join(outside, "keep"), nil, 0o600))
	make := map[string]func(path string) error{
		"nothing":    func(string) error { return nil },
		"nowhere":    func(string) error { return nil },
		"file":       func(p string) error { return os.WriteFile(p, nil, 0) },
		"empty":      func(p string) error { return os.Mkdir(p, 0o755) },
		"link":       func(p string) error { return os.Symlink(outside, p) },
		"link slash": func(p string) error { return os.Symlink(outside, p) },
		"pipe":       func(p string) error { return unix.Mkfifo(p, 0) },
		"links below": func(p string) error {
			return errors.Join(os.MkdirAll(p+"/a/b", 0o755), os.Symlink(outside, p+"/a/b/c"), os.Symlink("..", p+"/a/up"), os.Symlink("/", p+"/root"))
		},
		"special": func(p string) error {
			return errors.Join(os.Mkdir(p, 0o755), unix.Mkfifo(p+"/pipe", 0o600), unix.Mknod(p+"/socket", unix.S_IFSOCK|0o600, 0))
		},
		"names": func(p string) error {
			for _, n := range []string{"\xff\xfe", "\n\t\x1b[2J", "-rf", " ", "...", strings.Repeat("x", 255), "%s\\"} {
				if err := os.MkdirAll(p+"/"+n+"/"+n, 0o755); err != nil {
					return err
				}
			}
			return nil
		},
		"wide": func(p string) error {
			for i := range 1000 {
				if err := os.MkdirAll(fmt.Sprintf("%s/some rather long name of a directory %d/b", p, i), 0o755); err != nil {
					return err
				}
			}
			return nil
		},
		"bushy": func(p string) error { return bush(p, 2, window+5) },
	}
	for name, f := range make {
		for way, lift := range map[string]func(*remover, string) error{"moving": (*remover).moveUp, "not moving": cannotMove} {
			path := filepath.Join(dir, name)
			if name == "nowhere" {
				path += "/a/b"
			}
			must(t, f(path))
			arg := path
			if name == "link slash" {
				arg += "/"
			}
			if err := remove(arg, lift); err != nil {
				t.Errorf("%s, %s: %v", name, way, err)
			}
			missing(t, path)
		}
	}
	if _, err := os.Stat(filepath.Join(outside, "keep")); err != nil {
		t.Error(err)
	}
	for _, bad := range []string{"", "/", ".", "..", dir + "/..", "a/.."} {
		if bad == dir+"/.." {
			continue // is a name after all: dir's parent
		}
		if err := Remove(bad); !errors.Is(err, unix.EINVAL) {
			t.Errorf("Remove(%q): %v", bad, err)
		}
	}
	if err := Remove(outside + "/keep/x"); !errors.Is(err, unix.ENOTDIR) {
		t.Errorf("below a file: %v", err)
	}
}

// bush makes a tree of directories with a file in each.
func bush(path string, width, depth int) error {
	if err := errors.Join(os.Mkdir(path, 0o755), os.WriteFile(path+"/file", []byte("x"), 0o600)); err != nil || depth == 0 {
		return err
	}
	for i := range width {
		if err := bush(fmt.Sprintf("%s/%d", path, i), width, depth-1); err != nil {
			return err
		}
		if depth < window {
			break // a long way, not millions
		}
	}
	return nil
}

// TestDeep runs in a process whose limit of descriptors it may lower.
func TestDeep(t *testing.T) {
	t.Parallel()
	runAs(t, nil, "TestFewDescriptors")
}

func TestFewDescriptors(t *testing.T) {
	if !isChild() {
		t.Skip("part of TestDeep and TestOrdinaryUser")
	}
	const depth = 40_000
	dir := memory(t)
	tree, shallow := filepath.Join(dir, "tree"), filepath.Join(dir, "shallow")
	must(t, os.Mkdir(tree, 0o755), os.Mkdir(shallow, 0o755))
	chain(t, tree, "d", depth)
	chain(t, shallow, "d", 1000)
	open, err := os.ReadDir("/proc/self/fd")
	must(t, err)
	must(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: uint64(len(open) + window + 4), Max: uint64(len(open) + window + 4)}))
	if err := os.RemoveAll(shallow); !errors.Is(err, unix.EMFILE) {
		t.Fatalf("the limit of descriptors does not work: %v", err)
	}
	if err := Remove(shallow); err != nil {
		t.Fatal(err)
	}

	size, err := Usage(tree)
	if err != nil {
		t.Fatal(err)
	}
	if want := int64(1 + depth + depth/100); size.Inodes != want {
		t.Errorf("%d inodes, want %d", size.Inodes, want)
	}
	if err := Remove(tree); err != nil {
		t.Error(err)
	}
	missing(t, tree)
	must(t, os.Mkdir(tree, 0o755))
	chain(t, tree, strings.Repeat("long", 60), depth) // a path of 10 MB
	if err := remove(tree, cannotMove); err != nil {
		t.Error(err)
	}
	missing(t, tree)
	var now unix.Rlimit
	must(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &now))
	after, err := os.ReadDir("/proc/self/fd")
	must(t, err)
	if len(after) != len(open) {
		t.Errorf("%d descriptors are open, %d were", len(after), len(open))
	}
}

func TestModes(t *testing.T) {
	t.Parallel()
	for _, mode := range []fs.FileMode{0, 0o100, 0o200, 0o300, 0o400, 0o500, 0o555, 0o1777} {
		for way, lift := range map[string]func(*remover, string) error{"moving": (*remover).moveUp, "not moving": cannotMove} {
			tree := filepath.Join(t.TempDir(), "tree")
			var dirs []string
			for at := tree; len(dirs) < window+6; at += "/d" {
				dirs = append(dirs, at)
				must(t, os.Mkdir(at, 0o755), os.WriteFile(at+"/file", nil, mode))
			}
			must(t, os.MkdirAll(dirs[len(dirs)-1]+"/a/b", 0o755))
			for _, d := range slices.Backward(dirs) {
				must(t, os.Chmod(d, mode))
			}
			if err := remove(tree, lift); err != nil {
				t.Errorf("mode %o, %s: %v", mode, way, err)
			}
			missing(t, tree)
		}
	}
}

// TestForeign: what belongs to somebody else stays, the rest goes, and the
// error is one short line.
func TestForeign(t *testing.T) {
	if !isChild() {
		needRoot(t)
		dir, err := os.MkdirTemp("/tmp", "sampan-tree-*")
		must(t, err, os.Chmod(dir, 0o755))
		defer os.RemoveAll(dir)
		tree := dir + "/tree"
		for i := range 50 {
			must(t, os.MkdirAll(fmt.Sprintf("%s/mine/root's %d/a", tree, i), 0o755))
		}
		must(t, os.MkdirAll(tree+"/mine/other/a", 0o755), os.Chmod(tree+"/mine/root's 7", 0),
			os.Chown(tree, nobody, nobody), os.Chown(tree+"/mine", nobody, nobody), os.Chown(tree+"/mine/other", nobody, nobody))
		t.Setenv(foreignVar, tree)
		runAs(t, &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}, "TestForeign")
		missing(t, tree+"/mine/other")
		if left, err := os.ReadDir(tree + "/mine"); err != nil || len(left) != 50 {
			t.Errorf("%d are left: %v", len(left), err)
		}
		return
	}
	err := Remove(os.Getenv(foreignVar))
	if !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), "(and 49 more)") || len(err.Error()) > 300 {
		t.Errorf("%v", err)
	}
}

// TestMount: a mount in the tree, even of the same file system, is not entered.
func TestMount(t *testing.T) {
	needRoot(t)
	if !isChild() {
		runAs(t, &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS}, "TestMount")
		return
	}
	must(t, unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""))
	for way, lift := range map[string]func(*remover, string) error{"moving": (*remover).moveUp, "not moving": cannotMove} {
		dir := t.TempDir()
		home := filepath.Join(dir, "home")
		must(t, os.MkdirAll(home+"/a", 0o755), os.WriteFile(home+"/a/keep", make([]byte, 1<<20), 0o600))
		tree := filepath.Join(dir, "tree")
		deep := tree + strings.Repeat("/d", window+3)
		for _, at := range []string{tree + "/m", deep + "/m"} {
			must(t, os.MkdirAll(at, 0o755), os.WriteFile(at+"file", nil, 0o600))
			must(t, unix.Mount(home, at, "", unix.MS_BIND, ""), unix.Mount(home+"/a/keep", at+"file", "", unix.MS_BIND, ""))
		}
		must(t, os.WriteFile(tree+"/other", nil, 0o600))
		if size, err := Usage(tree); err != nil || size.Bytes > 1<<19 {
			t.Errorf("usage with mounts: %+v, %v", size, err)
		}
		err := remove(tree, lift)
		if !errors.Is(err, unix.EBUSY) {
			t.Errorf("%s: %v", way, err)
		}
		if _, err := os.Stat(home + "/a/keep"); err != nil {
			t.Errorf("%s: the mounted directory was emptied: %v", way, err)
		}
		missing(t, tree+"/other")
		must(t, unix.Mount("tmpfs", dir, "tmpfs", 0, "")) // nothing of the mounts is needed again
		must(t, unix.Unmount(dir, unix.MNT_DETACH))
		info, err := os.ReadFile("/proc/self/mounts")
		must(t, err)
		for line := range strings.Lines(string(info)) {
			if f := strings.Fields(line); strings.HasPrefix(f[1], dir) {
				must(t, unix.Unmount(f[1], unix.MNT_DETACH))
			}
		}
		if err := Remove(tree); err != nil {
			t.Errorf("%s, after the mounts: %v", way, err)
		}
		// The top itself.
		must(t, os.Mkdir(tree, 0o755), unix.Mount(home, tree, "", unix.MS_BIND, ""))
		if err := Remove(tree); !errors.Is(err, unix.EBUSY) {
			t.Errorf("a mount: %v", err)
		}
		must(t, unix.Unmount(tree, unix.MNT_DETACH))
		if _, err := os.Stat(home + "/a/keep"); err != nil {
			t.Errorf("%s: the mounted directory was emptied: %v", way, err)
		}
	}
}

func TestImmutable(t *testing.T) {
	t.Parallel()
	needRoot(t)
	tree := filepath.Join(t.TempDir(), "tree")
	must(t, os.MkdirAll(tree+"/a/b", 0o755), os.WriteFile(tree+"/a/file", nil, 0o600))
	freeze := func(path string) error {
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		flags, err := unix.IoctlGetUint32(int(f.Fd()), unix.FS_IOC_GETFLAGS)
		if err != nil {
			return err
		}
		return unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, int(flags|0x10))
	}
	if err := freeze(tree + "/a/file"); err != nil {
		t.Skipf("no immutable files here: %v", err)
	}
	must(t, freeze(tree+"/a/b"), freeze(tree+"/a"), freeze(tree))
	if os.RemoveAll(tree) == nil {
		t.Fatal("the attribute does nothing")
	}
	if err := Remove(tree); err != nil {
		t.Error(err)
	}
	missing(t, tree)
}

// attack changes a tree as fast as it can: directories become links to an
// outside directory, are exchanged with it by name, and move up and down.
func attack(tree, outside string, links []string, stop <-chan struct{}, done *sync.WaitGroup) {
	defer done.Done()
	var dirs []string
	at := tree
	for range 3 * window {
		at += "/d"
		dirs = append(dirs, at)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	for {
		select {
		case <-stop:
			return
		default:
		}
		d := dirs[rng.IntN(len(dirs))]
		switch rng.IntN(4) {
		case 0: // a directory is a link for a moment
			link := links[rng.IntN(len(links))]
			_ = unix.Renameat2(unix.AT_FDCWD, d, unix.AT_FDCWD, link, unix.RENAME_EXCHANGE)
			_ = unix.Renameat2(unix.AT_FDCWD, d, unix.AT_FDCWD, link, unix.RENAME_EXCHANGE)
		case 1: // for good
			_ = os.Rename(d, tree+"/moved"+fmt.Sprint(rng.IntN(20)))
			_ = os.Symlink(outside, d)
		case 2: // out of the tree, next to what must not be touched
			away := filepath.Dir(tree) + "/away" + fmt.Sprint(rng.Int())
			_ = os.Rename(d, away)
			_ = os.Rename(away, d)
		case 3:
			for _, d := range dirs {
				_ = os.Mkdir(d, 0o755)
			}
		}
	}
}

// TestAttack: whatever somebody does to the tree meanwhile, nothing outside of
// it is removed.
func TestAttack(t *testing.T) {
	t.Parallel()
	// In memory a step takes a microsecond: many more chances for the attacker.
	ways := map[string]func(path string) error{
		"moving":     func(p string) error { return remove(p, (*remover).moveUp) },
		"not moving": func(p string) error { return remove(p, cannotMove) },
	}
	for way, removal := range ways {
		if outside := underAttack(t, removal, 30); outside != "" {
			t.Errorf("%s: %s", way, outside)
		}
	}
	// The attack works: a removal by names is led out, soon, or later where the attacker has
	// little of the processor.
	naive := func(p string) error { return removeByName(p) }
	for begin := time.Now(); time.Since(begin) < 2*time.Minute; {
		if underAttack(t, naive, 10) != "" {
			return
		}
	}
	t.Error("the attack does not harm a removal by names; it tests nothing")
}

// underAttack removes a tree n times and says what was removed outside.
func underAttack(t *testing.T, removal func(path string) error, n int) string {
	t.Helper()
	dir := memory(t)
	outside := filepath.Join(dir, "outside")
	var kept []string
	for i := range 20 {
		kept = append(kept, fmt.Sprintf("%s/%d/keep/keep", outside, i), fmt.Sprintf("%s/%d/other", outside, i))
	}
	links := []string{dir + "/link0", dir + "/link1"}
	for _, k := range kept {
		must(t, os.MkdirAll(filepath.Dir(k), 0o755), os.WriteFile(k, nil, 0o600))
	}
	for i := range n {
		tree := fmt.Sprintf("%s/work%d/tree", dir, i)
		must(t, os.MkdirAll(tree+strings.Repeat("/d", 3*window), 0o755))
		for _, l := range links {
			_ = os.RemoveAll(l)
			must(t, os.Symlink(outside, l))
		}
		stop, done := make(chan struct{}), &sync.WaitGroup{}
		done.Add(2)
		go attack(tree, outside, links[:1], stop, done)
		go attack(tree, outside, links[1:], stop, done)
		for range 5 {
			_ = removal(tree)
		}
		close(stop)
		done.Wait()
		if err := Remove(tree); err != nil {
			t.Errorf("when the attack is over: %v", err)
		}
		for _, k := range kept {
			if _, err := os.Stat(k); err != nil {
				return err.Error()
			}
		}
	}
	return ""
}

// removeByName is what must not be done.
func removeByName(path string) error {
	entries, err := os.ReadDir(path)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.IsDir() {
			_ = removeByName(path + "/" + e.Name())
		}
		_ = os.Remove(path + "/" + e.Name())
	}
	return os.Remove(path)
}

// TestFilled: somebody fills the tree for ever; the removal ends.
func TestFilled(t *testing.T) {
	t.Parallel()
	tree := filepath.Join(t.TempDir(), "tree")
	must(t, os.MkdirAll(tree+"/a/b", 0o755))
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
				_ = os.MkdirAll(fmt.Sprintf("%s/a/%d/x", tree, i%50), 0o755)
			}
		}
	}()
	err := Remove(tree) // may succeed at an instant
	close(stop)
	<-done
	if err != nil && !errors.Is(err, unix.ENOTEMPTY) {
		t.Error(err)
	}
	if err := Remove(tree); err != nil {
		t.Error(err)
	}
}

func TestUsage(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	tree := filepath.Join(dir, "tree")
	must(t, bush(tree, 2, window+4))
	must(t, os.WriteFile(tree+"/big", make([]byte, 3<<20), 0o600), os.Link(tree+"/big", tree+"/0/again"), os.Link(tree+"/big", tree+"/0/third"))
	must(t, os.Symlink(dir, tree+"/out"), os.Symlink("/nowhere", tree+"/nowhere"), unix.Mkfifo(tree+"/pipe", 0o600))
	must(t, os.WriteFile(tree+"/sparse", nil, 0o600), os.Truncate(tree+"/sparse", 1<<40))
	must(t, os.WriteFile(dir+"/elsewhere", make([]byte, 1<<20), 0o600))
	want := walkUsage(t, tree)
	for _, most := range []int{maxLinked, 0} { // told apart, and shared out
		u := &usage{w: newWalk(), linked: map[inode]struct{}{}, most: most}
		if err := u.run(tree); err != nil {
			t.Fatal(err)
		}
		if got := (Size{int64(u.bytes), int64(u.inodes + 0.5)}); got != want {
			t.Errorf("%+v, want %+v", got, want)
		}
		u.w.close()
	}
	if got, err := Usage(tree + "/big"); err != nil || got.Inodes != 1 || got.Bytes < 3<<20 {
		t.Errorf("a file: %+v, %v", got, err)
	}
	must(t, os.Symlink("tree", dir+"/link"))
	if got, err := Usage(dir + "/link"); err != nil || got != (Size{Inodes: 1}) {
		t.Errorf("a link: %+v, %v", got, err)
	}
	if _, err := Usage(dir + "/nothing"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("nothing: %v", err)
	}
}

// walkUsage is the plain way.
func walkUsage(t *testing.T, path string) Size {
	var sum Size
	seen := map[uint64]bool{}
	must(t, filepath.WalkDir(path, func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if st := info.Sys().(*syscall.Stat_t); !seen[st.Ino] {
			seen[st.Ino] = true
			sum.Bytes += st.Blocks * 512
			sum.Inodes++
		}
		return nil
	}))
	return sum
}

func TestUnreadable(t *testing.T) {
	t.Parallel()
	if os.Geteuid() == 0 {
		t.Skip("root may read everything; TestOrdinaryUser runs this")
	}
	tree := filepath.Join(t.TempDir(), "tree")
	must(t, os.MkdirAll(tree+"/a", 0o755), os.MkdirAll(tree+"/b", 0o755), os.MkdirAll(tree+"/c/d", 0o755))
	must(t, os.Chmod(tree+"/a", 0), os.Chmod(tree+"/b", 0o300))
	got, err := Usage(tree)
	if !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), "and 1 more") || got.Inodes != 5 {
		t.Errorf("%+v, %v", got, err)
	}
	must(t, Remove(tree))
}

// TestMeasuredUnderAttack: whatever happens, it ends, and what is outside is
// not counted.
func TestMeasuredUnderAttack(t *testing.T) {
	t.Parallel()
	dir := memory(t)
	outside := filepath.Join(dir, "outside")
	must(t, os.MkdirAll(outside+"/kept", 0o755), os.WriteFile(outside+"/kept/big", nil, 0o600))
	big, err := os.OpenFile(outside+"/kept/big", os.O_WRONLY, 0)
	must(t, err, unix.Fallocate(int(big.Fd()), 0, 0, 32<<20), big.Close())
	tree := dir + "/work/tree"
	must(t, os.MkdirAll(tree+strings.Repeat("/d", 3*window), 0o755))
	links := []string{dir + "/link0", dir + "/link1"}
	must(t, os.Symlink(outside, links[0]), os.Symlink(outside, links[1]))
	stop, done := make(chan struct{}), &sync.WaitGroup{}
	done.Add(1)
	go attack(tree, outside, links, stop, done)
	for range 200 {
		if size, _ := Usage(tree); size.Bytes >= 32<<20 {
			t.Errorf("counted outside: %+v", size)
			break
		}
	}
	close(stop)
	done.Wait()
}

func must(t testing.TB, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

func BenchmarkSmall(b *testing.B) {
	ways := []struct {
		name   string
		remove func(string) error
	}{{"tree", Remove}, {"os", os.RemoveAll}}
	shapes := map[string]func(path string) error{
		"empty": func(p string) error { return os.Mkdir(p, 0o700) },
		"container": func(p string) error {
			return errors.Join(os.MkdirAll(p+"/upper/tmp", 0o700), os.MkdirAll(p+"/work/work", 0),
				os.WriteFile(p+"/upper/tmp/a", nil, 0o600), os.WriteFile(p+"/hosts", nil, 0o600))
		},
		"bush": func(p string) error { return bush(p, 2, window-1) },
	}
	for shape, make := range shapes {
		for _, w := range ways {
			b.Run(shape+"/"+w.name, func(b *testing.B) {
				path := filepath.Join(b.TempDir(), "tree")
				for b.Loop() {
					b.StopTimer()
					must(b, make(path))
					b.StartTimer()
					must(b, w.remove(path))
				}
			})
		}
	}
}
