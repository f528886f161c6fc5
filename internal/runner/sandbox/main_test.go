package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sampan-batch/sampan/internal/runner"
	"github.com/sampan-batch/sampan/internal/runner/reap"
)

// The tests run as a supervisor does: in a mount namespace as root, and in a
// user namespace and a mount namespace as an ordinary user. Started as root they
// run three times: as root, as nobody, and as nobody with subordinate ids, which
// root may map without newuidmap and a file that says so.
const (
	stageVar = "SAMPAN_SANDBOX_TEST" // "user": become nobody; "inside": in the namespaces
	probeVar = "SAMPAN_SANDBOX_PROBE"
	nobody   = 65534
)

func TestMain(m *testing.M) {
	switch os.Getenv(stageVar) {
	case "inside":
		os.Exit(inside(m))
	case "unified":
		if err := mountUnified(); err != nil {
			fmt.Fprintln(os.Stderr, "FAIL:", err)
			os.Exit(1)
		}
		os.Exit(inside(m))
	case "naive":
		if err := removeNaively(os.Args[1]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	case "init": // see BenchmarkStart
		fmt.Fprintln(os.Stderr, reexecInit(os.Args[1], os.Args[2], os.Args[3]))
		os.Exit(1)
	}
	code, err := outside()
	if err != nil {
		fmt.Fprintln(os.Stderr, "FAIL:", err)
		code = 1
	}
	os.Exit(code)
}

// outside builds the probe and runs the tests in their namespaces.
func outside() (int, error) {
	dir, err := os.MkdirTemp("", "sandbox-test-")
	if err != nil {
		return 1, err
	}
	defer os.RemoveAll(dir)
	if os.Getenv(probeVar) == "" {
		if err := buildProbe(dir); err != nil {
			return 1, err
		}
	}
	if os.Geteuid() != 0 {
		return runInside(&syscall.SysProcAttr{
			Cloneflags:  unix.CLONE_NEWNS | unix.CLONE_NEWUSER,
			UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}},
			GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}},
		}, "inside", os.Args[1:])
	}
	code, err := runInside(&syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS}, "inside", os.Args[1:])
	if code != 0 || err != nil {
		return code, err
	}
	fmt.Println("=== with control groups of version 2 only")
	code, err = runInside(&syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS}, "unified", append(userArgs(), "-test.skip="+longTests))
	if code != 0 || err != nil {
		return code, err
	}
	home := filepath.Join(dir, "nobody")
	if err := errors.Join(os.Mkdir(home, 0o700), os.Chown(home, nobody, nobody)); err != nil {
		return 1, err
	}
	os.Setenv("TMPDIR", home)
	fmt.Println("=== as an ordinary user")
	code, err = runInside(&syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}, "user", userArgs())
	if code != 0 || err != nil {
		return code, err
	}
	// As newuidmap does it for somebody who has subordinate ids.
	fmt.Println("=== as an ordinary user with subordinate ids")
	const first, count = 200_000, 65_536
	ranges := []syscall.SysProcIDMap{{ContainerID: 0, HostID: nobody, Size: 1}, {ContainerID: 1, HostID: first, Size: count}}
	return runInside(&syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWUSER, UidMappings: ranges, GidMappings: ranges, GidMappingsEnableSetgroups: true,
		Credential: &syscall.Credential{Uid: 0, Gid: 0},
	}, "inside", userArgs())
}

func buildProbe(dir string) error {
	if err := os.Chmod(dir, 0o755); err != nil {
		return err
	}
	probe := filepath.Join(dir, "probe")
	build := exec.Command("go", "build", "-o", probe, "./testdata/probe")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build the probe: %w\n%s", err, out)
	}
	return os.Setenv(probeVar, probe)
}

// userArgs are the arguments without those that name files of root's.
func userArgs() []string {
	var args []string
	for _, arg := range os.Args[1:] {
		name, _, _ := strings.Cut(strings.TrimLeft(arg, "-"), "=")
		if strings.HasSuffix(name, "profile") || name == "test.testlogfile" || name == "test.outputdir" || name == "test.trace" {
			continue
		}
		args = append(args, arg)
	}
	return args
}

func runInside(attr *syscall.SysProcAttr, stage string, args []string) (int, error) {
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Args[0] = os.Args[0]
	cmd.Stdin, cmd.Stdout, cmd.Stderr, cmd.SysProcAttr = os.Stdin, os.Stdout, os.Stderr, attr
	cmd.Env = append(os.Environ(), stageVar+"="+stage)
	err := cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode(), nil
	}
	if err != nil {
		return 1, fmt.Errorf("run the tests in namespaces: %w", err)
	}
	return 0, nil
}

func inside(m *testing.M) int {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
		fmt.Fprintln(os.Stderr, "keep mounts to itself:", err)
		return 1
	}
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		fmt.Fprintln(os.Stderr, "become a subreaper:", err)
		return 1
	}
	if err := copyDevices(); err != nil {
		fmt.Fprintln(os.Stderr, "make devices of the tests' own:", err)
		return 1
	}
	return m.Run()
}

// longTests are those to which it is all one what control groups there are.
const longTests = "Removed|WorkingDirectory|NothingIsMadeOutside|Volume|SubPath|Seccomp|Usage"

// mountUnified leaves the tests of a machine's control groups the tree of version
// 2 only, as most machines have it. Where version 1 has the controllers, its groups
// have no limits; but this is how they are entered and left.
func mountUnified() error {
	const dir = "/sys/fs/cgroup"
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	for unix.Unmount(dir, unix.MNT_DETACH) == nil {
		continue // what lies on top of each other
	}
	return os.NewSyscallError("mount cgroup2", unix.Mount("cgroup2", dir, "cgroup2", 0, ""))
}

// copyDevices gives the tests devices of their own in place of the machine's: some
// tests let them be attacked.
func copyDevices() error {
	dir, err := os.MkdirTemp("", "devices-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "mode=755"); err != nil {
		return err
	}
	defer unix.Unmount(dir, unix.MNT_DETACH)
	for _, d := range devices {
		path := filepath.Join(dir, d.name)
		err := unix.Mknod(path, unix.S_IFCHR|0o666, int(unix.Mkdev(d.major, d.minor)))
		if errors.Is(err, unix.EPERM) {
			return nil // nobody could change the machine's here
		}
		err = errors.Join(err, os.Chmod(path, 0o666), unix.Mount(path, "/dev/"+d.name, "", unix.MS_BIND, ""))
		if err != nil {
			return err
		}
	}
	return nil
}

// ordinary tells whether the tests run as an ordinary user, and single whether
// that has no subordinate ids.
func ordinary(tb testing.TB) bool {
	_, is, err := readIDMap("/proc/self/uid_map")
	must(tb, err)
	return is
}

func single(tb testing.TB) bool {
	ids, is, err := readIDMap("/proc/self/uid_map")
	must(tb, err)
	return is && !ids.has(1)
}

// bench is a launcher with an image of one layer, that contains the probe.
type fixture struct {
	*Launcher
	tb    testing.TB
	layer string
	n     atomic.Int64
	name  string // among those of all tests, in the machine's control groups
}

// fixtures counts them.
var fixtures atomic.Int64

func setup(tb testing.TB) *fixture {
	tb.Helper()
	dir := tb.TempDir()
	f := &fixture{tb: tb, layer: makeLayer(tb), name: fmt.Sprintf("%d-%d", os.Getpid(), fixtures.Add(1))}
	l, err := New(runner.LauncherEnv{
		Dir: dir, Reaper: reap.New(), Log: slog.New(slog.NewTextHandler(testWriter{tb}, nil)),
	})
	if err != nil {
		tb.Fatal(err)
	}
	f.Launcher = l
	tb.Cleanup(func() {
		for uid := range l.pods {
			if err := l.RemovePod(uid); err != nil {
				tb.Error(err)
			}
		}
		if err := l.Finish(context.Background()); err != nil {
			tb.Error(err)
		}
		for _, name := range []string{"upper", "work", "links", "volumes", "aside"} {
			left, err := os.ReadDir(filepath.Join(dir, name))
			if err != nil && !(name == "volumes" && os.IsNotExist(err)) || len(left) > 0 {
				tb.Errorf("containers are left on disk: %v %v", left, err)
			}
		}
		for _, name := range []string{"memory/upper", "memory/work"} {
			if left, err := os.ReadDir(filepath.Join(dir, name)); err != nil || len(left) > 0 {
				tb.Errorf("containers are left in memory: %v %v", left, err)
			}
		}
		for _, name := range []string{"kit", "memory"} {
			if err := unix.Unmount(filepath.Join(l.env.Dir, name), unix.MNT_DETACH); err != nil {
				tb.Error(err)
			}
		}
	})
	return f
}

type testWriter struct{ tb testing.TB }

func (w testWriter) Write(p []byte) (int, error) {
	w.tb.Logf("%s", p)
	return len(p), nil
}

// makeLayer returns a directory like an unpacked image layer.
func makeLayer(tb testing.TB) string {
	tb.Helper()
	layer := tb.TempDir()
	must(tb, os.Chmod(layer, 0o755))
	for _, d := range []string{"bin", "etc", "proc", "dev", "sys", "tmp", "srv"} {
		must(tb, os.Mkdir(filepath.Join(layer, d), 0o755))
	}
	must(tb, os.Chmod(filepath.Join(layer, "tmp"), 0o1777))
	copyFile(tb, os.Getenv(probeVar), filepath.Join(layer, "bin", "probe"), 0o755)
	must(tb, os.WriteFile(filepath.Join(layer, "etc", "image"), []byte("from the image"), 0o644))
	return layer
}

func copyFile(tb testing.TB, from, to string, mode os.FileMode) {
	tb.Helper()
	data, err := os.ReadFile(from)
	must(tb, err)
	must(tb, os.WriteFile(to, data, 0o755))
	must(tb, os.Chmod(to, mode))
}

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

// defaultCapabilities is what a container gets on Kubernetes.
var defaultCapabilities = []string{
	"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_MKNOD", "CAP_NET_RAW", "CAP_SETGID", "CAP_SETUID",
	"CAP_SETFCAP", "CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_KILL", "CAP_AUDIT_WRITE",
}

// spec returns a container of a pod of its own that runs the probe.
func (f *fixture) spec(commands ...string) *runner.Spec {
	n := f.n.Add(1)
	return &runner.Spec{
		ID:    fmt.Sprintf("uid-%s-%d_main_0", f.name, n),
		Class: runner.Sandbox,
		Pod:   runner.PodRef{Namespace: "default", Name: fmt.Sprintf("pod-%d", n), UID: fmt.Sprintf("uid-%s-%d", f.name, n)},
		Args:  append([]string{"probe"}, commands...),

		Container:                "main",
		Layers:                   []string{f.layer},
		Hostname:                 fmt.Sprintf("pod-%d", n),
		Capabilities:             defaultCapabilities,
		AllowPrivilegeEscalation: true,
	}
}

// run launches a container and returns what it wrote and how it ended.
func (f *fixture) run(tb testing.TB, spec *runner.Spec) (string, runner.ExitInfo) {
	tb.Helper()
	c := f.launch(tb, spec)
	return c.wait()
}

// want runs a container and compares what it writes.
func (f *fixture) want(tb testing.TB, spec *runner.Spec, want ...string) {
	tb.Helper()
	got, info := f.run(tb, spec)
	if got != strings.Join(want, "\n") {
		tb.Errorf("%q: got\n%s\nwant\n%s", spec.Args, got, strings.Join(want, "\n"))
	}
	if info.Code != 0 {
		tb.Errorf("%q: exit code %d", spec.Args, info.Code)
	}
}

// running is a container whose output is collected.
type running struct {
	runner.Process
	tb  testing.TB
	out chan string
}

func (f *fixture) launch(tb testing.TB, spec *runner.Spec) *running {
	tb.Helper()
	r, w, err := os.Pipe()
	must(tb, err)
	p, err := f.Launch(context.Background(), spec, nil, w, w)
	w.Close()
	if err != nil {
		tb.Fatalf("launch %q: %v", spec.Args, err)
	}
	return &running{p, tb, collect(r)}
}

func collect(r *os.File) chan string {
	out := make(chan string, 1)
	go func() {
		defer r.Close()
		text, _ := io.ReadAll(r)
		out <- strings.TrimRight(string(text), "\n")
	}()
	return out
}

// wait waits for the container, releases it, and returns its output.
func (r *running) wait() (string, runner.ExitInfo) {
	r.tb.Helper()
	info, err := r.Wait()
	if err != nil {
		r.tb.Fatal(err)
	}
	if err := r.Release(); err != nil {
		r.tb.Error(err)
	}
	return <-r.out, info
}

// exec runs the probe in the container.
func (r *running) exec(commands ...string) (string, runner.ExitInfo) {
	r.tb.Helper()
	rd, w, err := os.Pipe()
	must(r.tb, err)
	out := collect(rd)
	p, err := r.Exec(context.Background(), runner.ExecSpec{Args: append([]string{"probe"}, commands...)}, nil, w, w)
	w.Close()
	if err != nil {
		r.tb.Fatalf("exec %q: %v", commands, err)
	}
	info, err := p.Wait()
	must(r.tb, err)
	return <-out, info
}

func ptr[T any](v T) *T { return &v }
