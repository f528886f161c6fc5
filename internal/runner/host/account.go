package host

import (
	"os"
	"os/user"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/sampan-batch/sampan/internal/runner"
)

// account is what this machine knows of a user.
type account struct {
	name, home string
	gid        uint32
}

// lookup finds a user by its number. One that the machine does not know has a
// group of the same number: that of root would open doors.
func lookup(uid uint32) account {
	u, err := user.LookupId(strconv.FormatUint(uint64(uid), 10))
	if err != nil {
		return account{home: "/", gid: uid}
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		gid = uint64(uid)
	}
	return account{name: u.Username, home: u.HomeDir, gid: uint32(gid)}
}

// variables are those that a login would set.
func (a account) variables() []string {
	if a.name == "" {
		return []string{"HOME=" + a.home}
	}
	return []string{"HOME=" + a.home, "USER=" + a.name, "LOGNAME=" + a.name}
}

// credentialOf says as whom to run; nil is the supervisor's own user, with its
// groups. Another user has no supplementary groups but those of the spec.
func credentialOf(spec *runner.Spec) (*syscall.Credential, error) {
	uid, gid := uint32(os.Geteuid()), uint32(os.Getegid())
	if spec.UID != nil && *spec.UID != uid {
		uid = *spec.UID
		gid = lookup(uid).gid
	}
	if spec.GID != nil {
		gid = *spec.GID
	}
	same := uid == uint32(os.Geteuid()) && gid == uint32(os.Getegid())
	if os.Geteuid() == 0 {
		if same && len(spec.Groups) == 0 && spec.UID == nil {
			return nil, nil
		}
		return &syscall.Credential{Uid: uid, Gid: gid, Groups: spec.Groups}, nil
	}
	if !same {
		return nil, configError("the host runtime cannot run as %d:%d: it is an ordinary user, %d:%d",
			uid, gid, os.Geteuid(), os.Getegid())
	}
	return nil, nil // the groups of an ordinary user are what they are
}

// isOther tells whether that is another user than our own.
func isOther(c *syscall.Credential) bool { return c != nil && c.Uid != uint32(os.Geteuid()) }

// environment is exactly what the container was given, and a few variables
// that a plain process would have.
func (l *Launcher) environment(spec *runner.Spec, terminationLog string) []string {
	inherited := l.inherited
	if spec.UID != nil {
		inherited = append(lookup(*spec.UID).variables(), inherited...)
	}
	env := make([]string, 0, len(spec.Env)+len(inherited)+2)
	env = append(env, spec.Env...)
	for _, kv := range inherited {
		key := kv[:strings.IndexByte(kv, '=')+1]
		if !slices.ContainsFunc(env, func(own string) bool { return strings.HasPrefix(own, key) }) {
			env = append(env, kv)
		}
	}
	if terminationLog != "" {
		env = append(env, "SAMPAN_TERMINATION_LOG="+terminationLog)
	}
	return append(env, markerKey+"="+l.mark(spec.ID))
}
