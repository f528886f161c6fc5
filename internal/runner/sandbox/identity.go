package sandbox

import (
	"fmt"
	"os"
	"strings"

	"github.com/moby/sys/capability"
	"golang.org/x/sys/unix"

	"github.com/sampan-batch/sampan/internal/runner"
	"github.com/sampan-batch/sampan/internal/runner/fork"
)

// capSet is a set of capabilities, bit n standing for number n.
type capSet uint64

func (s capSet) has(n int) bool { return s&(1<<n) != 0 }

// parseCapabilities returns the set of "CAP_…" names, and the first name that
// is unknown.
func parseCapabilities(names []string) (set capSet, unknown string) {
	for _, name := range names {
		n, ok := capabilityNumber(name)
		if !ok {
			return set, name
		}
		set |= 1 << n
	}
	return set, ""
}

func capabilityNumber(name string) (int, bool) {
	for _, c := range capability.ListKnown() {
		if strings.EqualFold(name, "CAP_"+c.String()) {
			return int(c), true
		}
	}
	return 0, false
}

// names returns the set as "CAP_…" names.
func (s capSet) names() []string {
	var names []string
	for _, c := range capability.ListKnown() {
		if s.has(int(c)) {
			names = append(names, "CAP_"+strings.ToUpper(c.String()))
		}
	}
	return names
}

// ownCapabilities returns what this process may pass on: what is in both its
// permitted and its bounding set; and the last capability of this kernel.
func ownCapabilities() (capSet, int, error) {
	last, err := capability.LastCap()
	if err != nil {
		return 0, 0, err
	}
	own, err := capability.NewPid2(0)
	if err != nil {
		return 0, 0, err
	}
	if err := own.Load(); err != nil {
		return 0, 0, err
	}
	var set capSet
	for c := capability.Cap(0); c <= last; c++ {
		if own.Get(capability.PERMITTED, c) && own.Get(capability.BOUNDING, c) {
			set |= 1 << c
		}
	}
	return set, int(last), nil
}

// restrict takes from the process what the container must not have. The order
// matters: a filter needs CAP_SYS_ADMIN unless no_new_privs is set, leaving
// the bounding set needs CAP_SETPCAP, and a change of user clears the
// parent-death signal.
func (c *container) restrict() error {
	caps, err := c.capabilities()
	if err != nil {
		return err
	}
	p := c.p
	// Of this process's descriptors only its pidfd is still needed.
	c.closeFiles()
	if c.ids.nested && c.joinUser < 0 {
		c.nestUser()
	} else if c.ids.nested {
		p.Add(fork.Call("join user namespace", unix.SYS_SETNS, 4, unix.CLONE_NEWUSER), fork.Call("close pidfd", unix.SYS_CLOSE, 4))
	}
	if !c.spec.AllowPrivilegeEscalation {
		p.Add(prctlStep("set no_new_privs", unix.PR_SET_NO_NEW_PRIVS, 1))
	}
	if err := c.filter(caps); err != nil {
		return err
	}
	for n := 0; n <= c.l.host.lastCap; n++ {
		if !caps.has(n) {
			p.Add(prctlStep("drop capability", unix.PR_CAPBSET_DROP, uintptr(n)))
		}
	}
	c.become(caps)
	c.watchParent()
	return nil
}

// closeFiles closes all descriptors but the streams, the supervisor's pidfd,
// which becomes 3, and, when there is one, that of the process to join, 4.
func (c *container) closeFiles() {
	p, from := c.p, uintptr(4)
	if c.joinUser >= 0 {
		// The pidfd of this process must not be overwritten before it is copied.
		p.Add(fork.Call("keep pidfd", unix.SYS_DUP3, uintptr(c.joinUser), 4, unix.O_CLOEXEC).Tolerate(unix.EINVAL))
		from = 5
	}
	p.Add(
		fork.Call("keep pidfd", unix.SYS_DUP3, uintptr(c.l.host.self), 3, unix.O_CLOEXEC).Tolerate(unix.EINVAL),
		fork.Call("close files", unix.SYS_CLOSE_RANGE, from, 1<<32-1, 0),
	)
}

// capabilities returns what the container keeps.
func (c *container) capabilities() (capSet, error) {
	if c.spec.Privileged {
		return c.l.host.caps, nil
	}
	caps, unknown := parseCapabilities(c.spec.Capabilities)
	if unknown != "" {
		return 0, &runner.StartError{Reason: "CreateContainerError", Message: fmt.Sprintf("unknown capability %q", unknown)}
	}
	return caps & c.l.host.caps, nil
}

// become changes to the container's user. As containerd does, a user other
// than root gets the capabilities in the bounding set only.
func (c *container) become(caps capSet) {
	p, i := c.p, c.ids
	if !i.nested && c.l.host.setgroups {
		var list uintptr
		if len(i.groups) > 0 {
			p.Keep(i.groups)
			list = fork.Pointer(&i.groups[0])
		}
		p.Add(fork.Call("set groups", unix.SYS_SETGROUPS, uintptr(len(i.groups)), list))
	}
	uid, gid := uintptr(i.uid), uintptr(i.gid)
	p.Add(
		fork.Call(fmt.Sprintf("set group id %d", gid), unix.SYS_SETRESGID, gid, gid, gid),
		fork.Call(fmt.Sprintf("set user id %d", uid), unix.SYS_SETRESUID, uid, uid, uid),
	)
	if i.uid != 0 {
		caps = 0
	}
	header := &unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	data := &[2]unix.CapUserData{
		{Effective: uint32(caps), Permitted: uint32(caps)},
		{Effective: uint32(caps >> 32), Permitted: uint32(caps >> 32)},
	}
	p.Keep(header)
	p.Keep(data)
	p.Add(fork.Call("set capabilities", unix.SYS_CAPSET, fork.Pointer(header), fork.Pointer(&data[0])))
}

// watchParent makes the container die with the supervisor, also when that has
// died already.
func (c *container) watchParent() {
	poll := []unix.PollFd{{Fd: 3, Events: unix.POLLIN}}
	now := new(unix.Timespec)
	c.p.Keep(poll)
	c.p.Keep(now)
	c.p.Add(
		prctlStep("set parent-death signal", unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL)),
		fork.Call("look for the supervisor", unix.SYS_PPOLL, fork.Pointer(&poll[0]), 1, fork.Pointer(now), 0, 0).MustBeZero(),
		fork.Call("close pidfd", unix.SYS_CLOSE, 3),
	)
}

// nestUser gives the container a user namespace in which the only id that we
// have is the one that the manifest asks for.
func (c *container) nestUser() {
	p := c.p
	p.Add(fork.Call("unshare user namespace", unix.SYS_UNSHARE, unix.CLONE_NEWUSER))
	writeSteps(p, "/proc/self/setgroups", "deny", true)
	writeSteps(p, "/proc/self/uid_map", fmt.Sprintf("%d %d 1", c.ids.uid, os.Geteuid()), true)
	writeSteps(p, "/proc/self/gid_map", fmt.Sprintf("%d %d 1", c.ids.gid, os.Getegid()), true)
}
