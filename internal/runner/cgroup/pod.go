package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"sync"
)

// pod is the group in which a pod's containers have theirs.
type pod struct {
	m     *Manager
	name  string // of its directories
	users int    // groups in it, made or about to be; Manager.mu guards it

	// mu is held while directories of this pod are made and removed, so that
	// a removal, which may take its time, holds up this pod only.
	mu     sync.Mutex
	made   map[*tree]bool
	pids   int64            // the limit that has been set
	shares map[string]int64 // of the cpu, by container
}

// join returns the group of a pod, of which the caller will be a user.
func (m *Manager) join(uid string) *pod {
	name := "pod" + strings.NewReplacer("/", "-", "\x00", "-").Replace(uid) + "." + m.key
	m.mu.Lock()
	defer m.mu.Unlock()
	p := m.pods[name]
	if p == nil {
		p = &pod{m: m, name: name, made: make(map[*tree]bool), shares: make(map[string]int64)}
		m.pods[name] = p
	}
	p.users++
	return p
}

// leave undoes join for the container of that name; the last one removes the
// pod's directories.
func (m *Manager) leave(p *pod, container string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.shares, container)
	m.mu.Lock()
	p.users--
	last := p.users == 0
	m.mu.Unlock()
	var errs []error
	if !last {
		if t := m.layout.limit[cpu]; t != nil && p.made[t] {
			p.weighLocked(t)
		}
		return nil
	}
	for t := range p.made {
		if err := t.remove(p.dir(t)); err != nil {
			errs = append(errs, err)
			continue
		}
		delete(p.made, t)
	}
	p.pids = 0
	m.mu.Lock()
	if p.users == 0 { // nobody has come meanwhile
		delete(m.pods, p.name)
	}
	none := len(m.pods) == 0
	m.mu.Unlock()
	if none {
		m.cleanUp()
	}
	return errors.Join(errs...)
}

// cleanUp removes the groups of all pods, where they are empty: other
// supervisors may have pods in them.
func (m *Manager) cleanUp() {
	for _, t := range m.layout.trees {
		_ = t.cfg.Kernel.Rmdir(t.home())
	}
}

func (p *pod) dir(t *tree) string { return filepath.Join(t.home(), p.name) }

// makeGroup makes a container's directory.
func (p *pod) makeGroup(t *tree, name string) (string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	dir := filepath.Join(p.dir(t), name)
	if err := p.makeLocked(t, dir); err != nil {
		return "", err
	}
	return dir, nil
}

// makeTries: the group of all pods may be removed, with the last pod of another
// supervisor, just when we have found or made it.
const makeTries = 20

// makeLocked makes a directory of the pod, and the pod's if need be.
func (p *pod) makeLocked(t *tree, dir string) error {
	var err error
	for range makeTries {
		err = mkdir(t.cfg.Kernel, dir)
		if !errors.Is(err, fs.ErrNotExist) {
			break
		}
		if err := mkdir(t.cfg.Kernel, p.dir(t)); errors.Is(err, fs.ErrNotExist) {
			if err := t.prepare(); err != nil {
				return err
			}
			continue
		} else if err != nil {
			return err
		}
		p.made[t] = true
		t.lightest(p.dir(t))
	}
	if err == nil {
		t.lightest(dir)
	}
	return err
}

// mkdir makes a group, which may be there already.
func mkdir(k Kernel, dir string) error {
	if err := k.Mkdir(dir); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

// limitPids sets how many processes and threads the pod's containers may have
// together, where that can be limited at all.
func (p *pod) limitPids(n int64) error {
	t := p.m.layout.limit[pids]
	if n <= 0 || t == nil {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.pids == n {
		return nil
	}
	dir := p.dir(t)
	if !p.made[t] { // another tree is that in which processes are found
		if err := p.makeLocked(t, dir); err != nil {
			return err
		}
		p.made[t] = true
	}
	err := p.setLocked(t, pids, dir, []setting{{file: "pids.max", value: fmt.Sprint(n)}})
	if err == nil {
		p.pids = n
	}
	return err
}

// set sets limits of a controller on a directory of the pod.
func (p *pod) set(t *tree, controller, dir string, settings []setting) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.setLocked(t, controller, dir, settings)
}

// setLocked makes the groups above hand on the controller only when that turns
// out to be missing: with version 2 every group pays for what it is given.
func (p *pod) setLocked(t *tree, controller, dir string, settings []setting) error {
	for _, s := range settings {
		file := filepath.Join(dir, s.file)
		err := t.cfg.Kernel.Write(file, s.value)
		if errors.Is(err, fs.ErrNotExist) && t.unified && !s.optional {
			for _, above := range p.above(t, dir) {
				if err := t.handOn(above, controller); err != nil {
					return err
				}
			}
			err = t.cfg.Kernel.Write(file, s.value)
		}
		if err != nil && (!s.optional || !errors.Is(err, fs.ErrNotExist)) {
			return err
		}
	}
	return nil
}

// above returns the groups that a directory of the pod gets its controllers
// from, the highest first.
func (p *pod) above(t *tree, dir string) []string {
	if dir == p.dir(t) {
		return []string{t.home()}
	}
	return []string{t.home(), p.dir(t)}
}

// share records that a container asks for so much of the cpu. Pods compete with
// each other by the sum of what their containers ask for.
func (p *pod) share(t *tree, container string, shares int64) error {
	if shares <= 0 {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.shares[container] = shares
	return p.weighLocked(t)
}

func (p *pod) weighLocked(t *tree) error {
	var sum int64
	for _, n := range p.shares {
		sum += n
	}
	return p.setLocked(t, cpu, p.dir(t), []setting{cpuShare(t, max(sum, minShares))})
}

// minShares is the least that version 1 knows, and what a kubelet gives to pods
// that ask for nothing.
const minShares = 2
