// Package cgroup gives every container a control group of its own, where the
// machine lets us: version 1 and 2 of the kernel's interface, and both mounted
// at once, as root and, on version 2, as a user to whom a subtree has been
// delegated.
//
// A group does two things. It holds the container's processes together, so that
// every one can be found and killed, whatever it has done to hide; and it
// enforces limits. Groups lie so:
//
//	BASE/sampan/               all pods of this machine's supervisors
//	BASE/sampan/pod<uid>.<key> a pod; key tells its supervisor, see Config.Owner
//	BASE/sampan/pod…/<name>    a container
//	BASE/sampan-engine/        ourselves, where BASE is our own group (version 2)
//
// sampan may have fewer processes than BASE and the machine, so that no number
// of fork bombs takes the last thread of the supervisor or the engine. Every
// group disappears with its last user, sampan too.
//
// To move a process into a group has its price, and that of a group with
// a memory controller is ten times another's, so that a container is only in
// those of version 1's trees that it needs: one to be found in, which is that of
// the pids controller if there is one, and those that its limits are about.
//
// Not being allowed to make groups is not an error but a reason, which the user
// is told.
package cgroup

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/sampan-batch/sampan/internal/runner"
)

// Config tells where the kernel's files are, and whose the groups are. The zero
// value is this machine.
type Config struct {
	// Owner is what tells this manager's groups from those of others on the
	// machine, and is the same after a restart: a supervisor's directory.
	Owner  string
	Proc   string // the directory of the own process, /proc/self
	Kernel Kernel
}

// Kernel is what is done to cgroup file systems besides reading. Tests have one
// of their own, since what version 2 does cannot be had on every machine.
type Kernel interface {
	Mkdir(dir string) error
	Rmdir(dir string) error
	Write(file, value string) error
	Writable(path string) bool
}

type realKernel struct{}

func (realKernel) Mkdir(dir string) error { return os.Mkdir(dir, 0o755) }

func (realKernel) Rmdir(dir string) error {
	if err := unix.Rmdir(dir); err != nil {
		return &os.PathError{Op: "rmdir", Path: dir, Err: err}
	}
	return nil
}

// Write gives a file a value. It never creates one.
func (realKernel) Write(file, value string) error {
	f, err := os.OpenFile(file, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(value)
	return errors.Join(err, f.Close())
}

func (realKernel) Writable(path string) bool { return unix.Access(path, unix.W_OK) == nil }

// Container is what a group is made for.
type Container struct {
	Pod string // the pod's uid
	// PodPids is how many processes and threads the pod's containers may have
	// together; 0: no limit.
	PodPids int64
	// Name is the group's, unique within the pod: the container's ID.
	Name      string
	Resources runner.Resources
}

// Manager makes control groups. It is safe for concurrent use.
type Manager struct {
	cfg Config
	key string

	once   sync.Once
	layout layout
	absent string // why there are no groups at all

	// mu is held for moments only: nothing is made or removed under it. It comes
	// after a pod's.
	mu   sync.Mutex
	pods map[string]*pod
}

// The controllers that limits need, and the one that stands in for pids when
// processes are to be found.
const (
	memory  = "memory"
	cpu     = "cpu"
	pids    = "pids"
	freezer = "freezer"
)

// limiting are the controllers that limits need.
var limiting = [...]string{memory, cpu, pids}

// NewManager returns a Manager, which looks at the machine when it is first
// asked for something.
func NewManager(cfg Config) *Manager {
	if cfg.Proc == "" {
		cfg.Proc = "/proc/self"
	}
	if cfg.Kernel == nil {
		cfg.Kernel = realKernel{}
	}
	sum := sha256.Sum256([]byte(cfg.Owner))
	return &Manager{cfg: cfg, key: hex.EncodeToString(sum[:4]), pods: make(map[string]*pod)}
}

// discover looks at the machine, once, and makes room for groups: with version 2
// it may move this process into a leaf.
func (m *Manager) discover() bool {
	m.once.Do(func() {
		var err error
		if m.layout, err = discover(m.cfg); err != nil {
			m.absent = err.Error()
		}
	})
	return m.absent == ""
}

// Absent says what does not hold on this machine, and why: it is for people,
// once, at the start. It is "" when every container will have a group that
// enforces all its limits.
func (m *Manager) Absent() string {
	if !m.discover() {
		return "containers have no cgroups: " + m.absent + "; limits of memory, cpu and processes are not enforced, " +
			"and a process that leaves its container's session is found by other means only"
	}
	var lost []string
	for _, controller := range limiting {
		if m.layout.limit[controller] == nil {
			lost = append(lost, controller)
		}
	}
	if len(lost) == 0 {
		return ""
	}
	what := "limits of " + strings.Join(lost, ", ") + " are not enforced: " + noController
	if m.layout.limit[pids] == nil {
		what += "; the number of a pod's processes is not limited"
	}
	return what
}

const noController = "this machine has no such cgroup controller, or has not delegated it"

// Create makes the group of a container. It is nil when the machine has none to
// give. ignored says why something of what the resources ask for is not
// enforced; err what is wrong beyond that, on a machine that has groups: the
// container can run, but its processes may not be found, or the number of the
// pod's is not limited.
func (m *Manager) Create(c Container) (group *Group, ignored string, err error) {
	if !m.discover() {
		if c.Resources != (runner.Resources{}) {
			ignored = m.absent
		}
		return nil, ignored, nil
	}
	g := &Group{m: m, name: c.Name, fd: -1, unifiedProcs: -1, dirs: make(map[*tree]string), limits: make(map[string]string)}
	g.pod = m.join(c.Pod)
	ignored, err = g.make(c)
	if len(g.dirs) == 0 {
		return nil, ignored, errors.Join(err, g.Remove())
	}
	return g, ignored, err
}
