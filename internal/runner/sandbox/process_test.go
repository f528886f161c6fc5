package sandbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sampan-batch/sampan/internal/runner"
)

func TestSignals(t *testing.T) {
	t.Parallel()
	f := setup(t)
	r, w, err := os.Pipe()
	must(t, err)
	p, err := f.Launch(context.Background(), f.spec("trap"), nil, w, w)
	must(t, err)
	w.Close()
	var ready [6]byte
	if _, err := r.Read(ready[:]); err != nil {
		t.Fatal(err)
	}
	must(t, p.Signal(int(unix.SIGTERM)))
	c := &running{p, t, collect(r)}
	if out, info := c.wait(); out != "terminated" || info.Code != 0 {
		t.Errorf("got %q %+v", out, info)
	}
	if err := p.Signal(int(unix.SIGTERM)); !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("a signal after the end: %v", err)
	}

	// A first process that does not ask for a signal does not get it; SIGKILL is
	// not asked for. It takes the others with it.
	c = f.launch(t, f.spec("orphans", "sleep 1h"))
	must(t, c.Signal(int(unix.SIGUSR1)))
	must(t, c.Signal(int(unix.SIGKILL)))
	if _, info := c.wait(); info.Code != 137 || info.Signal != int(unix.SIGKILL) {
		t.Errorf("got %+v", info)
	}
}

func TestEndTakesAll(t *testing.T) {
	t.Parallel()
	f := setup(t)
	start := time.Now()
	// The orphans hold the output: without their end, wait would not return.
	if _, info := f.run(t, f.spec("orphans", "exit 3")); info.Code != 3 {
		t.Errorf("got %+v", info)
	}
	if d := time.Since(start); d > time.Minute {
		t.Errorf("took %v", d)
	}
}

func TestSharedProcesses(t *testing.T) {
	t.Parallel()
	f := setup(t)
	first := f.spec("orphans", "echo up", "write /dev/shm/up x", "sleep 1h")
	first.ShareProcesses = true
	a := f.launch(t, first)
	second := f.spec("wait-file /dev/shm/up", "processes", "readlink /proc/1/exe", "ls /proc/1/root/", "orphans", "exit 4")
	second.ShareProcesses, second.Pod = true, first.Pod
	out, info := f.run(t, second)
	lines := strings.Split(out, "\n")
	if info.Code != 4 || len(lines) < 2 || !strings.HasPrefix(lines[0], "[1 2 ") || len(strings.Fields(lines[0])) < 6 {
		t.Errorf("got %s %+v", out, info)
	}
	for _, line := range lines[1:] { // of the first process nothing can be seen, or nothing is there
		if line != "" && !strings.Contains(line, "memfd:start") && !strings.Contains(line, "permission denied") {
			t.Errorf("the pause process shows %q", line)
		}
	}
	if out, _ := a.exec("processes"); !strings.HasPrefix(out, "[1 2 ") {
		t.Errorf("processes of the pod: %s", out)
	}
	must(t, a.Signal(int(unix.SIGKILL)))
	if _, info := a.wait(); info.Code != 137 {
		t.Errorf("got %+v", info)
	}
	// Nobody of either container is left, nor, after a moment, a zombie.
	for range 100 {
		third := f.spec("processes")
		third.ShareProcesses, third.Pod = true, first.Pod
		if out, _ = f.run(t, third); len(strings.Fields(out)) == 2 {
			return
		}
	}
	t.Errorf("left in the pod: %s", out)
}

// A container looks at the processes of another, and ends with it.
func TestProcessesOfAnother(t *testing.T) {
	t.Parallel()
	f := setup(t)
	first := f.spec("orphans", "write /dev/shm/up x", "sleep 1h")
	target := f.launch(t, first)
	beside := func(args ...string) *runner.Spec {
		spec := f.spec(args...)
		spec.ProcessesOf, spec.Pod = first.ID, first.Pod
		return spec
	}
	// both reports whether a list of processes has those of the target, which are four, and at
	// least so many others, and is not the machine's, which has this process.
	both := func(list string, others int) bool {
		return strings.HasPrefix(list, "[1 ") && len(strings.Fields(list)) >= 4+others && !strings.Contains(list, fmt.Sprint(" ", os.Getpid(), " "))
	}
	debugger := f.launch(t, beside("wait-file /dev/shm/up", "processes", "write /dev/shm/seen x", "orphans", "sleep 1h"))
	if out, _ := target.exec("wait-file /dev/shm/seen", "processes"); !both(out, 2) {
		t.Errorf("processes of the target: %s", out)
	}
	if out, info := debugger.exec("processes", "exit 4"); info.Code != 4 || !both(out, 2) {
		t.Errorf("a command beside the debugger sees %s %+v", out, info)
	}
	// One that ends alone takes nobody along, and leaves nobody.
	if out, info := f.run(t, beside("processes", "orphans", "exit 5")); info.Code != 5 || !both(out, 2) {
		t.Errorf("got %s %+v", out, info)
	}
	must(t, target.Signal(int(unix.SIGKILL)))
	var ends sync.WaitGroup // the target's end waits for that of all who are in its namespace
	ends.Go(func() {
		if _, info := target.wait(); info.Code != 137 {
			t.Errorf("the target ended with %+v", info)
		}
	})
	ends.Go(func() {
		if out, info := debugger.wait(); info.Code != 137 || !both(out, 1) {
			t.Errorf("the debugger ended with %s %+v", out, info)
		}
	})
	ends.Wait()
	for name, spec := range map[string]*runner.Spec{
		"one that has ended":   beside("exit 0"),
		"that of another pod":  {ID: "x", Pod: runner.PodRef{UID: "other"}, Args: []string{"/x"}, ProcessesOf: first.ID},
		"one that never began": {ID: "x", Pod: first.Pod, Args: []string{"/x"}, ProcessesOf: "y"},
	} {
		_, err := f.Launch(t.Context(), spec, nil, nil, nil)
		var start *runner.StartError
		if want := "invalid target container: container \"" + spec.ProcessesOf + "\" is not running"; !errors.As(err, &start) || start.Reason != "CreateContainerError" || start.Message != want {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestHostNamespaces(t *testing.T) {
	t.Parallel()
	f := setup(t)
	spec := f.spec("orphans", fmt.Sprintf("readlink /proc/%d/ns/pid", os.Getpid()), "exit 5")
	spec.HostPID, spec.HostIPC = true, true
	if _, info := f.run(t, spec); info.Code != 5 { // returns: the orphans are gone
		t.Errorf("got %+v", info)
	}
	ipc, err := os.Readlink("/proc/self/ns/ipc")
	must(t, err)
	pid, err := os.Readlink("/proc/self/ns/pid")
	must(t, err)
	again := f.spec("readlink /proc/self/ns/ipc", "readlink /proc/self/ns/pid")
	again.HostPID, again.HostIPC = true, true
	f.want(t, again, ipc, pid)
	out, _ := f.run(t, f.spec("readlink /proc/self/ns/ipc", "readlink /proc/self/ns/pid"))
	if strings.Contains(out, ipc) || strings.Contains(out, pid) {
		t.Errorf("namespaces of the machine: %s", out)
	}
}

func TestExec(t *testing.T) {
	t.Parallel()
	f := setup(t)
	const fields = "status CapInh CapPrm CapEff CapBnd CapAmb NoNewPrivs Seccomp"
	for _, uid := range []uint32{0, 1000} {
		spec := f.spec(fields, "id", "hostname", "pwd", "env A", "readlink /proc/self/ns/mnt", "readlink /proc/self/ns/pid",
			"readlink /proc/self/ns/ipc", "readlink /proc/self/ns/uts", "readlink /proc/self/ns/user", "write /tmp/up x", "sleep 1h")
		spec.UID, spec.GID = ptr(uid), ptr(uid)
		spec.Env, spec.Dir, spec.AllowPrivilegeEscalation = []string{"A=b"}, "/srv", false
		spec.Resources.PidsLimit = 50
		c := f.launch(t, spec)
		commands := spec.Args[1 : len(spec.Args)-2]
		got, info := c.exec(append([]string{"wait-file /tmp/up"}, commands...)...)
		if pids, _ := c.exec("processes", "fds", "sid"); !strings.HasPrefix(pids, "[1 ") || !strings.Contains(pids, "0 1 2") {
			t.Errorf("exec sees processes and files %s", pids)
		}
		must(t, c.Signal(int(unix.SIGKILL)))
		want, _ := c.wait()
		if got != want || info.Code != 0 {
			t.Errorf("uid %d: exec has\n%s\nthe container\n%s", uid, got, want)
		}
		if _, err := c.Exec(context.Background(), runner.ExecSpec{Args: []string{"probe"}}, nil, nil, nil); err == nil {
			t.Error("exec into an ended container")
		}
	}
}

func TestExecEnds(t *testing.T) {
	t.Parallel()
	f := setup(t)
	c := f.launch(t, f.spec("sleep 1h"))
	if _, info := c.exec("exit 9"); info.Code != 9 {
		t.Errorf("exit 9: got %+v", info)
	}
	_, err := c.Exec(context.Background(), runner.ExecSpec{Args: []string{"nosuch"}}, nil, nil, nil)
	var start *runner.StartError
	if !errors.As(err, &start) || start.Message != `exec: "nosuch": executable file not found in $PATH` {
		t.Errorf("got %v", err)
	}
	r, w, err := os.Pipe()
	must(t, err)
	p, err := c.Exec(context.Background(), runner.ExecSpec{Args: []string{"probe", "run /bin/probe sleep_1h"}}, nil, w, w)
	must(t, err)
	w.Close()
	must(t, p.Signal(int(unix.SIGKILL))) // it and what it runs, which holds the pipe
	if info, err := p.Wait(); err != nil || info.Code != 137 {
		t.Errorf("got %+v %v", info, err)
	}
	<-collect(r)
	// The end of the container is the end of what was added to it.
	p, err = c.Exec(context.Background(), runner.ExecSpec{Args: []string{"probe", "sleep 1h"}}, nil, nil, nil)
	must(t, err)
	ended := make(chan runner.ExitInfo)
	go func() {
		info, _ := p.Wait()
		ended <- info
	}()
	must(t, c.Signal(int(unix.SIGKILL)))
	c.wait()
	if info := <-ended; info.Code != 137 {
		t.Errorf("got %+v", info)
	}
}

func TestLimits(t *testing.T) {
	t.Parallel()
	f := setup(t)
	spec := f.spec("cat /proc/self/oom_score_adj")
	f.want(t, spec, "1000")

	eater := f.spec("eat 64")
	eater.Resources = runner.Resources{MemoryLimit: 16 << 20, CPUShares: 512, CPUQuota: 50_000, CPUPeriod: 100_000}
	c := f.launch(t, eater)
	ignored := c.LimitsIgnored()
	out, info := c.wait()
	if ordinary(t) || ignored != "" {
		if ignored == "" {
			t.Error("an ordinary user has limits on a machine with cgroups version 1")
		}
		t.Logf("not enforced: %s", ignored)
		return
	}
	if !info.OOMKilled || info.Code != 137 {
		t.Errorf("got %+v %q", info, out)
	}
	breeder := f.spec("threads 100")
	breeder.Resources.PidsLimit = 20
	if out, info := f.run(t, breeder); !strings.HasPrefix(out, "refused after ") || info.OOMKilled {
		t.Errorf("got %q %+v", out, info)
	}
}

// Many at once, with signals arriving and the garbage collector running.
func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	f := setup(t)
	stop := make(chan struct{})
	var pester sync.WaitGroup
	pester.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				_ = unix.Kill(os.Getpid(), unix.SIGURG)
				_ = make([]byte, 1<<16)
				time.Sleep(100 * time.Microsecond)
			}
		}
	})
	var group sync.WaitGroup
	for i := range 200 {
		group.Go(func() {
			spec := f.spec(fmt.Sprint("echo ", i), fmt.Sprint("exit ", i%100))
			c := f.launch(t, spec)
			if out, info := c.wait(); out != fmt.Sprint(i) || info.Code != i%100 {
				t.Errorf("container %d: got %q %+v", i, out, info)
			}
			if err := f.RemovePod(spec.Pod.UID); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	close(stop)
	pester.Wait()
}

// No descriptor, directory or process stays behind.
func TestNothingIsLeft(t *testing.T) {
	f := setup(t)
	once := func() {
		spec := f.spec("orphans")
		spec.ShareProcesses = true
		spec.Mounts = []runner.Mount{{Source: f.layer, Target: "/x"}}
		f.run(t, spec)
		must(t, f.RemovePod(spec.Pod.UID))
		bad := f.spec("echo")
		bad.Args = []string{"nosuch"}
		bad.Mounts = spec.Mounts
		if _, err := f.Launch(context.Background(), bad, nil, nil, nil); err == nil {
			t.Error("nosuch was started")
		}
		must(t, f.RemovePod(bad.Pod.UID))
		must(t, f.Finish(t.Context()))
	}
	once() // what is made once
	before := openFiles(t)
	for range 5 {
		once()
	}
	if after := openFiles(t); after > before {
		t.Errorf("%d files are open, %d were", after, before)
	}
}

func openFiles(t *testing.T) int {
	entries, err := os.ReadDir("/proc/self/fd")
	must(t, err)
	return len(entries)
}

func TestRecover(t *testing.T) {
	t.Parallel()
	f := setup(t)
	spec := f.spec()
	left := filepath.Join(f.env.Dir, "upper", spec.ID, "deep")
	must(t, os.MkdirAll(left, 0o755))
	must(t, f.Recover([]*runner.Spec{spec}))
	if _, err := os.Stat(left); err == nil {
		t.Error("the writable layer is still there")
	}
	f.want(t, f.spec("echo again"), "again")
}

func TestTerminal(t *testing.T) {
	t.Parallel()
	f := setup(t)
	spec := f.spec("tty", "write /dev/console through the console")
	spec.TTY = true
	p, err := f.Launch(context.Background(), spec, nil, nil, nil)
	must(t, err)
	master := p.Terminal()
	defer master.Close()
	out := collect(master)
	got, info := (&running{p, t, out}).wait()
	if want := "a controlling terminal\r\nthrough the console"; got != want || info.Code != 0 {
		t.Errorf("got %q %+v", got, info)
	}
}

// TestGroupViews: a container finds its limits where programs look for them, and cannot change them.
func TestGroupViews(t *testing.T) {
	t.Parallel()
	f := setup(t)
	files := map[string]string{ // by version: the file, and what is in it
		"/sys/fs/cgroup/memory/memory.limit_in_bytes": "67108864",
		"/sys/fs/cgroup/cpu/cpu.cfs_quota_us":         "50000",
		"/sys/fs/cgroup/memory.max":                   "67108864",
		"/sys/fs/cgroup/cpu.max":                      "50000 100000",
	}
	found := 0
	for file, want := range files {
		spec := f.spec("cat "+file, "write "+file+" 1")
		spec.Resources = runner.Resources{MemoryLimit: 64 << 20, CPUQuota: 50_000, CPUPeriod: 100_000}
		c := f.launch(t, spec)
		if c.LimitsIgnored() != "" {
			c.wait()
			return // there are none to be seen
		}
		out, _ := c.wait()
		if strings.Contains(out, "no such file") {
			continue
		}
		found++
		if !strings.Contains(out, want) || !strings.Contains(out, "read-only file system") {
			t.Errorf("%s: it sees %q", file, out)
		}
	}
	if found != 2 {
		t.Errorf("%d of the files are there", found)
	}
}
