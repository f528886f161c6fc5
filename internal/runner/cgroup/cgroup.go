// Package cgroup gives a container a control group of its own, when its
// resources ask for something that a group can enforce and this machine lets
// us: version 1 and 2 of the kernel's interface, as root and, on version 2, as
// a user to whom a subtree has been delegated.
//
// Not being allowed to limit is not an error but a reason, which the user is
// told. Groups lie in a directory "sampan" that disappears with the last one.
package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sampan-batch/sampan/internal/runner"
)

// Config tells where the kernel's files are. The zero value is this machine.
type Config struct {
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

// Manager creates control groups. It is safe for concurrent use.
type Manager struct {
	cfg Config

	once      sync.Once
	hierarchy hierarchy
	absent    string // why there is none

	mu    sync.Mutex
	count int // groups that exist
}

// hierarchy is a version of the interface.
type hierarchy interface {
	// dirs names the group's directory for each controller. The same directory
	// may serve several.
	dirs(name string) map[string]string
	// prepare makes the directories that groups are created in.
	prepare() error
	// cleanUp removes them if they are empty.
	cleanUp()
	// limits turns resources into files, by controller.
	limits(r runner.Resources) map[string][]setting
	oomFile() string
	unified() bool
}

// setting is a value for a file of a group. An optional one may be missing.
type setting struct {
	file, value string
	optional    bool
}

// The controllers that limits need.
const (
	memory = "memory"
	cpu    = "cpu"
	pids   = "pids"
)

// NewManager returns a Manager, which looks at the machine when it is first
// asked for a group.
func NewManager(cfg Config) *Manager {
	if cfg.Proc == "" {
		cfg.Proc = "/proc/self"
	}
	if cfg.Kernel == nil {
		cfg.Kernel = realKernel{}
	}
	return &Manager{cfg: cfg}
}

func (m *Manager) discover() {
	m.once.Do(func() {
		h, err := discover(m.cfg)
		if err != nil {
			m.absent = err.Error()
			return
		}
		m.hierarchy = h
	})
}

// Create creates the group of a container. It is nil when the resources ask for
// nothing, or when nothing of what they ask for can be enforced; ignored then
// says why, and also when it is a part that cannot be.
func (m *Manager) Create(name string, r runner.Resources) (group *Group, ignored string) {
	if r == (runner.Resources{}) {
		return nil, ""
	}
	m.discover()
	if m.hierarchy == nil {
		return nil, m.absent
	}
	g := &Group{m: m, name: name, fd: -1, dirs: make(map[string]string)}
	dirs := m.hierarchy.dirs(name)
	var missing []string
	for _, controller := range []string{memory, cpu, pids} {
		settings := m.hierarchy.limits(r)[controller]
		if len(settings) == 0 {
			continue
		}
		if err := g.limit(controller, dirs[controller], settings); err != nil {
			missing = append(missing, fmt.Sprintf("%s: %v", controller, err))
		}
	}
	ignored = strings.Join(missing, "; ")
	if len(g.dirs) == 0 {
		_ = g.Remove()
		return nil, ignored
	}
	if m.hierarchy.unified() {
		fd, err := unix.Open(g.paths()[0], unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			_ = g.Remove()
			return nil, err.Error()
		}
		g.fd = fd
	}
	return g, ignored
}

// make creates the directory of a group.
func (m *Manager) make(dir string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	err := m.cfg.Kernel.Mkdir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		if err := m.hierarchy.prepare(); err != nil {
			return err
		}
		err = m.cfg.Kernel.Mkdir(dir)
	}
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	m.count++
	return nil
}

// unmake removes it, and with the last one the directory that it lay in.
func (m *Manager) unmake(dir string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	err := m.removeTree(dir)
	if err != nil {
		return err
	}
	if m.count--; m.count <= 0 {
		m.count = 0
		m.hierarchy.cleanUp()
	}
	return nil
}

// Recover kills and removes the group of that name that a former process has
// left, if there is one.
func (m *Manager) Recover(name string) error {
	m.discover()
	if m.hierarchy == nil {
		return nil
	}
	g := &Group{m: m, name: name, fd: -1, dirs: make(map[string]string)}
	for controller, dir := range m.hierarchy.dirs(name) {
		if _, err := os.Stat(dir); err == nil {
			g.dirs[controller] = dir
		}
	}
	if len(g.dirs) == 0 {
		return nil
	}
	return errors.Join(g.Kill(), g.Remove())
}

// removeTree removes a group and those that its processes have made in it.
func (m *Manager) removeTree(dir string) error {
	err := m.removeDir(dir)
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	entries, rerr := os.ReadDir(dir)
	if rerr != nil {
		return err
	}
	for _, e := range entries {
		if e.IsDir() {
			if err := m.removeTree(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	return m.removeDir(dir)
}

// removeDir removes a group, which the kernel refuses for a moment after its
// last process has ended.
func (m *Manager) removeDir(dir string) error {
	var err error
	for range 100 {
		if err = m.cfg.Kernel.Rmdir(dir); !errors.Is(err, unix.EBUSY) {
			break
		}
		time.Sleep(time.Millisecond)
	}
	return err
}
