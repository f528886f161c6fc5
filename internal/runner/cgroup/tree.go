package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// tree is a mounted hierarchy of groups: the only one of version 2, or one of
// those that version 1 has for each controller, or a few.
type tree struct {
	cfg     Config
	unified bool
	top     string // where it is mounted
	base    string // the group in which home lies
	// controllers are those of limiting, and freezer, that groups in base can have.
	controllers []string

	handing sync.Mutex // held while a controller is handed on
}

// home is the group of all pods.
func (t *tree) home() string { return filepath.Join(t.base, home) }

const home = "sampan"

func (t *tree) has(controller string) bool { return slices.Contains(t.controllers, controller) }

// prepare makes the group of all pods, and keeps them from taking what others,
// we ourselves above all, need of processes and threads.
func (t *tree) prepare() error {
	if err := mkdir(t.cfg.Kernel, t.home()); err != nil {
		return err
	}
	if !t.has(pids) {
		return nil
	}
	most := t.mostPids()
	if most <= 0 {
		return nil
	}
	if t.unified {
		if err := t.handOn(t.base, pids); err != nil {
			return err
		}
	}
	return t.cfg.Kernel.Write(filepath.Join(t.home(), "pids.max"), fmt.Sprint(most))
}

// mostPids is how many processes and threads all pods may have together: the
// least of what is set for the groups above and for the machine, less a reserve;
// 0 if nothing is known. What is set above the top of a cgroup namespace
// cannot be seen from within.
func (t *tree) mostPids() int64 {
	files := []string{
		filepath.Join(t.cfg.Proc, "../sys/kernel/pid_max"),
		filepath.Join(t.cfg.Proc, "../sys/kernel/threads-max"),
	}
	for dir := t.base; len(dir) >= len(t.top); dir = filepath.Dir(dir) {
		files = append(files, filepath.Join(dir, "pids.max"))
	}
	var least int64
	for _, file := range files {
		if n := readNumber(file); n > 0 && (least == 0 || n < least) {
			least = n
		}
	}
	return least - reserve(least)
}

// reserve is how many of the processes and threads that a machine or a service
// may have are kept from pods. An engine and two supervisors that start a hundred
// containers at once have about as many threads as the least of it.
func reserve(most int64) int64 {
	const least, greatest = 64, 4096
	return min(min(max(most/4, least), greatest), (most+1)/2)
}

// readNumber reads a file of one number; 0 if it has none ("max").
func readNumber(file string) int64 {
	text, err := os.ReadFile(file)
	if err != nil {
		return 0
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// handOn makes a group of version 2 give a controller to those in it.
func (t *tree) handOn(dir, controller string) error {
	t.handing.Lock()
	defer t.handing.Unlock()
	file := filepath.Join(dir, "cgroup.subtree_control")
	enabled, err := words(file)
	if err != nil || slices.Contains(enabled, controller) {
		return err
	}
	if err := t.cfg.Kernel.Write(file, "+"+controller); err != nil {
		return err
	}
	if controller != cpu {
		return nil
	}
	// Until now nobody in it has asked for a share of the cpu, and those who do
	// must not get less than those who do not.
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		if e.IsDir() && dir != t.base {
			t.lightest(filepath.Join(dir, e.Name()))
		}
	}
	return err
}

// lightest gives a new group of version 2 the least weight; it is given more
// when it asks. There, a group has a full share from the beginning.
func (t *tree) lightest(dir string) {
	if t.unified && t.has(cpu) { // and if not handed on yet, it will be
		_ = t.cfg.Kernel.Write(filepath.Join(dir, "cpu.weight"), "1")
	}
}

// patience is how long processes may take to end, and groups to be removable.
const patience = 5 * time.Second

// pauses are those of a loop that waits for something which takes a moment.
type pauses struct {
	deadline time.Time
	next     time.Duration
}

func newPauses() *pauses {
	return &pauses{deadline: time.Now().Add(patience), next: 50 * time.Microsecond}
}

// wait tells whether there is time left to try again.
func (p *pauses) wait() bool {
	if time.Now().After(p.deadline) {
		return false
	}
	time.Sleep(p.next)
	p.next = min(2*p.next, 10*time.Millisecond)
	return true
}

// errUnkillable: processes were still there after a while. The kernel does not
// let go of one that waits for a dead disk.
var errUnkillable = errors.New("cgroup: processes do not end")

// empty kills every process in a group and in those within it, and returns when
// there is none.
func (t *tree) empty(dir string) error {
	pauses := newPauses()
	for first := true; ; first = false {
		all, err := processes(dir)
		if err != nil || len(all) == 0 {
			return err
		}
		if err := t.killAll(dir, all, first); err != nil {
			return err
		}
		if !pauses.wait() {
			return fmt.Errorf("%w: %d in %s", errUnkillable, len(all), dir)
		}
	}
}

// killAll kills the processes of a group, of which all are known.
func (t *tree) killAll(dir string, all []int, first bool) error {
	write := func(file, value string) error { return t.cfg.Kernel.Write(filepath.Join(dir, file), value) }
	switch {
	case t.unified: // since Linux 5.14
		if err := write("cgroup.kill", "1"); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		_ = write("cgroup.freeze", "1") // it does not keep them from dying
	case t.has(pids):
		// None can be added any more, however fast they are born.
		if first {
			_ = write("pids.max", "0")
		}
	case t.has(freezer):
		_ = write("freezer.state", "FROZEN")
		defer func() { _ = write("freezer.state", "THAWED") }()
	}
	for batch := range slices.Chunk(all, killBatch) {
		if err := killThose(dir, batch); err != nil {
			return err
		}
	}
	return nil
}

// killBatch bounds the descriptors that are open at once.
const killBatch = 64

// killThose kills processes of a group. A process id may have become another
// process's since it was read, so each is opened and looked for once more.
func killThose(dir string, some []int) error {
	opened := make(map[int]int, len(some))
	for _, pid := range some {
		if fd, err := unix.PidfdOpen(pid, 0); err == nil {
			opened[pid] = fd
		} else if err != unix.ESRCH && err != unix.EINVAL {
			return os.NewSyscallError("pidfd_open", err)
		}
	}
	defer func() {
		for _, fd := range opened {
			_ = unix.Close(fd)
		}
	}()
	still, err := processes(dir)
	for _, pid := range still {
		fd, ok := opened[pid]
		if !ok {
			continue
		}
		if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil && err != unix.ESRCH {
			return os.NewSyscallError("pidfd_send_signal", err)
		}
	}
	return err
}

// processes lists those of a group and of the groups in it.
func processes(dir string) ([]int, error) {
	var all []int
	dirs := []string{dir}
	for len(dirs) > 0 {
		dir, dirs = dirs[len(dirs)-1], dirs[:len(dirs)-1]
		text, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
		switch {
		case errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV): // it has just been removed
			continue
		case errors.Is(err, unix.EOPNOTSUPP): // its processes are the ones of a group above
		case err != nil:
			return nil, err
		}
		for field := range strings.FieldsSeq(string(text)) {
			pid, err := strconv.Atoi(field)
			if err != nil {
				return nil, err
			}
			if pid > 0 { // else it cannot be seen from our pid namespace
				all = append(all, pid)
			}
		}
		inner, err := subgroups(dir)
		if err != nil {
			return nil, err
		}
		dirs = append(dirs, inner...)
	}
	return all, nil
}

// subgroups lists the groups that a process has made in its own.
func subgroups(dir string) ([]string, error) {
	var st unix.Stat_t
	// A directory's links are its own two, and one from each that it contains.
	if err := unix.Stat(dir, &st); err == nil && st.Nlink == 2 {
		return nil, nil
	}
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV) {
		return nil, nil
	}
	var inner []string
	for _, e := range entries {
		if e.IsDir() {
			inner = append(inner, filepath.Join(dir, e.Name()))
		}
	}
	return inner, err
}

// remove removes a group and those in it. Whatever still runs there is killed;
// the kernel refuses for a moment after the last process has ended.
func (t *tree) remove(dir string) error {
	pauses := newPauses()
	for {
		err := t.removeOnce(dir)
		if !errors.Is(err, unix.EBUSY) {
			return err
		}
		if err := t.empty(dir); err != nil {
			return err
		}
		if !pauses.wait() {
			return err
		}
	}
}

func (t *tree) removeOnce(dir string) error {
	err := t.cfg.Kernel.Rmdir(dir)
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	inner, e := subgroups(dir)
	if e != nil || len(inner) == 0 {
		return err
	}
	for _, in := range inner {
		if err := t.removeOnce(in); err != nil {
			return err
		}
	}
	if err = t.cfg.Kernel.Rmdir(dir); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// words reads a file of words.
func words(path string) ([]string, error) {
	text, err := os.ReadFile(path)
	return strings.Fields(string(text)), err
}
