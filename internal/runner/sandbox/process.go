package sandbox

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sampan-batch/sampan/internal/runner"
	"github.com/sampan-batch/sampan/internal/runner/cgroup"
	"github.com/sampan-batch/sampan/internal/runner/reap"
)

// process is a container's first process; it implements runner.Process.
type process struct {
	l       *Launcher
	spec    *runner.Spec
	child   *reap.Child
	dirs    layerDirs
	ids     ids
	group   *cgroup.Group
	ignored string
	mountNS int // see joinPod; negative when the pid namespace is the container's own
	// terminal is this side's end of it, with Spec.TTY.
	terminal *os.File
}

func newProcess(c *container, child *reap.Child) *process {
	return &process{
		l: c.l, spec: c.spec, child: child, dirs: c.dirs, ids: c.ids, group: c.group, ignored: c.ignored,
		mountNS: c.mountNS,
	}
}

// Terminal implements runner.Process.
func (p *process) Terminal() *os.File { return p.terminal }

// PID implements runner.Process.
func (p *process) PID() int { return p.child.PID() }

// LimitsIgnored implements runner.Process.
func (p *process) LimitsIgnored() string { return p.ignored }

// Resize implements runner.Process.
func (p *process) Resize(r runner.Resources) (ignored string, err error) {
	return p.group.ResizeContainer(p.spec.Container, r)
}

// Wait implements runner.Process. The end of a pid namespace's first process is
// reported when all the others in it are gone.
func (p *process) Wait() (runner.ExitInfo, error) {
	if p.mountNS >= 0 {
		if err := p.child.Ended(); err != nil {
			return runner.ExitInfo{}, err
		}
		p.killGroup()
		p.killOthers()
		_ = unix.Close(p.mountNS)
	}
	ws, err := p.child.Wait()
	p.l.mu.Lock()
	delete(p.l.running, p.spec.ID)
	p.l.mu.Unlock()
	p.killGroup() // an Exec may have come just now
	if err != nil {
		return runner.ExitInfo{}, err
	}
	info := runner.ExitFromWait(ws)
	if p.group != nil {
		kills, err := p.group.OOMKills()
		info.OOMKilled = err == nil && kills > 0
	}
	return info, nil
}

// killGroup kills every process in the container's group, those included that
// have left its namespaces.
func (p *process) killGroup() {
	if p.group == nil {
		return
	}
	if err := p.group.Kill(); err != nil {
		p.l.env.Log.Error("a container's processes do not end", "container", p.spec.ID, "err", err)
	}
}

// Signal implements runner.Process. When the first process has ended, however
// that came about, Wait ends the others.
func (p *process) Signal(sig int) error {
	return p.child.Signal(syscall.Signal(sig))
}

// Release implements runner.Process. Mounts have gone with the namespace.
func (p *process) Release() error {
	p.dirs.remove(p.l.bin)
	if p.group != nil {
		return p.group.Remove()
	}
	return nil
}

// killOthers kills the container's processes in a pid namespace that is not
// its own: those that have its mount namespace, or its tag.
func (p *process) killOthers() {
	var st unix.Stat_t
	err := unix.Fstat(p.mountNS, &st)
	if err == nil {
		mounts, tag := fmt.Sprintf("mnt:[%d]", st.Ino), p.l.tags.Of(p.l.mark(p.spec.ID))
		err = killAll(func(pid int) bool {
			ns, err := os.Readlink(procPath(pid, "ns/mnt"))
			return (err == nil && ns == mounts || tag != 0 && p.l.tags.Carried(pid) == tag) && pid != p.child.PID()
		})
	}
	if err != nil {
		p.l.env.Log.Warn("cannot end a container's processes", "container", p.spec.ID, "err", err)
	}
}

// killLost kills the processes of containers that outlived their supervisor.
// They are known by the writable layer that they run on, and by their tags.
func (l *Launcher) killLost(lost []*runner.Spec) error {
	tags := make(map[uint64]bool, len(lost))
	for _, spec := range lost {
		tags[l.tags.Of(l.mark(spec.ID))] = true
	}
	delete(tags, 0)
	mark := []byte("upperdir=" + l.env.Dir + "/")
	return killAll(func(pid int) bool {
		if tags[l.tags.Carried(pid)] {
			return true
		}
		mounts, err := os.ReadFile(procPath(pid, "mountinfo"))
		return err == nil && bytes.Contains(mounts, mark)
	})
}

// errUnkillable: processes were still there after killPatience.
var errUnkillable = errors.New("processes do not end")

const killPatience = 5 * time.Second

// killAll kills the processes that belong, and those that they start meanwhile,
// and returns when there are none but zombies.
func killAll(belongs func(pid int) bool) error {
	for deadline := time.Now().Add(killPatience); ; time.Sleep(time.Millisecond) {
		left, err := killOnce(belongs)
		if left == 0 || err != nil {
			return err
		}
		if time.Now().After(deadline) {
			return errUnkillable
		}
	}
}

func killOnce(belongs func(pid int) bool) (left int, err error) {
	dir, err := os.Open("/proc")
	if err != nil {
		return 0, err
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return 0, err
	}
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil || !belongs(pid) || zombie(pid) {
			continue
		}
		// The id may have become another process's since; a pidfd says which one
		// is meant.
		fd, err := unix.PidfdOpen(pid, 0)
		if err != nil {
			continue
		}
		if belongs(pid) {
			left++
			_ = unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0)
		}
		_ = unix.Close(fd)
	}
	return left, nil
}

// zombie tells whether a process has ended and only waits to be collected.
func zombie(pid int) bool {
	stat, err := os.ReadFile(procPath(pid, "stat"))
	if err != nil {
		return true
	}
	// The name, in brackets, may contain anything.
	i := bytes.LastIndexByte(stat, ')')
	return i < 0 || i+2 >= len(stat) || stat[i+2] == 'Z' || stat[i+2] == 'X'
}

func procPath(pid int, name string) string { return "/proc/" + strconv.Itoa(pid) + "/" + name }
