package cgroup

import (
	"fmt"
	"math"
	"path/filepath"
	"strconv"

	"github.com/sampan-batch/sampan/internal/runner"
)

// limits turns what resources ask of a controller into files of a group. Without
// a tree it tells whether they ask for anything.
func limits(t *tree, controller string, r runner.Resources) []setting {
	switch {
	case controller == memory && r.MemoryLimit > 0:
		return memoryLimit(t, r.MemoryLimit)
	case controller == pids && r.PidsLimit > 0:
		return []setting{{file: "pids.max", value: fmt.Sprint(r.PidsLimit)}}
	case controller == cpu:
		var s []setting
		if r.CPUShares > 0 {
			s = append(s, cpuShare(t, r.CPUShares))
		}
		if r.CPUQuota > 0 {
			s = append(s, cpuQuota(t, r)...)
		}
		return s
	}
	return nil
}

func memoryLimit(t *tree, bytes int64) []setting {
	limit := fmt.Sprint(bytes)
	if t != nil && t.unified {
		return []setting{
			{file: "memory.max", value: limit},
			{file: "memory.swap.max", value: "0", optional: true},
			// The container ends as a whole; nobody else is in the group.
			{file: "memory.oom.group", value: "1", optional: true},
		}
	}
	return []setting{
		{file: "memory.limit_in_bytes", value: limit},
		{file: "memory.memsw.limit_in_bytes", value: limit, optional: true},
	}
}

// inOrder returns the settings of a group that has limits already in an order in which each is
// allowed: in version 1, memory with swap is never less than memory.
func inOrder(dir string, s []setting) []setting {
	if len(s) != 2 || s[0].file != "memory.limit_in_bytes" {
		return s
	}
	both, err := words(filepath.Join(dir, s[1].file))
	if err != nil || len(both) != 1 {
		return s
	}
	now, _ := strconv.ParseInt(both[0], 10, 64)
	if next, _ := strconv.ParseInt(s[0].value, 10, 64); next <= now {
		return s
	}
	return []setting{s[1], s[0]}
}

func cpuShare(t *tree, shares int64) setting {
	if t != nil && t.unified {
		return setting{file: "cpu.weight", value: fmt.Sprint(weight(shares))}
	}
	return setting{file: "cpu.shares", value: fmt.Sprint(shares)}
}

func cpuQuota(t *tree, r runner.Resources) []setting {
	if t != nil && t.unified {
		return []setting{{file: "cpu.max", value: fmt.Sprintf("%d %d", r.CPUQuota, period(r))}}
	}
	return []setting{
		{file: "cpu.cfs_period_us", value: fmt.Sprint(period(r))},
		{file: "cpu.cfs_quota_us", value: fmt.Sprint(r.CPUQuota)},
	}
}

// period is what a quota refers to.
func period(r runner.Resources) int64 {
	if r.CPUPeriod > 0 {
		return r.CPUPeriod
	}
	return 100_000
}

// weight turns version 1's shares (2…262144, usually 1024) into version 2's
// weight (1…10000, usually 100) by the curve through these three points that
// the container runtimes have agreed on.
func weight(shares int64) int64 {
	switch {
	case shares <= 2:
		return 1
	case shares >= 262144:
		return 10000
	}
	l := math.Log2(float64(shares))
	return int64(math.Ceil(math.Pow(10, (l*l+125*l)/612-7.0/34)))
}
