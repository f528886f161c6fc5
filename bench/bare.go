package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/sampan-batch/sampan/internal/runner"
	"github.com/sampan-batch/sampan/internal/runner/reap"
	"github.com/sampan-batch/sampan/internal/runner/sandbox"
	"github.com/sampan-batch/sampan/torture/program"
)

// imageName is what the benchmark's Jobs name.
const imageName = "sampan-bench"

// bench is what all measurements share.
type bench struct {
	options // with binary, in any case
	// program does nothing when called with "true": the static busybox where
	// there is one, else a Go program.
	program string
	image   string // an archive of an image that holds only the program
	layer   string // the same, unpacked
}

// inside is the program's path as a container of the class sees it.
func (b *bench) inside(class string) string {
	if class != "host" {
		return "/" + filepath.Base(b.program) // busybox goes by its name
	}
	return b.program
}

// prepare builds the binary and the image.
func prepare(ctx context.Context, o options) (*bench, error) {
	b := &bench{options: o, image: filepath.Join(o.dir, "image.tar"), layer: filepath.Join(o.dir, "layer")}
	if b.binary == "" {
		b.binary = filepath.Join(o.dir, "sampan")
		if err := program.GoBuild(ctx, b.binary, "github.com/sampan-batch/sampan/cmd/sampan"); err != nil {
			return nil, err
		}
	}
	if program.Static(program.Shell) {
		b.program = program.Shell
	} else if err := b.buildProgram(ctx); err != nil {
		return nil, err
	}
	body, err := os.ReadFile(b.program)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(b.layer, 0o755); err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(b.layer, filepath.Base(b.program)), body, 0o755); err != nil {
		return nil, err
	}
	return b, program.WriteImage(b.image, imageName, b.program, b.inside("sandbox"))
}

// programSource is a program that does what busybox does when it is called with "true" or
// with "sleep" and a number of seconds.
const programSource = `package main

import (
	"os"
	"time"
)

func main() {
	if len(os.Args) > 2 && os.Args[1] == "sleep" {
		d, err := time.ParseDuration(os.Args[2] + "s")
		if err != nil {
			panic(err)
		}
		time.Sleep(d)
	}
}
`

func (b *bench) buildProgram(ctx context.Context) error {
	source := filepath.Join(b.dir, "true.go")
	if err := os.WriteFile(source, []byte(programSource), 0o600); err != nil {
		return err
	}
	b.program = filepath.Join(b.dir, "true")
	return program.GoBuild(ctx, b.program, source)
}

// bare measures what the machine can do by a bare loop, as many at a time as
// it has cores: fork+exec, the same with the sandbox around it, or commands that
// are executed inside a sandbox that is there, as probes and hooks are.
func (b *bench) bare(class string) (rate, error) {
	cmd := exec.Command("/proc/self/exe", bareCommand, class, b.inside(class), b.layer, b.dir)
	cmd.Stderr = os.Stderr
	if class != "host" {
		cmd.SysProcAttr = ownNamespaces()
	}
	out, err := cmd.Output()
	if err != nil {
		return rate{}, fmt.Errorf("bare loop, %s: %w", class, err)
	}
	var r struct{ PerSecond, CPU float64 }
	if err := json.Unmarshal(out, &r); err != nil {
		return rate{}, err
	}
	return rate{perSecond: r.PerSecond, cpu: time.Duration(r.CPU * float64(time.Second))}, nil
}

// ownNamespaces gives the loop what a supervisor has: mounts of its own and,
// for an ordinary user, a user namespace.
func ownNamespaces() *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
	if os.Geteuid() != 0 {
		attr.Cloneflags |= syscall.CLONE_NEWUSER
		attr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}}
		attr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}}
	}
	return attr
}

// bareCommand makes this program one of the bare loops.
const bareCommand = "bare-loop"

// bareTime is how long a bare loop runs.
const bareTime = 3 * time.Second

// bareMain runs a bare loop and prints its rate.
func bareMain(args []string) int {
	class, program, layer, dir := args[0], args[1], args[2], args[3]
	once := func(int64) error { return exec.Command(program, "true").Run() }
	if class != "host" {
		l, err := newLauncher(dir)
		if err == nil {
			once, err = l.loop(class, program, layer)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer l.end()
	}
	r, err := loop(runtime.NumCPU(), once)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Printf(`{"PerSecond": %f, "CPU": %f}`, r.perSecond, r.cpu.Seconds())
	return 0
}

// execClass names the loop of commands inside a sandbox.
const execClass = "exec"

// launcher is the sandbox without an engine and a supervisor around it.
type launcher struct {
	*sandbox.Launcher
	null *os.File
	file string // stands for the files that an engine makes for a container
	end  func()
}

func newLauncher(dir string) (*launcher, error) {
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return nil, err
	}
	home, err := os.MkdirTemp(dir, "bare-*")
	if err != nil {
		return nil, err
	}
	l := &launcher{end: func() {}}
	if l.Launcher, err = sandbox.New(runner.LauncherEnv{Dir: home, Reaper: reap.New(), Log: slog.New(slog.DiscardHandler)}); err != nil {
		return nil, err
	}
	l.file = filepath.Join(home, "file")
	if err := os.WriteFile(l.file, nil, 0o644); err != nil {
		return nil, err
	}
	l.null, err = os.OpenFile("/dev/null", os.O_RDWR, 0)
	return l, err
}

// loop returns what is to be repeated: a container, or a command in one.
func (l *launcher) loop(class, program, layer string) (func(int64) error, error) {
	if class == execClass {
		return l.execLoop(program, layer)
	}
	return func(i int64) error {
		spec := l.bareSpec("pod-"+strconv.FormatInt(i, 10), layer, program, "true")
		if _, err := l.Join(spec.Pod.UID); err != nil {
			return err
		}
		p, err := l.Launch(context.Background(), spec, nil, l.null, l.null)
		if err != nil {
			return err
		}
		if err := waitFor(p); err != nil {
			return err
		}
		return l.remove(p, spec)
	}, nil
}

func (l *launcher) execLoop(program, layer string) (func(int64) error, error) {
	spec := l.bareSpec("pod", layer, program, "sleep", "1000")
	if _, err := l.Join(spec.Pod.UID); err != nil {
		return nil, err
	}
	container, err := l.Launch(context.Background(), spec, nil, l.null, l.null)
	if err != nil {
		return nil, err
	}
	l.end = func() {
		_ = container.Signal(int(syscall.SIGKILL))
		_, _ = container.Wait()
		_ = l.remove(container, spec)
	}
	return func(int64) error {
		p, err := container.Exec(context.Background(), runner.ExecSpec{Args: []string{program, "true"}}, nil, l.null, l.null)
		if err != nil {
			return err
		}
		return waitFor(p)
	}, nil
}

// bareSpec is the container that a Job of the benchmark has: the same mounts, the same control
// group, and the same kind of network.
func (l *launcher) bareSpec(pod, layer string, args ...string) *runner.Spec {
	return &runner.Spec{
		Mounts: []runner.Mount{
			{Source: l.file, Target: "/etc/hosts"},
			{Source: "/etc/resolv.conf", Target: "/etc/resolv.conf", ReadOnly: true},
		},
		TerminationLog: l.file, TerminationLogPath: "/dev/termination-log",
		ID: pod + "_c_0", Class: runner.Sandbox, Pod: runner.PodRef{Namespace: "default", Name: pod, UID: pod},
		Container: "c", Args: args, Layers: []string{layer}, Hostname: pod, PodPids: 4096, PodNetwork: true,
	}
}

func waitFor(p runner.Process) error {
	info, err := p.Wait()
	if err != nil || info.Code != 0 {
		return fmt.Errorf("exit code %d: %w", info.Code, err)
	}
	return nil
}

func (l *launcher) remove(p runner.Process, spec *runner.Spec) error {
	if err := p.Release(); err != nil {
		return err
	}
	return l.RemovePod(spec.Pod.UID)
}

// loop calls once, n at a time, for bareTime.
func loop(n int, once func(int64) error) (rate, error) {
	var count atomic.Int64
	var failed atomic.Pointer[error]
	var wg sync.WaitGroup
	before := ownCPU()
	began := time.Now()
	for range n {
		wg.Go(func() {
			for time.Since(began) < bareTime && failed.Load() == nil {
				if err := once(count.Add(1)); err != nil {
					failed.Store(&err)
				}
			}
		})
	}
	wg.Wait()
	if err := failed.Load(); err != nil {
		return rate{}, *err
	}
	done := count.Load()
	return rate{
		perSecond: float64(done) / time.Since(began).Seconds(),
		cpu:       (ownCPU() - before) / time.Duration(done),
	}, nil
}

// ownCPU is the CPU time of this process and the children it has waited for.
func ownCPU() time.Duration {
	var total time.Duration
	for _, who := range []int{syscall.RUSAGE_SELF, syscall.RUSAGE_CHILDREN} {
		var u syscall.Rusage
		if syscall.Getrusage(who, &u) == nil {
			total += time.Duration(u.Utime.Nano() + u.Stime.Nano())
		}
	}
	return total
}
