// Package engine wires the rooms into one running whole, and owns the order in
// which they start and stop.
//
// Start: the data directory is locked, the store opened, the API's address bound,
// the kubeconfig written; last of all the supervisors are found (pods may be running
// already) or started, so that a start that fails leaves nothing running. Then the
// API, the recorder, the controllers and the node run together. The engine is ready
// when the API answers and the node is there to be given pods.
//
// Stop, in this order: the API first, so that nothing new is accepted; the
// node, which leaves its pods running; the controllers; the recorder, which
// writes what it still has; the store. A private engine then ends its pods.
package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/rest"

	"github.com/sampan-batch/sampan/internal/agent/machine"
	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/control"
	"github.com/sampan-batch/sampan/internal/endpoint"
	"github.com/sampan-batch/sampan/internal/image"
	"github.com/sampan-batch/sampan/internal/kind"
	"github.com/sampan-batch/sampan/internal/localpath"
	"github.com/sampan-batch/sampan/internal/runner"
	"github.com/sampan-batch/sampan/internal/runner/supervisor"
	"github.com/sampan-batch/sampan/internal/server"
	"github.com/sampan-batch/sampan/internal/store"
	"github.com/sampan-batch/sampan/internal/sweep"
)

// Engine is one engine on one data directory. New makes it, Run runs it once.
type Engine struct {
	config Config
	ready  chan struct{}

	lock     *dirLock
	store    *store.Store
	images   func() (*image.Store, error) // opens them at its first call
	server   *server.Server
	nodes    []*member // the first is the one that stands for all where one is asked
	recorder *control.Recorder
	loop     *control.Loop
	janitor  *control.Janitor
	reporter *control.Reporter
	scaler   *control.Autoscaler
	vigil    control.Vigil
	health   *health
}

// New opens the data directory and prepares every room. It returns an
// *InUseError when another engine works on the directory, a *LimitError when this process may have
// too little for one.
func New(config Config) (*Engine, error) {
	if err := CheckLimits(config.Runtime); err != nil {
		return nil, err
	}
	if err := config.complete(); err != nil {
		return nil, err
	}
	e := &Engine{config: config, ready: make(chan struct{})}
	if err := e.open(); err != nil {
		e.close()
		return nil, err
	}
	return e, nil
}

func (e *Engine) open() (err error) {
	c := &e.config
	if err := c.keepDirs(); err != nil {
		return err
	}
	if e.lock, err = lockDir(c.DataDir, c.Command); err != nil {
		return err
	}
	return e.openWith(kind.Cluster{DualStack: c.ipv6, MountDefault: c.AutomountDefaultToken}.Kinds())
}

// openWith opens what needs to know what kinds of objects there are.
func (e *Engine) openWith(kinds *kind.Kinds) (err error) {
	c := &e.config
	if e.store, err = c.openStore(kinds); err != nil {
		return err
	}
	if c.Private {
		if err := awaitFormer(c.DataDir); err != nil {
			return err
		}
		if err := interrupted(context.Background(), e.store, kinds); err != nil {
			return err
		}
	}
	e.images = c.imageStore()
	if !c.imageless() {
		if _, err := e.images(); err != nil {
			return err
		}
	}
	if err := c.completeNodes(); err != nil {
		return err
	}
	if err := e.assignPodRanges(); err != nil {
		return err
	}
	neighbours := e.neighbours()
	e.health = newHealth(c.DataDir, e.store, newClockCheck(readClocks, lastRenewal(e.store, c.Nodes[0].Name)))
	for _, object := range c.Nodes {
		m, err := e.newMember(object, neighbours)
		if err != nil {
			return err
		}
		e.nodes = append(e.nodes, m)
	}
	return e.wire(kinds)
}

// wire makes the API, and who works with it. Nothing runs yet.
func (e *Engine) wire(kinds *kind.Kinds) (err error) {
	c := &e.config
	if err := e.serveFrom(kinds); err != nil {
		return err
	}
	plan := sweep.Plan{RootCA: e.server.RootCA(), Automount: c.AutomountDefaultToken}
	var trust *corev1.ConfigMap
	if !c.Private {
		if trust, err = e.server.AuthenticationConfig(); err != nil {
			return err
		}
	}
	if err := bootstrap(context.Background(), e.store, kinds, plan, trust, c.network().ServiceRanges()); err != nil {
		return err
	}
	api := endpoint.API{}
	if !c.Private { // nobody but its maker can reach that one
		api.At = advertised(e.server.Endpoint(), addresses())
		e.announceAPI(api)
	}
	e.recorder = control.NewRecorder(e.store, c.Nodes[0].Name, c.Logger)
	e.janitor = &control.Janitor{Store: e.store, TTL: eventTTL, Max: maxEvents}
	e.reporter = &control.Reporter{Store: e.store, Log: c.Logger}
	volumes, err := e.openVolumes()
	if err != nil {
		return err
	}
	options := control.Options{Source: control.FromStore(e.store), Kinds: kinds, Recorder: e.recorder, Logger: c.Logger, Admission: e.server.Admission()}
	dir := ""
	if volumes != nil {
		dir, options.Volumes = volumes.Dir(), volumes
	}
	nodes := control.Nodes{Grace: c.NodeMonitorGrace, Vigil: &e.vigil}
	options.Controllers = slices.Concat(control.Controllers(kinds, plan, api, dir, nodes, e.server.Others()), control.Identities(kinds, plan, control.Keys{
		Certificate: e.server.SignCertificate, Token: e.server.SignSecretToken,
	}))
	e.loop = control.New(options)
	e.scaler = control.NewAutoscaler(control.AutoscalerOptions{Store: e.store, Kinds: kinds, Usage: e.usage, Recorder: e.recorder, Logger: c.Logger})
	return e.employ(kinds)
}

// discardForeign has a supervisor remove what users of containers have made, in which this one has no part.
func (e *Engine) discardForeign(ctx context.Context, path string) error {
	runners := e.nodes[0].runners()
	if runners == nil {
		return errors.New("the node is gone")
	}
	return runners.Discard(ctx, path)
}

// openVolumes opens the directories of the claims of this engine's users; nil for a private one,
// which has been given directories for them before.
func (e *Engine) openVolumes() (*localpath.Volumes, error) {
	c := &e.config
	if c.Private {
		return nil, nil
	}
	var foreign func(path string) error
	if os.Geteuid() != 0 { // containers have users that only the supervisor has a part in
		foreign = func(path string) error { return e.discardForeign(context.Background(), path) }
	}
	v, err := localpath.Open(filepath.Join(c.DataDir, RunVolumes), c.Logger, foreign)
	if err != nil {
		return nil, err
	}
	view := e.store.View()
	return v, v.Tidy(func(name string) bool {
		_, known := view.Get(kind.PersistentVolumes.Key("", name))
		return known
	})
}

// serveFrom makes the API of the store.
func (e *Engine) serveFrom(kinds *kind.Kinds) (err error) {
	c := &e.config
	e.server, err = server.New(server.Options{
		Store: e.store, Kinds: kinds, Listen: c.Listen,
		CertDir: filepath.Join(c.DataDir, "pki"), TokenFile: c.TokenFile, Node: e.node, Logger: c.Logger, Version: c.Version,
		Live: e.health.live(), Ready: e.health.ready(), Backup: e.Backup, Machine: e,
	})
	return err
}

// node returns what gives the streams of a node's pods.
func (e *Engine) node(name string) server.PodStreams {
	for _, m := range e.nodes {
		if m.name == name {
			if worker := m.worker(); worker != nil {
				return worker
			}
		}
	}
	return nil
}

// machine is what watches what this machine has left.
func (e *Engine) machine() *machine.Machine {
	m := &machine.Machine{Dir: e.config.DataDir, ImageDir: e.config.ImageDir}
	if e.config.imageless() {
		m.ImageDir = m.Dir
	}
	return m
}

// Ready is closed when the API answers and pods can run.
func (e *Engine) Ready() <-chan struct{} { return e.ready }

// Addr is the API's host:port.
func (e *Engine) Addr() string { return e.server.Addr() }

// KubeconfigPath is where the administrator's kubeconfig is.
func (e *Engine) KubeconfigPath() string { return e.config.Kubeconfig }

// RESTConfig is how a client in this process reaches the API.
func (e *Engine) RESTConfig() *rest.Config { return e.server.InsideConfig() }

// Watch is a watch of a resource for who is in this process: see server.Server.Watch.
func (e *Engine) Watch(ctx context.Context, of change.Resource, o metav1.ListOptions) (watch.Interface, error) {
	return e.server.Watch(ctx, of, o)
}

// Run runs until ctx ends or a room fails, then stops everything. It returns
// the cause.
func (e *Engine) Run(ctx context.Context) error {
	defer e.close()
	if err := e.announce(); err != nil {
		return err
	}
	if err := e.connect(ctx); err != nil {
		return err
	}
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	go e.heedStore(ctx, fail)
	var beside sync.WaitGroup
	defer beside.Wait()
	beside.Go(func() { newNotifier(e.health, e.Addr(), e.config.Logger).run(ctx, e.ready) })

	beside.Go(func() {
		if err := e.endFormer(ctx); err != nil && ctx.Err() == nil {
			e.config.Logger.Error("the containers of a former node were not ended", "err", err)
		}
	})
	e.vigil.Begin(time.Now())
	// One stage per step of the stop order; each ends when the one before has.
	api := stage(ctx, fail, "api", e.server.Run)
	node := stage(api.after, fail, "node", e.runNodes()...)
	controllers := stage(node.after, fail, "controllers", e.loop.Run, e.scaler.Run, e.janitor.Run, e.reporter.Run, e.watchClock, e.giveBack)
	recorder := stage(controllers.after, fail, "recorder", e.recorder.Run)

	go func() {
		select {
		case <-e.server.Ready():
		case <-ctx.Done():
			return
		}
		if err := e.preflight(ctx); err != nil {
			fail(err)
			return
		}
		for _, m := range e.nodes {
			if awaitNode(ctx, e.store, m.name) != nil {
				return
			}
		}
		close(e.ready)
	}()
	<-recorder.after.Done()
	return context.Cause(ctx)
}

// announce writes down where the API is.
func (e *Engine) announce() error {
	e.lock.listening(e.server.Addr())
	data, err := e.server.Kubeconfig()
	if err != nil {
		return err
	}
	if err := writePrivate(e.config.Kubeconfig, data); err != nil {
		return fmt.Errorf("write kubeconfig: %w", err)
	}
	return nil
}

// connect finds the supervisors of each node, and starts that of the default class.
func (e *Engine) connect(ctx context.Context) error {
	for _, m := range e.nodes {
		if err := m.runner.Connect(ctx); err != nil {
			return err
		}
		if err := m.runner.Prepare(m.class); err != nil {
			return err
		}
	}
	return nil
}

// IsolationError says that containers cannot be isolated from this machine, whatever they are.
type IsolationError struct{ Err error }

func (e *IsolationError) Error() string {
	return fmt.Sprintf("containers cannot be isolated here: %v; --runtime=host starts commands as plain processes of this machine instead", e.Err)
}

func (e *IsolationError) Unwrap() error { return e.Err }

// preflight finds out whether containers of the default class can be started at all. Where they
// cannot, each pod would fail and be tried again, for ever.
func (e *Engine) preflight(ctx context.Context) error {
	if e.config.Runtime != runner.Sandbox {
		return nil
	}
	if err := e.nodes[0].runner.Refused(ctx, runner.Sandbox); err != nil && ctx.Err() == nil {
		return &IsolationError{err}
	}
	return nil
}

// heedStore waits until the store has stopped for good. Whoever is started again
// ends then: the next engine goes on from what the disk holds. So does a private
// engine, whose Jobs would wait for ever. Any other stays, for what is stored can be
// read; somebody has to look anyway.
func (e *Engine) heedStore(ctx context.Context, fail context.CancelCauseFunc) {
	select {
	case <-e.store.Failed():
	case <-ctx.Done():
		return
	}
	err := e.store.Err()
	switch {
	case e.config.Private:
		fail(err)
	case e.config.Supervised:
		fail(fmt.Errorf("ending, to be started again by the service manager; the pods go on: %w", err))
	default:
		e.config.Logger.Error("nothing is written any more; what is stored can be read", "err", err)
	}
}

// running is a stage of the engine; after ends when all its parts have.
type running struct{ after context.Context }

// stage runs parts until ctx ends, and fails the engine when one of them does
// before.
func stage(ctx context.Context, fail context.CancelCauseFunc, name string, parts ...func(context.Context) error) running {
	after, done := context.WithCancel(context.WithoutCancel(ctx))
	var group errgroup.Group
	for _, run := range parts {
		group.Go(func() error {
			err := run(ctx)
			if ctx.Err() == nil {
				if err == nil {
					err = errors.New("ended by itself")
				}
				fail(fmt.Errorf("%s: %w", name, err))
			}
			return nil
		})
	}
	go func() {
		_ = group.Wait()
		done()
	}()
	return running{after}
}

func (e *Engine) watchClock(ctx context.Context) error {
	err := watchClock(ctx, e.config.Logger, func() {
		e.health.clock.look()
		e.vigil.Begin(time.Now())
		e.loop.ClockSet()
		e.scaler.ClockSet()
	})
	<-ctx.Done()
	return err
}

// abandonTime is how long supervisors that nobody needed may take to end.
const abandonTime = 10 * time.Second

// leaveRunner ends what shall not outlive the engine: a private one's pods, and what
// was started for nothing by one that was never ready.
func (e *Engine) leaveRunner(client *supervisor.Client) error {
	if e.config.Private {
		return client.Stop(context.Background())
	}
	select {
	case <-e.ready:
		return client.Close()
	default:
		ctx, cancel := context.WithTimeout(context.Background(), abandonTime)
		defer cancel()
		return client.Abandon(ctx)
	}
}

// close releases what open took, in the reverse order.
func (e *Engine) close() {
	var errs []error
	if e.server != nil {
		_ = e.server.Close() // it may have run
	}
	for _, m := range e.nodes {
		if client := m.runners(); client != nil {
			errs = append(errs, e.leaveRunner(client))
		}
	}
	if e.store != nil {
		errs = append(errs, e.store.Close())
	}
	if e.lock != nil {
		e.lock.release()
	}
	if err := errors.Join(errs...); err != nil {
		e.config.Logger.Error("not everything was closed", "err", err)
	}
}
