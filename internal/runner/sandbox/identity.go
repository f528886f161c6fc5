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
// the bounding set needs CAP_SETPCAP.
func (c *container) restrict() error {
	caps, err := c.capabilities()
	if err != nil {
		return err
	}
	if !c.spec.AllowPrivilegeEscalation {
		c.add(prctlStep("set no_new_privs", unix.PR_SET_NO_NEW_PRIVS, 1))
	}
	if err := c.filter(caps); err != nil {
		return err
	}
	for n := 0; n <= c.l.host.lastCap; n++ {
		if !caps.has(n) {
			c.add(prctlStep("drop capability", unix.PR_CAPBSET_DROP, uintptr(n)))
		}
	}
	c.become(caps)
	return nil
}

// capabilities returns what the container keeps.
func (c *container) capabilities() (capSet, error) {
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
		c.add(fork.Call("set groups", unix.SYS_SETGROUPS, uintptr(len(i.groups)), fork.PlaceAll(p, i.groups)))
	}
	uid, gid := uintptr(i.uid), uintptr(i.gid)
	c.add(
		fork.Call(fmt.Sprintf("set group id %d", gid), unix.SYS_SETRESGID, gid, gid, gid),
		fork.Call(fmt.Sprintf("set user id %d", uid), unix.SYS_SETRESUID, uid, uid, uid),
	)
	if i.uid != 0 {
		caps = 0
	}
	header := fork.Place(p, unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3})
	data := fork.Place(p, [2]unix.CapUserData{
		{Effective: uint32(caps), Permitted: uint32(caps)},
		{Effective: uint32(caps >> 32), Permitted: uint32(caps >> 32)},
	})
	c.add(fork.Call("set capabilities", unix.SYS_CAPSET, header, data))
}

// watchParent makes the process die with the supervisor, also when that has died
// already.
func (c *container) watchParent() {
	c.add(prctlStep("set parent-death signal", unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL)))
	c.p.MindParent()
}

// nestUser gives the container a user namespace in which the only id that we
// have is the one that the manifest asks for.
func (c *container) nestUser() {
	p := c.p
	c.add(fork.Call("unshare user namespace", unix.SYS_UNSHARE, unix.CLONE_NEWUSER))
	writeAtSteps(p, selfFD, "setgroups", "deny", true)
	writeAtSteps(p, selfFD, "uid_map", fmt.Sprintf("%d %d 1", c.ids.uid, os.Geteuid()), true)
	writeAtSteps(p, selfFD, "gid_map", fmt.Sprintf("%d %d 1", c.ids.gid, os.Getegid()), true)
}
