package runnertest

import (
	"context"
	"io/fs"
	"slices"
	"testing"

	"github.com/sampan-batch/sampan/internal/runner"
)

// testVolumes shows what becomes of a pod's volumes, from the first to a new
// client and to the end of the pod. What containers see in them is each
// implementation's to show.
func (s suite) testVolumes(t *testing.T) {
	b := s.setup(t)
	spec := b.command("true")
	if err := b.r.SetVolume(b.ctx, &runner.Volume{
		Class: b.opts.Class, PodUID: spec.Pod.UID, Name: "v", Mode: 0o755, Memory: true,
		Files: map[string]runner.File{"a/b": {Data: []byte("x"), Mode: 0o444}},
	}); err != nil {
		t.Fatal(err)
	}
	if err := b.r.SetVolume(b.ctx, &runner.Volume{Class: b.opts.Class, PodUID: spec.Pod.UID, Name: "e", Mode: 0o777}); err != nil {
		t.Fatal(err)
	}
	b.wantPod(spec, true)
	switch data, err := b.r.ReadVolume(b.ctx, &runner.VolumeFile{Class: b.opts.Class, PodUID: spec.Pod.UID, Name: "v", Path: "a/b"}); {
	case b.opts.Class == runner.Host:
		b.wantErr("read what no container can mount", err, runner.ErrNoVolume)
	case err != nil || string(data) != "x":
		t.Errorf("read: %q, %v", data, err)
	}
	_, err := b.r.ReadVolume(b.ctx, &runner.VolumeFile{Class: b.opts.Class, PodUID: spec.Pod.UID, Name: "v", Path: "a/c"})
	if b.opts.Class != runner.Host {
		b.wantErr("read what is not there", err, fs.ErrNotExist)
	}
	if b.opts.Class == runner.Sandbox {
		spec.Mounts = []runner.Mount{{Volume: "v", Target: "/v", ReadOnly: true}, {Volume: "e", Target: "/e", SubPath: "made"}}
	}
	b.run(spec)
	if s.opts.Reconnect != nil {
		b.r = s.opts.Reconnect(t, b.r)
		b.wantPod(spec, true)
	}
	if usage, err := b.r.Usage(b.ctx, spec.Pod.UID); err != nil {
		t.Errorf("%+v, %v", usage, err)
	}
	b.finish(spec)
	b.wantPod(spec, false)
	if b.opts.Class == runner.Sandbox {
		again := b.command("true")
		again.Pod, again.Mounts = spec.Pod, spec.Mounts
		_, err := b.r.Start(b.ctx, again)
		b.wantErr("start without its volumes", err, runner.ErrNoVolume)
		b.finishPod(again)
	}
}

// testUsage asks what pods take of the disk that are not, or have nothing.
func (s suite) testUsage(t *testing.T) {
	b := s.setup(t)
	spec := b.command("true")
	usage, err := b.r.Usage(b.ctx, spec.Pod.UID)
	if err != nil || len(usage.Containers)+len(usage.Volumes) > 0 || usage.Shared != (runner.DiskUsage{}) {
		t.Errorf("nothing: %+v, %v", usage, err)
	}
	b.run(spec)
	if usage, err = b.r.Usage(b.ctx, spec.Pod.UID); err != nil || usage.Shared.Bytes > 1<<20 {
		t.Errorf("a container that wrote nothing: %+v, %v", usage, err)
	}
	for id, u := range usage.Containers {
		if id != spec.ID || u.Bytes > 1<<20 {
			t.Errorf("%s: %+v", id, u)
		}
	}
	ctx, cancel := context.WithCancel(b.ctx)
	cancel()
	if _, err := b.r.Usage(ctx, spec.Pod.UID); err != nil {
		b.wantErr("cancelled", err, context.Canceled)
	}
	b.finish(spec)
}

func (b *bench) wantPod(spec *runner.Spec, want bool) {
	b.t.Helper()
	uids, err := b.r.Pods(b.ctx)
	if err != nil || slices.Contains(uids, spec.Pod.UID) != want {
		b.t.Errorf("pods: %q, %v; with %s: want %v", uids, err, spec.Pod.UID, want)
	}
}
