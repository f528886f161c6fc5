package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sampan-batch/sampan/internal/runner"
	"github.com/sampan-batch/sampan/internal/runner/fork"
	"github.com/sampan-batch/sampan/internal/runner/hostpath/hangs"
)

// The tests of this file are attacks on the start of containers and on what enters
// them: by an image, by a manifest, by a program in a pod. Each is made twice,
// against the launcher as it is, where it must fail, and against one without the
// defence that it is about, where it must work: else the test proves nothing.

// weaken returns a launcher without some defences.
func (f *fixture) weaken(tb testing.TB, missing ...string) *fixture {
	tb.Helper()
	g := setup(tb)
	g.layer = f.layer
	g.weak = &weakness{missing: missing}
	return g
}

// leakRoot lets all programs of f inherit a descriptor of the machine's root, as
// a mistake in the supervisor would. It returns the descriptors to try.
func (f *fixture) leakRoot(tb testing.TB) (numbers []int) {
	tb.Helper()
	dir, err := unix.Open("/", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	must(tb, err)
	defer unix.Close(dir)
	root, err := unix.FcntlInt(uintptr(dir), unix.F_DUPFD_CLOEXEC, 700)
	must(tb, err)
	tb.Cleanup(func() { unix.Close(root) })
	if f.weak == nil {
		f.weak = &weakness{}
	}
	f.weak.begin = func(c *container) error { return c.inherit(root, func(uintptr) {}) }
	for n := range 10 {
		numbers = append(numbers, n)
	}
	return append(numbers, root)
}

// secretFile is a file of the machine that no container has.
func secretFile(tb testing.TB) string {
	tb.Helper()
	dir, err := os.MkdirTemp("/tmp", "secret-") // where an ordinary user of the tests may go too
	must(tb, err)
	tb.Cleanup(func() { os.RemoveAll(dir) })
	must(tb, os.Chmod(dir, 0o755))
	path := filepath.Join(dir, "secret")
	must(tb, os.WriteFile(path, []byte("the machine's secret"), 0o644))
	return path
}

// quietly runs a container that may be refused.
func (f *fixture) quietly(tb testing.TB, spec *runner.Spec) string {
	tb.Helper()
	r, w, err := os.Pipe()
	must(tb, err)
	p, err := f.Launch(tb.Context(), spec, nil, w, w)
	w.Close()
	out := collect(r)
	if err != nil {
		return "refused: " + err.Error()
	}
	text, _ := (&running{p, tb, out}).wait()
	return text
}

// An image or a manifest names a working directory that is a descriptor of
// whoever starts the container.
func TestWorkingDirectoryLeadsNowhere(t *testing.T) {
	t.Parallel()
	secret := secretFile(t)
	attack := func(f *fixture, prefix string) (seen bool, last string) {
		for _, n := range f.leakRoot(t) {
			spec := f.spec("cat ."+secret, "cat ../../../../.."+secret)
			spec.Dir = fmt.Sprintf("%s/fd/%d", prefix, n)
			last = f.quietly(t, spec)
			if strings.Contains(last, "the machine's secret") {
				return true, last
			}
		}
		return false, last
	}
	f := setup(t)
	for _, prefix := range []string{"/proc/self", "/proc/thread-self", "/proc/1", "/proc/1/task/1", "/dev/fd/../../proc/self"} {
		if seen, out := attack(setup(t), prefix); seen {
			t.Errorf("%s: a container that starts in a descriptor sees %q", prefix, out)
		}
	}
	if seen, out := attack(f.weaken(t, "close files", "paths", "inside"), "/proc/self"); !seen {
		t.Errorf("the attack does not work where nothing is done against it: %q", out)
	}
	// One of the three is enough.
	for _, missing := range [][]string{{"close files", "paths"}, {"close files", "inside"}, {"paths", "inside"}} {
		if seen, out := attack(f.weaken(t, missing...), "/proc/self"); seen {
			t.Errorf("without %q it sees %q", missing, out)
		}
	}
}

// A program in a container swaps its working directory for a link to a
// descriptor, and waits for a probe.
func TestExecEntersNoDescriptor(t *testing.T) {
	t.Parallel()
	secret := secretFile(t)
	attack := func(f *fixture) (seen bool) {
		numbers := f.leakRoot(t)
		control := t.TempDir()
		must(t, os.Chmod(control, 0o777))
		spec := f.spec("swaps /srv/work /control " + strings.Trim(fmt.Sprint(numbers), "[]"))
		spec.Dir = "/srv/work"
		spec.Mounts = []runner.Mount{{Source: control, Target: "/control"}}
		c := f.launch(t, spec)
		defer c.wait()
		for _, n := range numbers {
			awaitFile(t, filepath.Join(control, fmt.Sprint("at-", n)))
			r, w, err := os.Pipe()
			must(t, err)
			out := collect(r)
			p, err := c.Exec(t.Context(), runner.ExecSpec{Args: []string{"/bin/probe", "cat ." + secret}}, nil, w, w)
			w.Close()
			if err == nil {
				_, _ = p.Wait()
			}
			seen = seen || strings.Contains(<-out, "the machine's secret")
			must(t, os.WriteFile(filepath.Join(control, fmt.Sprint("done-", n)), nil, 0o644))
		}
		return seen
	}
	if attack(setup(t)) {
		t.Error("a probe's working directory led out of the container")
	}
	if !attack(setup(t).weaken(t, "close files", "paths", "inside", "last")) {
		t.Error("the attack does not work where nothing is done against it")
	}
}

func awaitFile(t *testing.T, path string) {
	t.Helper()
	for range 10_000 {
		if _, err := os.Stat(path); err == nil {
			return
		}
		time.Sleep(time.Millisecond)
	}
	t.Fatalf("%s does not appear", path)
}

// A program in a container that may trace looks at each process that appears
// beside it, to find one that has more rights, or more files, than it has itself.
func TestNothingStrongAppears(t *testing.T) {
	t.Parallel()
	watch := func(f *fixture, shared bool, tries int, appear func(first *running)) (found string) {
		f.leakRoot(t)
		spec := f.spec("spy /srv/stop")
		spec.ShareProcesses = shared
		spec.Capabilities = append([]string{"CAP_SYS_PTRACE"}, defaultCapabilities...)
		c := f.launch(t, spec)
		for range tries {
			appear(c)
		}
		if out, info := c.exec("write /srv/stop x"); info.Code != 0 {
			t.Fatal(out)
		}
		out, _ := c.wait()
		return out
	}
	exec := func(c *running) { c.exec("echo hello") }
	started := func(f *fixture) func(c *running) {
		return func(c *running) {
			spec := f.spec("echo hello")
			spec.ShareProcesses, spec.Pod = true, c.Process.(*process).spec.Pod
			f.run(t, spec)
		}
	}
	debugger := func(f *fixture) func(c *running) {
		return func(c *running) {
			spec := f.spec("echo hello")
			first := c.Process.(*process).spec
			spec.ProcessesOf, spec.Pod = first.ID, first.Pod
			f.run(t, spec)
		}
	}
	f, g, h := setup(t), setup(t), setup(t)
	if out := watch(h, false, 40, debugger(h)); out != "" {
		t.Errorf("while containers were started that see its processes, it saw\n%s", out)
	}
	if out := watch(f, true, 60, exec); out != "" {
		t.Errorf("while probes were executed it saw\n%s", out)
	}
	if out := watch(g, true, 40, started(g)); out != "" {
		t.Errorf("while containers were started beside it, it saw\n%s", out)
	}
	for tries := 100; ; tries *= 2 { // it has to look at the right moment
		f := f.weaken(t, "close files", "last")
		out := watch(f, true, tries, exec)
		if strings.Contains(out, "capabilities") && strings.Contains(out, "files") {
			return
		}
		if tries > 1000 {
			t.Fatalf("the attack does not work where nothing is done against it: %q", out)
		}
	}
}

// A program in a container changes what it is given of the machine's devices.
func TestDevicesAreItsOwn(t *testing.T) {
	t.Parallel()
	if ordinary(t) {
		t.Skip("the machine's devices are not this user's to change: there is nothing that could be attacked")
	}
	attack := func(f *fixture) (changed []string) {
		var commands []string
		for _, d := range devices {
			commands = append(commands, "chmod 0600 /dev/"+d.name, "chown 7 /dev/"+d.name)
		}
		for _, path := range f.kit.masked {
			commands = append(commands, "chmod 0600 /proc/"+path)
		}
		commands = append(commands, "chmod 0600 /proc/self/fd/0", "chmod 0600 /dev/stdin")
		f.quietly(t, f.spec(commands...))
		for _, d := range devices {
			var st unix.Stat_t
			must(t, unix.Stat("/dev/"+d.name, &st))
			if st.Mode&0o777 != 0o666 || st.Uid != 0 {
				changed = append(changed, d.name)
				must(t, errors.Join(os.Chmod("/dev/"+d.name, 0o666), os.Chown("/dev/"+d.name, 0, 0)))
			}
		}
		// What the next container has.
		out := f.quietly(t, f.spec("stat /dev/null", "write /dev/null x", "cat /proc/keys"))
		if !strings.HasPrefix(out, "Dcrw-rw-rw- 0 0") || strings.Contains(out, "permission denied") {
			changed = append(changed, "another container's: "+out)
		}
		return changed
	}
	if changed := attack(setup(t)); len(changed) > 0 {
		t.Errorf("changed: %v", changed)
	}
	if changed := attack(setup(t).weaken(t, "devices")); len(changed) == 0 {
		t.Error("the attack does not work where nothing is done against it")
	}
}

// An image has links where things are made and mounted, and a manifest names
// paths that lead through links of /proc.
func TestNothingIsMadeOutside(t *testing.T) {
	t.Parallel()
	attack := func(f *fixture) (made []string) {
		outside, err := os.MkdirTemp("/tmp", "outside-")
		must(t, err)
		defer os.RemoveAll(outside)
		must(t, os.Chmod(outside, 0o777))
		source := t.TempDir()
		image := makeLayer(t)
		must(t, os.Symlink(outside, filepath.Join(image, "link")))
		must(t, os.Symlink("/proc/self/root"+outside, filepath.Join(image, "magic")))
		f.layer = image
		term := filepath.Join(t.TempDir(), "log")
		must(t, os.WriteFile(term, nil, 0o666))
		paths := []string{
			"/link/x", "/magic/x", "/proc/self/cwd" + outside + "/x", "/proc/self/root" + outside + "/x",
			"/proc/1/root" + outside + "/x", "/proc/self/fd/4" + outside + "/x", "/proc/thread-self/cwd" + outside + "/x",
			"/link/../../../../../.." + outside + "/y", "/srv/../../.." + outside + "/z",
		}
		for _, path := range paths {
			for _, attack := range []func(*runner.Spec){
				func(s *runner.Spec) { s.Dir = path },
				func(s *runner.Spec) { s.Mounts = []runner.Mount{{Source: source, Target: path}} },
				func(s *runner.Spec) { s.TerminationLog, s.TerminationLogPath = term, path },
			} {
				spec := f.spec("pwd")
				attack(spec)
				f.quietly(t, spec)
			}
		}
		left, err := os.ReadDir(outside)
		must(t, err)
		for _, e := range left {
			made = append(made, e.Name())
		}
		return made
	}
	if made := attack(setup(t)); len(made) > 0 {
		t.Errorf("made on the machine: %v", made)
	}
	if made := attack(setup(t).weaken(t, "paths")); len(made) == 0 {
		t.Error("the attack does not work where nothing is done against it")
	}
}

// What a start reads and writes in /proc is the kernel's: a manifest may mount
// nothing there, and an image cannot make it something else.
func TestProcIsTheKernels(t *testing.T) {
	t.Parallel()
	f := setup(t)
	volume := t.TempDir()
	must(t, os.Mkdir(filepath.Join(volume, "self"), 0o755))
	must(t, unix.Mkfifo(filepath.Join(volume, "self", "oom_score_adj"), 0o666))
	for _, target := range []string{"/proc", "/proc/", "/proc/self", "/proc/self/fd", "/proc/sys/kernel", "//proc//1", "/tmp/../proc"} {
		spec := f.spec("echo started")
		spec.Mounts = []runner.Mount{{Source: volume, Target: target}}
		out := f.quietly(t, spec)
		if !strings.Contains(out, "cannot be mounted because it is") {
			t.Errorf("%s: %s", target, out)
		}
	}
	// A link leads a mount to /proc: it ends up under it.
	must(t, os.Symlink("/proc", filepath.Join(f.layer, "elsewhere")))
	spec := f.spec("cat /proc/self/comm", "flags /proc/sys")
	spec.Mounts = []runner.Mount{{Source: volume, Target: "/elsewhere"}}
	if out := f.quietly(t, spec); out != "probe\nro=true nosuid=true nodev=true noexec=true" {
		t.Errorf("with a volume under /proc: %s", out)
	}
	// As lxcfs does it.
	lxcfs := filepath.Join(t.TempDir(), "meminfo")
	must(t, os.WriteFile(lxcfs, []byte("MemTotal: 1 kB"), 0o644))
	spec = f.spec("cat /proc/meminfo")
	spec.Mounts = []runner.Mount{{Source: lxcfs, Target: "/proc/meminfo", ReadOnly: true}}
	f.want(t, spec, "MemTotal: 1 kB")

	for _, name := range []string{"proc", "dev", "sys"} {
		f := setup(t)
		must(t, os.Remove(filepath.Join(f.layer, name)))
		must(t, os.Symlink("/srv", filepath.Join(f.layer, name)))
		if out := f.quietly(t, f.spec("echo started")); !strings.HasPrefix(out, "refused") {
			t.Errorf("an image whose /%s is a link: %s", name, out)
		}
	}
}

// The program that a container finds as its own executable while it is started
// is nobody else's, and cannot be changed.
func TestExecutableIsNotOurs(t *testing.T) {
	t.Parallel()
	f := setup(t)
	before, err := os.Stat("/proc/self/exe")
	must(t, err)
	spec := f.spec()
	spec.Args = []string{"/proc/self/exe"}
	c := f.launch(t, spec)
	if out, info := c.wait(); out != "" || info.Code != 127 {
		t.Errorf("it executed itself: %q %+v", out, info)
	}
	after, err := os.Stat("/proc/self/exe")
	must(t, err)
	if before.Mode() != after.Mode() {
		t.Errorf("our program's mode is %v", after.Mode())
	}
	// The pause process is there to be looked at for as long as the pod is.
	shared := f.spec("readlink /proc/1/exe", "write-exe 1", "chmod 04777 /proc/1/exe")
	shared.ShareProcesses = true
	shared.Capabilities = append([]string{"CAP_SYS_PTRACE"}, defaultCapabilities...)
	out := f.quietly(t, shared)
	if strings.Contains(out, "written") || strings.Contains(out, "sandbox.test") {
		t.Errorf("of the pause process: %s", out)
	}
}

// The pause process of a pod is as weak as its containers.
func TestPauseIsWeak(t *testing.T) {
	t.Parallel()
	attack := func(f *fixture) string {
		spec := f.spec("status-of 1 CapPrm CapBnd NoNewPrivs Seccomp", "ids-of 1", "ls /proc/1/root/")
		spec.ShareProcesses = true
		if !single(t) {
			spec.UID, spec.GID = ptr(uint32(1000)), ptr(uint32(1000))
		}
		return f.quietly(t, spec)
	}
	want := "CapPrm=0000000000000000 CapBnd=0000000000000000 NoNewPrivs=1 Seccomp=2\n"
	if single(t) {
		want += "0 0\n"
	} else {
		want += "1000 1000\n"
	}
	if out := attack(setup(t)); !strings.HasPrefix(out+"\n", want) || strings.Contains(out, "proc ") {
		t.Errorf("got\n%s\nwant\n%s", out, want)
	}
	if out := attack(setup(t).weaken(t, "install seccomp filter")); !strings.Contains(out, "Seccomp=0") {
		t.Errorf("the attack does not work where nothing is done against it: %s", out)
	}
}

// TestReleasedOnce: whoever releases a pod that somebody else is releasing returns when that
// is done, since the supervisor ends then.
func TestReleasedOnce(t *testing.T) {
	t.Parallel()
	f := setup(t)
	for range 10 {
		spec := f.spec("id")
		spec.ShareProcesses = true
		f.run(t, spec)
		p := f.pods[spec.Pod.UID]
		var both sync.WaitGroup
		for range 2 {
			both.Go(func() {
				if err := f.ReleasePod(spec.Pod.UID); err != nil {
					t.Error(err)
				}
				if !p.mu.TryLock() {
					t.Error("it was not released yet")
					return
				}
				p.mu.Unlock()
			})
		}
		both.Wait()
	}
}

// A start that hangs, for what it meets on a stranger's files, holds up nothing
// else, and ends with its context.
func TestHangingStart(t *testing.T) {
	t.Parallel()
	f := setup(t)
	victim := f.launch(t, f.spec("sleep 1h"))
	r, w, err := os.Pipe()
	must(t, err)
	defer r.Close()
	defer w.Close()
	hanging := make(map[string]bool)
	f.weak = &weakness{begin: func(c *container) error {
		if !hanging[c.spec.ID] {
			return nil
		}
		return c.inherit(int(r.Fd()), func(fd uintptr) { c.add(fork.Call("hang", unix.SYS_READ, fd, c.p.Space(1), 1)) })
	}}
	const many = 30
	ctx, cancel := context.WithCancel(t.Context())
	var starts sync.WaitGroup
	specs := make([]*runner.Spec, many)
	for i := range specs {
		specs[i] = f.spec("echo never")
		specs[i].ShareProcesses = i%2 == 0
		hanging[specs[i].ID] = true
	}
	for _, spec := range specs {
		starts.Go(func() {
			if _, err := f.Launch(ctx, spec, nil, nil, nil); !errors.Is(err, context.Canceled) {
				t.Errorf("a hanging start: %v", err)
			}
		})
	}
	time.Sleep(50 * time.Millisecond) // let them hang
	began := time.Now()
	for range 10 {
		f.want(t, f.spec("echo started"), "started")
		if out, _ := victim.exec("echo entered"); out != "entered" {
			t.Errorf("got %q", out)
		}
	}
	must(t, victim.Signal(int(unix.SIGKILL)))
	victim.wait()
	if d := time.Since(began); d > 30*time.Second {
		t.Errorf("beside hanging starts ten others took %v", d)
	}
	cancel()
	starts.Wait()
}

// A hostPath that does not answer ends with the start's context, in every way that
// it can be mounted. That a supervisor can end meanwhile is proven where the looks
// are: package hostpath.
func TestHangingSource(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	hang, err := hangs.Mount(dir)
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, fs.ErrNotExist) {
		t.Skip("there is nothing here that hangs: ", err)
	}
	must(t, err)
	t.Cleanup(hang.Release)
	f := setup(t)
	beside := t.TempDir()
	must(t, os.Symlink(filepath.Join(dir, "x"), filepath.Join(beside, "link")))
	var starts sync.WaitGroup
	ctx, cancel := context.WithCancel(t.Context())
	for _, m := range []runner.Mount{
		{Source: dir}, {Source: dir + "/x"}, {Source: dir, SubPath: "x/y"}, {Source: beside + "/link"},
	} {
		spec := f.spec("echo never")
		m.Volume, m.Target, m.Recursive = "v", "/v", true
		spec.Mounts = []runner.Mount{m}
		starts.Go(func() {
			_, err := f.Launch(ctx, spec, nil, nil, nil)
			if err == nil || ctx.Err() == nil || !strings.Contains(err.Error(), context.Canceled.Error()) {
				t.Errorf("%+v: %v", m, err)
			}
		})
	}
	time.Sleep(200 * time.Millisecond) // let them hang
	f.want(t, f.spec("echo started"), "started")
	cancel()
	ended := make(chan struct{})
	go func() { starts.Wait(); close(ended) }()
	select {
	case <-ended:
	case <-time.After(10 * time.Second):
		t.Error("they do not end with their context")
	}
}

// A hostPath's subPath is made and mounted as another volume's.
func TestHostPathMount(t *testing.T) {
	t.Parallel()
	f := setup(t)
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "file"), []byte("of the machine"), 0o644))
	must(t, os.Symlink("/etc", filepath.Join(dir, "out")))
	spec := f.spec("cat /file", "cat /v/file", "write /made/x y", "cat /v/a/b/x")
	spec.Mounts = []runner.Mount{
		{Volume: "v", Source: dir, Target: "/v", Recursive: true},
		{Volume: "v", Source: dir + "/file", Target: "/file", Recursive: true},
		{Volume: "v", Source: dir, SubPath: "a/b", Target: "/made", Recursive: true},
	}
	f.want(t, spec, "of the machine", "of the machine", "y")
	for _, test := range []struct {
		mount runner.Mount
		want  string
	}{
		{runner.Mount{Source: dir + "/no"}, fmt.Sprintf("failed to mount %q to %q: no such file or directory", dir+"/no", "/v")},
		{runner.Mount{Source: dir, SubPath: "out/x"}, `failed to prepare subPath for volumeMount "v" of container "main": subPath "out/x": it escapes from the volume`},
		{runner.Mount{Source: dir, SubPath: "file/x"}, `failed to prepare subPath for volumeMount "v" of container "main": subPath "file/x": not a directory`},
	} {
		spec := f.spec("echo never")
		test.mount.Volume, test.mount.Target = "v", "/v"
		spec.Mounts = []runner.Mount{test.mount}
		if out := f.quietly(t, spec); out != "refused: "+test.want {
			t.Errorf("got %s", out)
		}
	}
}
