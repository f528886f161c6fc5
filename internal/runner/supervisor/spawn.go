package supervisor

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/sampan-batch/sampan/internal/runner"
)

// spawn starts a supervisor process and returns when it is ready; it is errHeld
// when there is one already, which may not be ready yet. The process has a session of its own and outlives this one, unless it
// is private.
func spawn(opts Options, command Command) error {
	if opts.Class != runner.Sandbox {
		return spawnWith(opts, command, &syscall.SysProcAttr{Setsid: true}, nil)
	}
	if os.Geteuid() == 0 {
		attr := &syscall.SysProcAttr{Setsid: true, Cloneflags: unix.CLONE_NEWNS}
		if err := spawnWith(opts, command, attr, nil); !errors.Is(err, unix.EPERM) {
			return err
		} // root without its capabilities is like an ordinary user
	}
	attr := &syscall.SysProcAttr{Setsid: true, Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWUSER}
	if ranges := ownRanges(); ranges != nil {
		opts.awaitMapping = true
		err := spawnWith(opts, command, attr, ranges)
		if !errors.Is(err, errMapping) {
			return orWithout(opts, command, err)
		}
		opts.awaitMapping = false
	}
	attr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}}
	attr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}}
	return orWithout(opts, command, spawnWith(opts, command, attr, nil))
}

// orWithout starts the supervisor without namespaces when the machine refuses
// them: it answers, and says why nothing can be started.
func orWithout(opts Options, command Command, err error) error {
	var start *os.PathError
	if !errors.As(err, &start) {
		return err
	}
	why := refusal(start.Err)
	if why == "" {
		return err
	}
	opts.NoNamespaces, opts.awaitMapping = why, false
	return spawnWith(opts, command, &syscall.SysProcAttr{Setsid: true}, nil)
}

// refusal says what to change on a machine that refuses user namespaces.
func refusal(err error) string {
	zero := func(sysctl string) bool {
		text, err := os.ReadFile(filepath.Join("/proc/sys", sysctl))
		return err == nil && strings.TrimSpace(string(text)) == "0"
	}
	switch {
	case !errors.Is(err, unix.EPERM) && !errors.Is(err, unix.ENOSPC) && !errors.Is(err, unix.EINVAL) &&
		!errors.Is(err, unix.EACCES) && !errors.Is(err, unix.EUSERS):
		return ""
	case inChroot():
		return "this process is in a chroot, from which neither user namespaces nor mounts are to be had: make its root a mount point (mount --bind DIR DIR) " +
			"and enter it by pivot_root or `unshare --root`"
	case zero("user/max_user_namespaces"):
		return "user namespaces are switched off: sysctl user.max_user_namespaces is 0; set it to 15000"
	case zero("kernel/unprivileged_userns_clone"):
		return "user namespaces are refused to ordinary users: set sysctl kernel.unprivileged_userns_clone=1"
	case !zero("kernel/apparmor_restrict_unprivileged_userns") && exists("/proc/sys/kernel/apparmor_restrict_unprivileged_userns"):
		return "AppArmor refuses user namespaces to ordinary users: set sysctl kernel.apparmor_restrict_unprivileged_userns=0, or give sampan an AppArmor profile with userns"
	case errors.Is(err, unix.EINVAL) && !exists("/proc/self/ns/user"):
		return "this kernel has no user namespaces (CONFIG_USER_NS)"
	default:
		return "this machine refuses user namespaces to ordinary users: " + err.Error()
	}
}

// inChroot tells whether the root is another than that of the mount namespace, as far as
// that can be seen: nothing is mounted on it.
func inChroot() bool {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return false
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if fields := strings.Fields(lines.Text()); len(fields) > 4 && fields[4] == "/" {
			return false
		}
	}
	return true
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// ownEnviron is this process's environment without what a service manager told it
// alone: a supervisor outlives the service's main process, and does not speak for it.
func ownEnviron() []string {
	return slices.DeleteFunc(os.Environ(), func(v string) bool {
		name, _, _ := strings.Cut(v, "=")
		return slices.Contains([]string{"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"}, name)
	})
}

// spawnWith starts the process with the given attributes, sets the ranges of
// its user namespace if there are any, and waits until it is ready.
func spawnWith(opts Options, command Command, attr *syscall.SysProcAttr, ranges *idRanges) error {
	dir := opts.home()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	log, err := os.OpenFile(filepath.Join(dir, "log"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	ready, theirs, err := os.Pipe()
	if err != nil {
		return err
	}
	defer ready.Close()
	defer theirs.Close()
	cmd := command.with(opts)
	cmd.Stderr, cmd.ExtraFiles, cmd.SysProcAttr = log, []*os.File{theirs}, attr
	if opts.hub != nil {
		cmd.ExtraFiles = append(cmd.ExtraFiles, opts.hub)
	}
	var lifeline io.WriteCloser
	if opts.Private || ranges != nil {
		if lifeline, err = cmd.StdinPipe(); err != nil {
			return err
		}
	}
	wait, err := startSupervisor(opts, cmd)
	if err != nil {
		return fmt.Errorf("start the supervisor: %w", err)
	}
	theirs.Close()
	if ranges != nil {
		err := ranges.set(cmd.Process.Pid)
		if err == nil {
			_, err = lifeline.Write([]byte{'\n'})
		}
		if err != nil {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
			return errors.Join(errMapping, err)
		}
	}
	if lifeline != nil && !opts.Private {
		lifeline.Close()
	}
	answer, _ := bufio.NewReader(ready).ReadString('\n')
	go func() {
		wait()
		if opts.Private {
			lifeline.Close() // until now it had to stay open, or until this process ends
		}
	}()
	switch answer = strings.TrimSpace(answer); answer {
	case "ready", "": // "": it has died; dialing will tell
		return nil
	case errHeld.Error():
		return errHeld
	default:
		return errors.New(answer)
	}
}

// startSupervisor starts the process, in the user namespace of a neighbour if there is one.
func startSupervisor(opts Options, cmd *exec.Cmd) (wait func(), err error) {
	if opts.user != nil {
		return startIn(opts.user, cmd)
	}
	return func() { _, _ = cmd.Process.Wait() }, cmd.Start()
}

// Command is how to start the program as a supervisor.
type Command struct {
	Path string
	Args []string // before those of ParseArgs
	Env  []string // added to the environment
}

// with is the program as the supervisor with these options.
func (c *Command) with(opts Options) *exec.Cmd {
	cmd := exec.Command(c.Path, append(c.Args[:len(c.Args):len(c.Args)], opts.args()...)...)
	cmd.Args[0] = os.Args[0]
	cmd.Env = append(ownEnviron(), c.Env...)
	cmd.Dir = "/"
	return cmd
}

// errMapping: newuidmap did not set the ranges; a single id has to do.
var errMapping = errors.New("supervisor: set the ranges of the user namespace")

// idRanges are the subordinate ids that an ordinary user may map.
type idRanges struct {
	uid, gid idRange
}

type idRange struct{ first, count int }

// ownRanges reads the user's ranges from /etc/subuid and /etc/subgid; nil if
// there are none, or no newuidmap that could set them.
func ownRanges() *idRanges {
	for _, tool := range []string{"newuidmap", "newgidmap"} {
		if _, err := exec.LookPath(tool); err != nil {
			return nil
		}
	}
	me := []string{strconv.Itoa(os.Geteuid())}
	if u, err := user.Current(); err == nil {
		me = append(me, u.Username)
	}
	uid, ok := subordinate("/etc/subuid", me)
	gid, ok2 := subordinate("/etc/subgid", me)
	if !ok || !ok2 {
		return nil
	}
	return &idRanges{uid: uid, gid: gid}
}

// subordinate finds the longest range that a file gives to one of the names.
func subordinate(path string, names []string) (idRange, bool) {
	text, err := os.ReadFile(path)
	if err != nil {
		return idRange{}, false
	}
	return parseSubordinate(string(text), names)
}

func parseSubordinate(text string, names []string) (best idRange, ok bool) {
	for line := range strings.Lines(text) {
		fields := strings.Split(strings.TrimSpace(line), ":")
		if len(fields) != 3 || (fields[0] != names[0] && fields[0] != names[len(names)-1]) {
			continue
		}
		first, err1 := strconv.Atoi(fields[1])
		count, err2 := strconv.Atoi(fields[2])
		if err1 == nil && err2 == nil && count > best.count {
			best, ok = idRange{first, count}, true
		}
	}
	return best, ok
}

// set maps root to the user, and all other ids to the ranges.
func (r *idRanges) set(pid int) error {
	for _, m := range []struct {
		tool string
		own  int
		idRange
	}{{"newuidmap", os.Geteuid(), r.uid}, {"newgidmap", os.Getegid(), r.gid}} {
		args := []string{strconv.Itoa(pid), "0", strconv.Itoa(m.own), "1",
			"1", strconv.Itoa(m.first), strconv.Itoa(m.count)}
		if out, err := exec.Command(m.tool, args...).CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w: %s", m.tool, err, strings.TrimSpace(string(out)))
		}
	}
	return nil
}

// afterMapping runs first in a user namespace whose ranges are still to be
// set. It waits for them, then executes the program anew: only now has it an id
// there, and with it root's capabilities in the namespace.
func afterMapping(opts Options) error {
	var one [1]byte
	if _, err := io.ReadFull(os.Stdin, one[:]); err != nil {
		return err
	}
	args := make([]string, 0, len(os.Args))
	for _, arg := range os.Args {
		if arg != "--await-mapping" {
			args = append(args, arg)
		}
	}
	return os.NewSyscallError("execve", syscall.Exec("/proc/self/exe", args, os.Environ()))
}
