package fake

import (
	"context"
	"io/fs"
	"maps"
	"slices"

	"github.com/sampan-batch/sampan/internal/runner"
)

// SetVolume implements runner.Runner. A volume is kept as it was asked for;
// containers do not look into it.
func (r *Runner) SetVolume(_ context.Context, v *runner.Volume) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.volumes[v.PodUID] == nil {
		r.volumes[v.PodUID] = make(map[string]runner.Volume)
	}
	r.volumes[v.PodUID][v.Name] = *v
	return nil
}

// ReadVolume implements runner.Runner: what is in a volume's Files, by their names.
func (r *Runner) ReadVolume(_ context.Context, f *runner.VolumeFile) ([]byte, error) {
	v, ok := r.Volume(f.PodUID, f.Name)
	if !ok {
		return nil, runner.ErrNoVolume
	}
	file, ok := v.Files[f.Path]
	if !ok {
		return nil, fs.ErrNotExist
	}
	return file.Data, nil
}

// Volume returns a volume as SetVolume last saw it, and whether there is one.
func (r *Runner) Volume(podUID, name string) (runner.Volume, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	v, ok := r.volumes[podUID][name]
	return v, ok
}

// Usage implements runner.Runner: it is what SetUsage said.
func (r *Runner) Usage(_ context.Context, podUID string) (runner.PodUsage, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	u := r.usage[podUID]
	u.Containers, u.Volumes = maps.Clone(u.Containers), maps.Clone(u.Volumes)
	return u, nil
}

// SetUsage says what a pod takes of the disk from now on, until RemovePod.
func (r *Runner) SetUsage(podUID string, usage runner.PodUsage) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.usage[podUID] = usage
}

// Pods implements runner.Runner.
func (r *Runner) Pods(context.Context) ([]string, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	uids := make(map[string]bool)
	for _, c := range r.containers {
		uids[c.spec.Pod.UID] = true
	}
	for uid := range r.volumes {
		uids[uid] = true
	}
	return slices.Sorted(maps.Keys(uids)), nil
}

// RemovePod implements runner.Runner.
func (r *Runner) RemovePod(_ context.Context, podUID string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.volumes, podUID)
	delete(r.usage, podUID)
	delete(r.networks.pods, podUID)
	r.removed = append(r.removed, podUID)
	return nil
}

// RemovedPods are the uids that RemovePod was called with, in order.
func (r *Runner) RemovedPods() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.removed)
}
