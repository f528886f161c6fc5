package supervisor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/sampan-batch/sampan/internal/runner"
	"github.com/sampan-batch/sampan/internal/runner/crilog"
)

// ClientOptions are those of a Client.
type ClientOptions struct {
	// Private ties the supervisors that this client starts to this process.
	Private bool
	// LogLimits are for the supervisors that this client starts;
	// the zero value is crilog.DefaultLimits.
	LogLimits crilog.Limits
	// Command starts this program as a supervisor; by default the running
	// executable with the argument "supervise".
	Command Command
	// Pods, Cluster, Machine and IPv6 are those of network.Config, for the supervisors that this client starts.
	Pods, Cluster netip.Prefix
	Machine, IPv6 bool
	// Neighbours are the nodes whose pods those of this one reach; nil: there are none.
	Neighbours *Neighbours
	// Running: only supervisors that run already are connected to; none is started.
	Running bool
	Log     *slog.Logger

	// connectTime is how long a supervisor may take to answer, or to end what a
	// former one has left; 0 is a minute. Tests have less.
	connectTime time.Duration
}

func (o ClientOptions) withDefaults() ClientOptions {
	if o.LogLimits == (crilog.Limits{}) {
		o.LogLimits = crilog.DefaultLimits()
	}
	if o.connectTime == 0 {
		o.connectTime = time.Minute
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Command.Path == "" {
		// Not os.Executable: the program may have been replaced by a newer one since.
		o.Command = Command{Path: "/proc/self/exe", Args: []string{"supervise"}}
	}
	return o
}

// Client drives the supervisors of a directory. It starts the one of a class
// when the first container of that class is started, and again when it has
// died. It is a runner.Runner.
type Client struct {
	dir    string
	opts   ClientOptions
	losses *losses

	mu     sync.Mutex
	links  map[runner.Class]*link
	closed bool
}

var _ runner.Runner = (*Client)(nil)

// Open is New and Connect.
func Open(ctx context.Context, dir string, opts ClientOptions) (*Client, error) {
	c, err := New(dir, opts)
	if err != nil {
		return nil, err
	}
	if err := c.Connect(ctx); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// New returns a Client for the supervisors of dir. It starts nothing.
func New(dir string, opts ClientOptions) (*Client, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	return &Client{dir: dir, opts: opts.withDefaults(), losses: newLosses(), links: make(map[runner.Class]*link)}, nil
}

// Connect connects to the supervisors that run, and starts one wherever a former
// one left records, so that the first List is whole: what died with it is reported
// as Lost.
func (c *Client) Connect(ctx context.Context) error {
	for _, class := range classes() {
		lock := filepath.Join(c.dir, string(class), "lock")
		if _, err := os.Stat(lock); err != nil || c.opts.Running && !held(lock) {
			continue // never used
		}
		l, err := c.link(class)
		if err != nil {
			return err
		}
		patient, cancel := context.WithTimeout(ctx, c.opts.connectTime)
		err = l.ready(patient)
		late := patient.Err() != nil
		cancel()
		if err != nil && late && ctx.Err() == nil {
			err = fmt.Errorf("the supervisor of class %s (who holds %s) has not answered for %s: have it go on (kill -CONT), or kill it, and its containers with it",
				class, lock, c.opts.connectTime)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func classes() []runner.Class { return []runner.Class{runner.Sandbox, runner.Host} }

// Prepare starts the supervisor of a class, or connects to it, without waiting
// for it: so that the first container need not wait as long.
func (c *Client) Prepare(class runner.Class) error {
	_, err := c.link(class)
	return err
}

// Refused returns, when the supervisor of a class has answered, why it cannot start any
// container on this machine, or could not be started itself; nil if it can.
func (c *Client) Refused(ctx context.Context, class runner.Class) error {
	l, err := c.link(class)
	if err != nil {
		return err
	}
	conn, err := l.connected(ctx)
	if err == nil && conn.refused != "" {
		err = errors.New(conn.refused)
	}
	return err
}

// Close disconnects. Supervisors and containers go on, private ones until this
// process ends.
func (c *Client) Close() error {
	c.mu.Lock()
	c.closed = true
	links := slices.Collect(maps.Values(c.links))
	c.mu.Unlock()
	for _, l := range links {
		l.close()
	}
	return nil
}

// Abandon is Close for who did not get as far as using its supervisors: those that
// this Client has started, and that keep no container, end.
func (c *Client) Abandon(ctx context.Context) error {
	var errs []error
	for _, l := range c.all() {
		if l.idle() {
			errs = append(errs, l.stop(ctx))
		}
	}
	return errors.Join(append(errs, c.Close())...)
}

// Found returns the classes whose supervisors ran before this Client came.
func (c *Client) Found() []runner.Class {
	var found []runner.Class
	for _, class := range classes() {
		c.mu.Lock()
		l := c.links[class]
		c.mu.Unlock()
		if l != nil && !l.hasStarted() {
			found = append(found, class)
		}
	}
	return found
}

// Stop ends every container and the supervisors, and leaves nothing running
// or mounted. Records, logs and volumes stay; with a private engine volumes do
// not. The Client is closed then. The error is a runner.ErrRemains when nothing
// went wrong but that files of containers could not be removed.
func (c *Client) Stop(ctx context.Context) error {
	var errs, remains []error
	for _, l := range c.all() {
		if err := l.stop(ctx); errors.Is(err, runner.ErrRemains) {
			remains = append(remains, err)
		} else {
			errs = append(errs, err)
		}
	}
	if err := errors.Join(append(errs, c.Close())...); err != nil {
		return err
	}
	return errors.Join(remains...)
}

// PID is the process id of the supervisor of a class, as this client knows
// it; 0 when it is not connected to one.
func (c *Client) PID(class runner.Class) int {
	c.mu.Lock()
	l := c.links[class]
	c.mu.Unlock()
	if l == nil {
		return 0
	}
	return l.pid()
}

var errClosed = errors.New("supervisor: the client is closed")

// link returns the link to the supervisor of a class, made at first use.
func (c *Client) link(class runner.Class) (*link, error) {
	if class != runner.Sandbox && class != runner.Host {
		return nil, fmt.Errorf("supervisor: no such class of container: %q", class)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, errClosed
	}
	l := c.links[class]
	if l == nil {
		l = newLink(Options{
			Dir: c.dir, Class: class, Private: c.opts.Private, LogLimits: c.opts.LogLimits, Pods: c.opts.Pods, Cluster: c.opts.Cluster, Machine: c.opts.Machine, IPv6: c.opts.IPv6,
		}, c.opts, c.losses)
		c.links[class] = l
	}
	return l, nil
}

func (c *Client) all() []*link {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Collect(maps.Values(c.links))
}

// having returns the link that knows a container. One class's supervisor being
// out of order is nothing to the containers of another.
func (c *Client) having(ctx context.Context, id string) (*link, error) {
	links := c.all()
	var errs []error
	for _, l := range links {
		if l.knows(id) {
			return l, nil
		}
	}
	for _, l := range links { // that may not have heard from their supervisors yet
		if err := l.ready(ctx); err != nil {
			errs = append(errs, err)
		} else if l.knows(id) {
			return l, nil
		}
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return nil, errorf(id, runner.ErrNotFound)
}

// Start implements runner.Runner.
func (c *Client) Start(ctx context.Context, spec *runner.Spec) (runner.Status, error) {
	l, err := c.link(spec.Class)
	if err != nil {
		return runner.Status{}, err
	}
	for {
		conn, err := l.connected(ctx)
		if err != nil {
			return runner.Status{}, err
		}
		var status runner.Status
		err = l.ask(ctx, conn, verbStart, spec, &status)
		if err == nil {
			l.learn(status)
			return status, nil
		}
		if !errors.Is(err, errLost) && !errors.Is(err, errStopping) {
			return runner.Status{}, err
		}
		// The supervisor ended at this moment. What it began is in its journal, and
		// known once the next one has answered; else it is begun anew.
		if err := l.after(ctx, conn); err != nil {
			return runner.Status{}, err
		}
		if status, ok := l.status(spec.ID); ok {
			return status, nil
		}
	}
}

// List implements runner.Runner.
func (c *Client) List(ctx context.Context) ([]runner.Status, error) {
	var all []runner.Status
	for _, l := range c.all() {
		if err := l.ready(ctx); err != nil {
			return nil, err
		}
		all = l.list(all)
	}
	return all, nil
}

// Wait implements runner.Runner.
func (c *Client) Wait(ctx context.Context, id string) (runner.Status, error) {
	l, err := c.having(ctx, id)
	if err != nil {
		return runner.Status{}, err
	}
	return l.wait(ctx, id)
}

// Signal implements runner.Runner.
func (c *Client) Signal(ctx context.Context, id string, signal int) error {
	l, err := c.having(ctx, id)
	if err != nil {
		return err
	}
	return l.call(ctx, verbSignal, &signalRequest{ID: id, Signal: signal}, nil)
}

// Resize implements runner.Runner.
func (c *Client) Resize(ctx context.Context, id string, r runner.Resources) (ignored string, err error) {
	l, err := c.having(ctx, id)
	if err != nil {
		return "", err
	}
	var answer resizeAnswer
	err = l.call(ctx, verbResize, &resizeRequest{ID: id, Resources: r}, &answer)
	return answer.Ignored, err
}

// Remove implements runner.Runner.
func (c *Client) Remove(ctx context.Context, id string) error {
	l, err := c.having(ctx, id)
	if err != nil {
		return err
	}
	if err := l.call(ctx, verbRemove, &idRequest{ID: id}, nil); err != nil {
		return err
	}
	l.forget(id)
	return nil
}

// SetVolume implements runner.Runner.
func (c *Client) SetVolume(ctx context.Context, v *runner.Volume) error {
	l, err := c.link(v.Class)
	if err != nil {
		return err
	}
	verb := verbSetVolume
	switch {
	case v.Layers != nil:
		verb = verbSetImage
	case v.Source != "":
		verb = verbGive
	}
	for {
		conn, err := l.connected(ctx)
		if err != nil {
			return err
		}
		err = l.ask(ctx, conn, verb, v, nil)
		if !errors.Is(err, errLost) && !errors.Is(err, errStopping) {
			return err
		}
		// The supervisor ended at this moment; the next one is asked.
		if err := l.after(ctx, conn); err != nil {
			return err
		}
	}
}

// Discard removes a directory that containers of the class sandbox have filled. Their users may be
// nobody's but the supervisor's: where this one is an ordinary user, its own rights do not do.
func (c *Client) Discard(ctx context.Context, path string) error {
	l, err := c.link(runner.Sandbox)
	if err != nil {
		return err
	}
	return l.call(ctx, verbDiscard, &idRequest{ID: path}, nil)
}

// ReadVolume implements runner.Runner.
func (c *Client) ReadVolume(ctx context.Context, f *runner.VolumeFile) ([]byte, error) {
	l, err := c.link(f.Class)
	if err != nil {
		return nil, err
	}
	var answer readAnswer
	err = l.call(ctx, verbRead, f, &answer)
	return answer.Data, err
}

// Usage implements runner.Runner.
func (c *Client) Usage(ctx context.Context, podUID string) (runner.PodUsage, error) {
	usage := runner.PodUsage{Containers: make(map[string]runner.DiskUsage), Volumes: make(map[string]runner.DiskUsage)}
	var errs []error
	for _, l := range c.all() {
		var one runner.PodUsage
		if err := l.call(ctx, verbUsage, &idRequest{ID: podUID}, &one); err != nil {
			errs = append(errs, err)
			continue
		}
		maps.Copy(usage.Containers, one.Containers)
		maps.Copy(usage.Volumes, one.Volumes)
		usage.Shared.Bytes += one.Shared.Bytes
		usage.Shared.Inodes += one.Shared.Inodes
	}
	if len(usage.Containers)+len(usage.Volumes) == 0 && usage.Shared == (runner.DiskUsage{}) {
		return usage, errors.Join(errs...) // it may be a pod of the class that does not answer
	}
	return usage, nil
}

// Pods implements runner.Runner. With an error it returns those of the classes
// that could be asked.
func (c *Client) Pods(ctx context.Context) ([]string, error) {
	var uids []string
	var errs []error
	for _, l := range c.all() {
		var answer podsAnswer
		errs = append(errs, l.call(ctx, verbPods, nil, &answer))
		uids = append(uids, answer.UIDs...)
	}
	slices.Sort(uids)
	return slices.Compact(uids), errors.Join(errs...)
}

// RemovePod implements runner.Runner.
func (c *Client) RemovePod(ctx context.Context, podUID string) error {
	var errs []error
	for _, l := range c.all() {
		errs = append(errs, l.call(ctx, verbRemovePod, &idRequest{ID: podUID}, nil))
	}
	return errors.Join(errs...)
}
