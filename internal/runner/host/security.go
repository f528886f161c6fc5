package host

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"

	"github.com/moby/sys/capability"

	"github.com/sampan-batch/sampan/internal/runner"
)

// capabilities is what this process may hand down; it does not change.
type capabilities struct {
	own  uint64 // permitted, and in the bounding set; bit n stands for number n
	last int    // of this kernel
	// bounds: it may take capabilities out of a child's bounding set.
	bounds bool
}

func ownCapabilities() (capabilities, error) {
	last, err := capability.LastCap()
	if err != nil {
		return capabilities{}, err
	}
	own, err := capability.NewPid2(0)
	if err != nil {
		return capabilities{}, err
	}
	if err := own.Load(); err != nil {
		return capabilities{}, err
	}
	c := capabilities{last: int(last), bounds: own.Get(capability.EFFECTIVE, capability.CAP_SETPCAP)}
	for n := capability.Cap(0); n <= last; n++ {
		if own.Get(capability.PERMITTED, n) && own.Get(capability.BOUNDING, n) {
			c.own |= 1 << n
		}
	}
	return c, nil
}

// rights are what a container's processes may do less than the supervisor, and
// as whom. Processes that Exec adds have the same.
type rights struct {
	credential *syscall.Credential // nil: the supervisor's own user
	noNewPrivs bool
	// confined: the capabilities are those in keep, at the most; else they are what
	// the user has.
	confined bool
	keep     uint64
}

// rightsOf reads them from a spec. What says nothing about rights has those of
// any process that the supervisor's user starts.
func (l *Launcher) rightsOf(spec *runner.Spec) (rights, error) {
	credential, err := credentialOf(spec)
	if err != nil {
		return rights{}, err
	}
	r := rights{credential: credential, noNewPrivs: !spec.AllowPrivilegeEscalation}
	uid := uint32(os.Geteuid())
	if credential != nil {
		uid = credential.Uid
	}
	if uid == 0 && spec.RunAsNonRoot {
		return r, configError("container has runAsNonRoot and image will run as root (pod: %q, container: %s)",
			fmt.Sprintf("%s_%s(%s)", spec.Pod.Name, spec.Pod.Namespace, spec.Pod.UID), spec.Container)
	}
	if spec.Capabilities == nil || spec.Privileged {
		return r, nil
	}
	r.confined = true
	known := capability.ListKnown()
	for _, name := range spec.Capabilities {
		i := slices.IndexFunc(known, func(c capability.Cap) bool { return strings.EqualFold(name, "CAP_"+c.String()) })
		if i < 0 {
			return r, &runner.StartError{Reason: "CreateContainerError", Message: fmt.Sprintf("unknown capability %q", name)}
		}
		r.keep |= 1 << known[i]
	}
	r.keep &= l.caps.own
	if !l.caps.bounds {
		// A set-user-id program would get what the bounding set has. That cannot be
		// emptied here, so there shall be no such programs.
		r.noNewPrivs = true
	}
	return r, nil
}
