package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strconv"

	"github.com/sampan-batch/sampan/internal/runner"
)

// version1 is a tree per controller. Groups are made below our own, so that
// limits which were set for us hold for the containers too.
type version1 struct {
	cfg  Config
	base map[string]string // our group, by controller
}

// home is the directory of the groups of a controller.
const home = "sampan"

// usable tells why groups cannot be made. Version 1 has no safe delegation.
func (v *version1) usable() error {
	for _, dir := range v.base {
		if v.cfg.Kernel.Writable(dir) {
			return nil
		}
	}
	return errors.New("creating cgroups (version 1) needs root")
}

func (v *version1) dirs(name string) map[string]string {
	dirs := make(map[string]string)
	for controller, base := range v.base {
		dirs[controller] = filepath.Join(base, home, name)
	}
	return dirs
}

func (v *version1) prepare() error {
	var errs []error
	for _, base := range v.base {
		if err := v.cfg.Kernel.Mkdir(filepath.Join(base, home)); err != nil && !errors.Is(err, fs.ErrExist) {
			errs = append(errs, err)
		}
	}
	if len(errs) == len(v.base) {
		return errs[0]
	}
	return nil
}

func (v *version1) cleanUp() {
	for _, base := range v.base {
		_ = v.cfg.Kernel.Rmdir(filepath.Join(base, home))
	}
}

func (v *version1) limits(r runner.Resources) map[string][]setting {
	s := make(map[string][]setting)
	if r.MemoryLimit > 0 {
		limit := strconv.FormatInt(r.MemoryLimit, 10)
		s[memory] = []setting{
			{file: "memory.limit_in_bytes", value: limit},
			{file: "memory.memsw.limit_in_bytes", value: limit, optional: true},
		}
	}
	if r.CPUShares > 0 {
		s[cpu] = append(s[cpu], setting{file: "cpu.shares", value: fmt.Sprint(r.CPUShares)})
	}
	if r.CPUQuota > 0 {
		s[cpu] = append(s[cpu],
			setting{file: "cpu.cfs_period_us", value: fmt.Sprint(period(r))},
			setting{file: "cpu.cfs_quota_us", value: fmt.Sprint(r.CPUQuota)})
	}
	if r.PidsLimit > 0 {
		s[pids] = []setting{{file: "pids.max", value: fmt.Sprint(r.PidsLimit)}}
	}
	return s
}

// period is what a quota refers to.
func period(r runner.Resources) int64 {
	if r.CPUPeriod > 0 {
		return r.CPUPeriod
	}
	return 100_000
}

func (v *version1) oomFile() string { return "memory.oom_control" }

func (v *version1) unified() bool { return false }
