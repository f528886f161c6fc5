package agent

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/sampan-batch/sampan/internal/agent/network"
	"github.com/sampan-batch/sampan/internal/agent/runspec"
	"github.com/sampan-batch/sampan/internal/reason"
	"github.com/sampan-batch/sampan/internal/runner"
	"github.com/sampan-batch/sampan/internal/runner/crilog"
)

// launch gets the image and starts the process.
func (a *attempt) launch(ctx context.Context) (runner.Status, *runner.Spec, error) {
	if err := a.ensureImage(ctx); err != nil {
		return runner.Status{}, nil, err
	}
	if err := a.imageVolumes(ctx); err != nil {
		return runner.Status{}, nil, err
	}
	spec, err := a.spec(ctx)
	if err != nil {
		return runner.Status{}, nil, err
	}
	// From here on the container may exist: the worker's end, not that of the
	// attempt, interrupts.
	st, err := a.runner.Start(a.pod.ctx, spec)
	if errors.Is(err, runner.ErrNoVolume) || errors.Is(err, runner.ErrNoNetwork) {
		// The supervisor has died since they were made, and what it held with it.
		st, spec, err = a.again(ctx)
	}
	if errors.Is(err, runner.ErrExists) {
		// An earlier Start has done it, and its answer was lost.
		st, err = a.find()
	}
	if err != nil {
		a.pod.files.RemoveTerminationLog(a.id)
		return st, nil, err
	}
	a.note(normal, reason.Created, "Container created")
	a.note(normal, reason.Started, "Container started")
	return st, spec, nil
}

// again makes what the pod's containers have around them once more, and starts the process.
func (a *attempt) again(ctx context.Context) (runner.Status, *runner.Spec, error) {
	p := a.pod
	if p.hasNetwork(a.object) { // and has another address
		p.files.RemoveEtc(p.ref.UID)
	}
	err := p.surround(p.ctx, a.object)
	if err == nil {
		err = p.setVolumes(p.ctx, a.object)
	}
	if err == nil {
		err = a.imageVolumes(ctx)
	}
	if err != nil {
		return runner.Status{}, nil, err
	}
	spec, err := a.spec(ctx)
	if err != nil {
		return runner.Status{}, nil, err
	}
	st, err := a.runner.Start(p.ctx, spec)
	return st, spec, err
}

// find returns the status of the attempt's container, which exists.
func (a *attempt) find() (runner.Status, error) {
	list, err := a.runner.List(a.pod.ctx)
	if err != nil {
		return runner.Status{}, err
	}
	for _, st := range list {
		if st.ID == a.id {
			return st, nil
		}
	}
	return runner.Status{}, runner.ErrNotFound
}

// wait waits for the container's end. ok is false when the worker has ended before.
func (a *attempt) wait() (st runner.Status, ok bool) {
	ctx := a.pod.ctx
	st, err := a.runner.Wait(ctx, a.id)
	for err != nil && ctx.Err() == nil {
		if errors.Is(err, runner.ErrNotFound) {
			// The runner does not know what it started: how it ended will never be known.
			st = runner.Status{ID: a.id, Phase: runner.Exited, ExitCode: 137, FinishedAt: time.Now(), Lost: true}
			break
		}
		// As long as the runner cannot be asked, the container may well be alive.
		a.pod.log().Warn("cannot wait for a container", "container", a.id, "err", err)
		sleep(ctx, time.Second)
		st, err = a.runner.Wait(ctx, a.id)
	}
	return st, ctx.Err() == nil
}

// spec returns what the runner is told.
func (a *attempt) spec(ctx context.Context) (*runner.Spec, error) {
	p, container := a.pod, a.container.Spec
	if granted := a.container.Granted; granted != nil { // it asks for what it does not have yet
		c := *container
		c.Resources, container = *granted, &c
	}
	hostname, err := network.Nodename(a.object, p.Node.Name())
	if err != nil {
		return nil, err
	}
	in := &runspec.Input{
		Pod: a.object, Container: container, Class: a.class,
		Addresses: p.addresses(a.object), Allocatable: p.Node.Allocatable(), Hostname: hostname,
		ImageEnv: p.HostEnv, PodPids: p.PodPids, API: p.api(a.object),
	}
	if img := a.image; img != nil {
		in.Layers, in.Entrypoint, in.Cmd, in.ImageEnv = img.Layers, img.Entrypoint, img.Cmd, img.Env
		in.WorkingDir, in.ImageUser = img.WorkingDir, img.User
		in.LookupUser = func(user string) (runspec.User, error) { return p.Images.LookupUser(ctx, img, user) }
	}
	in.Services = func() ([]*corev1.Service, error) { return p.Client.Services(ctx, a.object.Namespace) }
	in.ReadFile = func(volume, path string) ([]byte, error) {
		return a.runner.ReadVolume(ctx, &runner.VolumeFile{Class: a.class, PodUID: p.ref.UID, Name: volume, Path: path})
	}
	in.Mounts = func(env *runspec.Env) ([]runner.Mount, error) {
		mounts, err := p.volumes(ctx, a.object).Mounts(a.container.Spec, env)
		if err == nil && a.class != runner.Host {
			mounts = p.files.EtcMounts(a.object, a.container.Spec, p.names(a.object), a.place, mounts)
		}
		return mounts, err
	}
	spec, err := runspec.New(in, objects{ctx, p.Client, a.object.Namespace})
	if err != nil {
		return nil, err
	}
	if names := runspec.Withheld(in); len(names) > 0 && a.number == 0 {
		a.note(warning, reason.CapabilityWithheld, fmt.Sprintf("Container %s does not get %s: pods share this machine's network, and only those with hostNetwork: true have power over it",
			spec.Container, strings.Join(names, " and ")))
	}
	if names := runspec.SysctlsWithheld(in); len(names) > 0 && a.number == 0 {
		a.pod.note(warning, reason.NotEnforced, fmt.Sprintf("No effect on this node: sysctl %s, as pods share this machine's network", strings.Join(names, ", ")))
	}
	if err := a.share(spec); err != nil {
		return nil, err
	}
	spec.ID, spec.Attempt, spec.Pod = a.id, a.number, p.ref
	spec.PodNetwork = in.Addresses.Own
	spec.LogPath = p.files.Log(p.ref, spec.Container, a.number)
	if a.number >= 2 { // one earlier log is kept
		a.dropLog(a.number - 2)
	}
	return spec, a.makeTerminationLog(spec)
}

// place returns where in the container a file in /etc is. The image may have a link there
// that leads to nothing yet.
func (a *attempt) place(path string) string {
	if a.image == nil {
		return path
	}
	place, err := a.pod.Images.Place(a.image, path)
	if err != nil || place == "/" {
		return path // the start says what is wrong with it
	}
	return place
}

// dropLog removes the log of an earlier attempt, when it has been read.
func (a *attempt) dropLog(number int) {
	p, path := a.pod, a.pod.files.Log(a.pod.ref, a.container.Spec.Name, number)
	p.tasks.Go(func() {
		if !p.logs.await(p.ctx, p.ref.UID, path) {
			return // it goes with the pod's
		}
		if err := crilog.Remove(path); err != nil {
			p.log().Warn("cannot remove an old log", "path", path, "err", err)
		}
	})
}
