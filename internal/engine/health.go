package engine

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
	"k8s.io/apiserver/pkg/server/healthz"

	"github.com/sampan-batch/sampan/internal/runner"
	"github.com/sampan-batch/sampan/internal/runner/supervisor"
	"github.com/sampan-batch/sampan/internal/store"
)

// health is what the engine knows of how it fares: facts with a name each. All
// who say how it fares go by them: /livez and /readyz, the conditions of the node,
// and what the service manager is told.
//
// A restart of the engine may cure what fails /livez, and that is the store alone:
// it has stopped for good, and a restart goes on from what the disk holds. What
// fails /readyz only, a restart would not change: it takes room on the disk,
// another supervisor, a clock that is right, or patience.
type health struct {
	store *store.Store
	disk  *inquiry
	nodes []*nodeHealth
	clock *clockCheck
}

// nodeHealth is how the supervisors of a node fare, and the disk, which is everybody's.
type nodeHealth struct {
	name     string
	disk     *inquiry
	runtimes []runtimeHealth
}

// runtimeHealth is how the supervisor of a class fares.
type runtimeHealth struct {
	class runner.Class
	*inquiry
}

func newHealth(dir string, s *store.Store, clock *clockCheck) *health {
	return &health{store: s, clock: clock, disk: &inquiry{
		what: "the file system of " + dir,
		ask:  func(context.Context) error { return tryDisk(dir) },
	}}
}

// addNode makes health ask the supervisors of a node too. client returns nil while the node
// does not run, of which nothing is expected.
func (h *health) addNode(name string, client func() *supervisor.Client) *nodeHealth {
	n := &nodeHealth{name: name, disk: h.disk}
	for _, class := range classes {
		n.runtimes = append(n.runtimes, runtimeHealth{class, &inquiry{
			what: fmt.Sprintf("the supervisor of class %s", class),
			ask: func(ctx context.Context) error {
				if c := client(); c != nil {
					return c.Alive(ctx, class)
				}
				return nil
			},
		}})
	}
	h.nodes = append(h.nodes, n)
	return n
}

// live are the checks of /livez.
func (h *health) live() []healthz.HealthChecker {
	return []healthz.HealthChecker{check("store", h.store.Err)}
}

// ready are the checks of /readyz besides these.
func (h *health) ready() []healthz.HealthChecker {
	checks := []healthz.HealthChecker{check("store-readiness", h.store.Writable), check("disk", h.disk.answer)}
	for i, n := range h.nodes {
		of := ""
		if i > 0 { // the names are those of an engine with one node
			of = n.name + "/"
		}
		for _, r := range n.runtimes {
			checks = append(checks, check("supervisor/"+of+string(r.class), r.answer))
		}
	}
	return append(checks, check("clock", h.clock.check))
}

func check(name string, ask func() error) healthz.HealthChecker {
	return healthz.NamedCheck(name, func(*http.Request) error { return ask() })
}

// failing returns the first of checks that fails, with its name.
func failing(checks []healthz.HealthChecker) error {
	for _, c := range checks {
		if err := c.Check(nil); err != nil {
			return fmt.Errorf("%s: %w", c.Name(), err)
		}
	}
	return nil
}

// Disk implements node.Health.
func (n *nodeHealth) Disk() error { return n.disk.answer() }

// Runtimes implements node.Health.
func (n *nodeHealth) Runtimes() error {
	var errs []error
	for _, r := range n.runtimes {
		errs = append(errs, r.answer())
	}
	return errors.Join(errs...)
}

// tryDisk writes a block to a file of dir that nobody sees and that is gone
// afterwards. What a file system says of its room leaves out quotas, and whether it
// can be written at all.
func tryDisk(dir string) error {
	f, err := unnamed(dir)
	if err != nil {
		return err
	}
	_, err = f.Write(make([]byte, 4096))
	return errors.Join(err, f.Close())
}

// unnamed makes a file without a name, or, where there is no such thing, one that
// has lost it.
func unnamed(dir string) (*os.File, error) {
	path := filepath.Join(dir, ".health")
	fd, err := unix.Open(dir, unix.O_TMPFILE|unix.O_WRONLY|unix.O_CLOEXEC, 0o600)
	if err == nil {
		return os.NewFile(uintptr(fd), path), nil
	}
	if !errors.Is(err, unix.EOPNOTSUPP) && !errors.Is(err, unix.EISDIR) {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	return f, os.Remove(path)
}
