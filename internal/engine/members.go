package engine

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/sampan-batch/sampan/internal/agent"
	"github.com/sampan-batch/sampan/internal/agent/node"
	"github.com/sampan-batch/sampan/internal/kind"
	"github.com/sampan-batch/sampan/internal/runner"
	"github.com/sampan-batch/sampan/internal/runner/supervisor"
	"github.com/sampan-batch/sampan/internal/server"
)

// MaxNodes is how many nodes one machine may be: each has a process of its own, at least.
const MaxNodes = 100

// NumberedNodes returns n nodes called first, first-2, first-3 and so on.
func NumberedNodes(first string, n int) []*corev1.Node {
	const longest = 59 // a name is a label's value too
	all := make([]*corev1.Node, n)
	for i := range all {
		all[i] = &corev1.Node{}
		all[i].Name = first
		if i > 0 {
			all[i].Name = fmt.Sprintf("%s-%d", first[:min(len(first), longest)], i+1)
		}
	}
	return all
}

// completeNodes gives the nodes what the configuration leaves open: each an equal share of the
// machine, the labels of a node of this machine, and the first the role of the control plane,
// unless somebody has said which roles there are.
func (c *Config) completeNodes() error {
	if len(c.Nodes) == 0 {
		c.Nodes = NumberedNodes(c.NodeName, 1)
	}
	whole, err := node.Capacity(c.DataDir, c.MaxPods)
	if err != nil {
		return err
	}
	given := slices.ContainsFunc(c.Nodes, func(n *corev1.Node) bool {
		return slices.ContainsFunc(slices.Collect(maps.Keys(n.Labels)), node.IsRole)
	})
	for i, n := range c.Nodes {
		n = n.DeepCopy()
		c.Nodes[i] = n
		labels := node.Object(n.Name).Labels
		if given || i > 0 {
			maps.DeleteFunc(labels, func(key, _ string) bool { return node.IsRole(key) })
		}
		if n.Labels == nil {
			n.Labels = map[string]string{}
		}
		maps.Copy(n.Labels, labels)
		capacity := share(whole, int64(len(c.Nodes)))
		maps.Copy(capacity, n.Status.Capacity)
		allocatable := maps.Clone(capacity)
		maps.Copy(allocatable, n.Status.Allocatable)
		n.Status.Capacity, n.Status.Allocatable = capacity, allocatable
	}
	return nil
}

// share is one of n equal parts of what the machine has.
func share(whole corev1.ResourceList, n int64) corev1.ResourceList {
	if n == 1 {
		return whole
	}
	part := corev1.ResourceList{}
	for name, q := range whole {
		if name == corev1.ResourceCPU {
			part[name] = *resource.NewMilliQuantity(q.MilliValue()/n, q.Format)
		} else {
			part[name] = *resource.NewQuantity(max(q.Value()/n, 1), q.Format)
		}
	}
	return part
}

// memberDir is the directory of a node.
func (c *Config) memberDir(name string) string {
	if name == c.NodeName {
		return c.DataDir
	}
	return filepath.Join(c.DataDir, nodesDir, name)
}

// neighbours are the nodes of this engine, for each other.
func (e *Engine) neighbours() *supervisor.Neighbours {
	var dirs []string
	for _, n := range e.config.Nodes {
		dirs = append(dirs, filepath.Join(e.config.memberDir(n.Name), "run"))
	}
	return supervisor.NewNeighbours(dirs...)
}

// newMember makes a node, which does not work yet, and the client of its supervisors.
func (e *Engine) newMember(object *corev1.Node, neighbours *supervisor.Neighbours) (*member, error) {
	c := &e.config
	dir := c.memberDir(object.Name)
	if dir != c.DataDir {
		var err error
		if dir, err = newKeeper(c.Logger).dir(dir); err != nil {
			return nil, fmt.Errorf("directory of node %s: %w", object.Name, err)
		}
	}
	m := &member{name: object.Name, dir: dir, object: object, class: c.Runtime, failed: make(chan error, 1)}
	m.connect = func() (*supervisor.Client, error) {
		return supervisor.New(filepath.Join(dir, "run"), supervisor.ClientOptions{
			Private: c.Private, Log: c.Logger,
			Pods: podRange(object), Cluster: c.network().Cluster, Machine: c.PodRoutes, IPv6: c.ipv6, Neighbours: neighbours,
		})
	}
	m.health = e.health.addNode(object.Name, m.runners)
	var err error
	m.runner, err = m.connect()
	return m, err
}

// employ gives each node its agent.
func (e *Engine) employ(kinds *kind.Kinds) error {
	images := newNodeImages(e.images, e.config.Private)
	for _, m := range e.nodes {
		m.employ = func(m *member, client *supervisor.Client) (*agent.Agent, error) {
			return e.newAgent(kinds, m, client, images)
		}
		var err error
		if m.agent, err = m.employ(m, m.runner); err != nil {
			return err
		}
	}
	return nil
}

// newAgent makes the agent of a node.
func (e *Engine) newAgent(kinds *kind.Kinds, m *member, client *supervisor.Client, images *nodeImages) (*agent.Agent, error) {
	c := &e.config
	api := &nodeClient{
		node: m.name, alone: len(e.nodes) == 1,
		store: e.store, kinds: kinds, recorder: e.recorder, tokens: e.server,
	}
	own := addresses()
	self, err := node.New(node.Config{
		Name: m.name, Object: m.object, Capacity: m.object.Status.Capacity, Allocatable: m.object.Status.Allocatable, Addresses: own, Version: server.KubernetesVersion(c.Version),
		LeasePeriod: min(c.NodeMonitorGrace/5, 10*time.Second),
		Health:      m.health, API: api, Log: c.Logger,
	})
	if err != nil {
		return nil, err
	}
	return agent.New(agent.Options{
		Node: self, Dir: m.dir, Class: c.Runtime, Log: c.Logger,
		Addresses: own, NodePorts: c.NodePortAddresses, HostEnv: hostEnv(), Client: api, Images: images,
		Runners: map[runner.Class]runner.Runner{runner.Sandbox: client, runner.Host: client},
		API:     e.server.Endpoint(), Hosts: e.hosts(),
		PodPids: max(c.PodPids, 0), UserNamespace: os.Geteuid() != 0,
		Machine: e.machine(), Eviction: c.eviction,
		HandLog: c.HandLog, HandLogTimes: c.HandLogTimes,
	})
}

// runNodes are the nodes as parts of a stage.
func (e *Engine) runNodes() []func(context.Context) error {
	var all []func(context.Context) error
	for _, m := range e.nodes {
		all = append(all, m.Run)
	}
	return all
}

// Nodes implements server.Machine.
func (e *Engine) Nodes() []server.MachineNode {
	var all []server.MachineNode
	for _, m := range e.nodes {
		all = append(all, server.MachineNode{Name: m.name, State: string(m.State()), Directory: m.dir})
	}
	return all
}

// Switch implements server.Machine.
func (e *Engine) Switch(ctx context.Context, name, what string) error {
	i := slices.IndexFunc(e.nodes, func(m *member) bool { return m.name == name })
	if i < 0 {
		return server.ErrNoNode
	}
	m := e.nodes[i]
	switch what {
	case "start":
		return m.Start(ctx)
	case "stop":
		return m.Stop()
	case "kill":
		return m.Kill()
	}
	return server.ErrNoSwitch
}

// homes returns the directories in dir in which nodes have, or had, their supervisors.
func homes(dir string) ([]string, error) {
	all := []string{dir}
	entries, err := os.ReadDir(filepath.Join(dir, nodesDir))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return all, err
	}
	for _, e := range entries {
		if e.IsDir() {
			all = append(all, filepath.Join(dir, nodesDir, e.Name()))
		}
	}
	return all, nil
}

// formerGrace is how long the pods of a former node may take to end.
const formerGrace = 30 * time.Second

// endFormer ends what is left of nodes that this machine has no more: nobody would ever look
// after their pods again, which others may have replaced.
func (e *Engine) endFormer(ctx context.Context) error {
	all, err := homes(e.config.DataDir)
	if err != nil {
		return err
	}
	for _, dir := range all {
		if slices.ContainsFunc(e.nodes, func(m *member) bool { return m.dir == dir }) || len(supervisedIn(dir)) == 0 {
			continue
		}
		client, err := supervisor.Open(ctx, filepath.Join(dir, "run"), supervisor.ClientOptions{Log: e.config.Logger, Running: true})
		if err != nil {
			return err
		}
		ended, err := endPods(ctx, client, formerGrace)
		if err := errors.Join(err, client.Stop(ctx)); err != nil {
			return err
		}
		e.config.Logger.Warn("ended the containers of a node that this engine does not have", "path", dir, "count", ended)
	}
	return nil
}
