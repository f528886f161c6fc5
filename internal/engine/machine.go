package engine

import (
	"cmp"
	"context"
	"net"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/sampan-batch/sampan/internal/agent/node"
	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/kind"
	"github.com/sampan-batch/sampan/internal/store"
)

// addresses are the machine's addresses, the one that others would use first:
// global before loopback, IPv4 before IPv6. Pods share them.
func addresses() []string {
	var global4, global6 []string
	interfaces, _ := net.Interfaces()
	for _, i := range interfaces {
		if i.Flags&net.FlagUp == 0 || i.Flags&net.FlagLoopback != 0 {
			continue
		}
		addrs, err := i.Addrs()
		if err != nil {
			continue
		}
		for _, a := range addrs {
			ip, _, err := net.ParseCIDR(a.String())
			switch {
			case err != nil || !ip.IsGlobalUnicast():
			case ip.To4() != nil:
				global4 = append(global4, ip.String())
			default:
				global6 = append(global6, ip.String())
			}
		}
	}
	// A pod has at most one address of each family.
	var all []string
	for _, family := range [][]string{global4, global6} {
		if len(family) > 0 {
			all = append(all, family[0])
		}
	}
	if len(all) == 0 {
		return []string{"127.0.0.1"}
	}
	return all
}

// storeReserve is how much of the disk is the store's before it needs it: enough
// for the ends of ten thousand pods, and of a small disk little, but enough to
// delete objects of a megabyte. What a private engine stores, nobody reads once its
// disk is full.
func (c *Config) storeReserve() int64 {
	const most, part, least, largest = 32 << 20, 64, 8 << 20, 8
	var fs unix.Statfs_t
	if err := unix.Statfs(c.DataDir, &fs); err != nil || c.Private {
		return 0
	}
	size := int64(fs.Blocks) * fs.Bsize
	return min(most, max(size/part, min(least, size/largest)))
}

// storeQuota is how large the store may become. Its objects are in memory, where they take some eight
// times as much: they get half of it, as long as nobody says otherwise.
func (c *Config) storeQuota() int64 {
	const least, largest = 128 << 20, 8 << 30
	var info unix.Sysinfo_t
	if c.StoreQuota != 0 || unix.Sysinfo(&info) != nil {
		return max(c.StoreQuota, 0)
	}
	return min(max(int64(info.Totalram)*int64(info.Unit)/16, least), largest)
}

// hostEnv is what a process of the host class finds in its environment besides
// what its manifest says: enough to find programs and a home, nothing secret.
func hostEnv() []string {
	var env []string
	for _, name := range []string{"PATH", "HOME", "USER", "LOGNAME", "LANG", "TZ", "TMPDIR"} {
		if value, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+value)
		}
	}
	return env
}

// awaitNode returns when the node is ready to be given pods, or ctx has ended.
func awaitNode(ctx context.Context, s *store.Store, name string) error {
	view := s.View()
	w, err := s.Watch(kind.Nodes, view.Rev())
	if err != nil {
		return err
	}
	obj, ok := view.Get(kind.Nodes.Key("", name))
	for !ok || !isReady(obj) {
		events, _, err := w.Next(ctx)
		if err != nil {
			return err
		}
		for _, ev := range events {
			if ev.Key.Name == name {
				obj, ok = ev.Object, ev.Op != change.Delete
			}
		}
	}
	return nil
}

// lastRenewal is when the node of this name was last known to live; zero if that is
// not known.
func lastRenewal(s *store.Store, node string) time.Time {
	obj, ok := s.View().Get(kind.Leases.Key(corev1.NamespaceNodeLease, node))
	if !ok {
		return time.Time{}
	}
	if at := obj.(*coordinationv1.Lease).Spec.RenewTime; at != nil {
		return at.Time
	}
	return time.Time{}
}

func isReady(obj change.Object) bool {
	for _, c := range obj.(*corev1.Node).Status.Conditions {
		if c.Type == corev1.NodeReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

// Node returns this machine as the node that an engine of this configuration is: its
// name, its labels, and what it has to give. Nothing is opened for that.
func Node(config Config) (*corev1.Node, error) {
	config.DataDir = cmp.Or(config.DataDir, os.TempDir())
	if err := config.complete(); err != nil {
		return nil, err
	}
	dir := config.DataDir
	for !exists(dir) && dir != "/" { // it is made when the engine starts
		dir = filepath.Dir(dir)
	}
	capacity, err := node.Capacity(dir, config.MaxPods)
	if err != nil {
		return nil, err
	}
	object := node.Object(config.NodeName)
	object.Status.Capacity, object.Status.Allocatable = capacity, capacity
	return object, nil
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}
