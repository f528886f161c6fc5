package cgroup

import (
	"errors"
	"slices"
)

// version1 returns the trees of version 1 that we may use, or why there are none
// although there are some. Groups are made below our own, so that limits which
// were set for us hold for the containers too. We ourselves stay where we are:
// here a group may have processes and groups in it, and the limits of the group
// of all pods leave us alone.
func version1(cfg Config, mounts []mount, own map[string]string) ([]*tree, error) {
	var trees []*tree
	var refused error
	for _, controller := range []string{pids, memory, cpu, freezer} {
		for _, m := range mounts {
			if m.unified || !slices.Contains(m.options, controller) {
				continue
			}
			base := m.path(own[controller])
			// There is no safe delegation.
			if !cfg.Kernel.Writable(base) {
				refused = errors.New("creating cgroups (version 1) needs root")
				continue
			}
			i := slices.IndexFunc(trees, func(t *tree) bool { return t.base == base })
			if i < 0 {
				i, trees = len(trees), append(trees, &tree{cfg: cfg, top: m.point, base: base})
			}
			trees[i].controllers = append(trees[i].controllers, controller)
			break
		}
	}
	return trees, refused
}
