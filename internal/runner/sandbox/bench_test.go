package sandbox

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sampan-batch/sampan/internal/runner"
	"github.com/sampan-batch/sampan/internal/runner/fork"
)

// BenchmarkStart starts busybox true and waits for its end, with -cpu 1,2 one
// and two at a time:
//
//	exec       os/exec, no isolation
//	reexec     namespaces and overlayfs by a Go init: this program executed again
//	program    the same steps by package fork
//	container  Launch, Wait, Release, RemovePod: all that a container is given
//	readonly   the same with a read-only root
//	limited    the same with a memory limit
func BenchmarkStart(b *testing.B) {
	f := setup(b)
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		b.Skip("the benchmark starts a static busybox: apt-get install busybox-static")
	}
	program := filepath.Join(f.layer, "bin", "true")
	copyFile(b, busybox, program, 0o755)

	run := func(name string, once func() error) {
		b.Run(name, func(b *testing.B) {
			before := cpuTime()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if err := once(); err != nil {
						b.Error(err)
						return
					}
				}
			})
			b.ReportMetric((cpuTime()-before)*1000/float64(b.N), "cpu-ms/op")
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "starts/s")
		})
	}
	run("exec", func() error { return exec.Command(program).Run() })
	run("reexec", f.reexec)
	run("program", f.bare)
	run("container", func() error { return f.whole(func(*runner.Spec) {}) })
	run("readonly", func() error { return f.whole(func(s *runner.Spec) { s.ReadOnlyRoot = true }) })
	run("limited", func() error { return f.whole(func(s *runner.Spec) { s.Resources.MemoryLimit = 64 << 20 }) })
}

// BenchmarkExec executes busybox true in a container that is there.
func BenchmarkExec(b *testing.B) {
	f := setup(b)
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		b.Skip("the benchmark executes a static busybox: apt-get install busybox-static")
	}
	copyFile(b, busybox, filepath.Join(f.layer, "bin", "true"), 0o755)
	c := f.launch(b, f.spec("sleep 1h"))
	defer func() {
		must(b, c.Signal(int(unix.SIGKILL)))
		c.wait()
	}()
	before := cpuTime()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			p, err := c.Exec(b.Context(), runner.ExecSpec{Args: []string{"/bin/true"}}, nil, nil, nil)
			if err == nil {
				_, err = p.Wait()
			}
			if err != nil {
				b.Error(err)
				return
			}
		}
	})
	b.ReportMetric((cpuTime()-before)*1000/float64(b.N), "cpu-ms/op")
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "execs/s")
}

// cpuTime is the CPU time of this process and its children so far, in seconds.
func cpuTime() float64 {
	var total float64
	for _, who := range []int{unix.RUSAGE_SELF, unix.RUSAGE_CHILDREN} {
		var u unix.Rusage
		if err := unix.Getrusage(who, &u); err == nil {
			total += float64(u.Utime.Nano()+u.Stime.Nano()) / 1e9
		}
	}
	return total
}

func (f *fixture) whole(change func(*runner.Spec)) error {
	spec := f.spec()
	spec.Args = []string{"/bin/true"}
	change(spec)
	p, err := f.Launch(context.Background(), spec, nil, nil, nil)
	if err != nil {
		return err
	}
	info, err := p.Wait()
	if err != nil || info.Code != 0 {
		return fmt.Errorf("ended with %+v %w", info, err)
	}
	if err := p.Release(); err != nil {
		return err
	}
	return f.RemovePod(spec.Pod.UID)
}

const namespaces = unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS

func (f *fixture) bare() error {
	c := f.newContainer(f.spec(), []string{"/bin/true"})
	defer c.close()
	if err := c.dirs.make(); err != nil {
		return err
	}
	defer c.dirs.remove(c.l.bin)
	c.born()
	opts, err := c.overlayOptions()
	if err != nil {
		return err
	}
	p, mnt := c.p, filepath.Join(f.env.Dir, "mnt")
	p.Add(
		fork.Call("make mounts private", unix.SYS_MOUNT, 0, p.String("/"), 0, unix.MS_REC|unix.MS_PRIVATE, 0),
		mountStep(p, "overlay", mnt, "overlay", 0, opts),
		chdirStep(p, mnt),
		fork.Call("pivot_root", unix.SYS_PIVOT_ROOT, p.String("."), p.String(".")),
		mountStep(p, "proc", "/proc", "proc", 0, ""),
		fork.Call("leave", unix.SYS_UMOUNT2, p.String("."), unix.MNT_DETACH),
		fork.Call("close files", unix.SYS_CLOSE_RANGE, fork.Status+1, 1<<32-1, 0),
	)
	c.command(false)
	child, err := f.startProgram(context.Background(), p, fork.Options{Flags: namespaces})
	if err != nil {
		return err
	}
	ws, err := child.Wait()
	if err != nil || ws != 0 {
		return fmt.Errorf("ended with %v %w", ws, err)
	}
	return nil
}

func (f *fixture) reexec() error {
	c := f.newContainer(f.spec(), nil)
	if err := c.dirs.make(); err != nil {
		return err
	}
	defer c.dirs.remove(c.l.bin)
	opts, err := c.overlayOptions()
	if err != nil {
		return err
	}
	cmd := exec.Command("/proc/self/exe", filepath.Join(f.env.Dir, "mnt"), opts, "/bin/true")
	cmd.Env = []string{stageVar + "=init"}
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: namespaces}
	return cmd.Run()
}

// reexecInit is the first process of such a container.
func reexecInit(mnt, opts, program string) error {
	for _, step := range []func() error{
		func() error { return unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "") },
		func() error { return unix.Mount("overlay", mnt, "overlay", 0, opts) },
		func() error { return unix.Chdir(mnt) },
		func() error { return unix.PivotRoot(".", ".") },
		func() error { return unix.Mount("proc", "/proc", "proc", 0, "") },
		func() error { return unix.Unmount(".", unix.MNT_DETACH) },
		func() error { return unix.Exec(program, []string{program}, nil) },
	} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}
