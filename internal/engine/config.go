package engine

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"

	"github.com/sampan-batch/sampan/internal/agent/eviction"
	"github.com/sampan-batch/sampan/internal/agent/node"
	"github.com/sampan-batch/sampan/internal/image"
	"github.com/sampan-batch/sampan/internal/network"
	"github.com/sampan-batch/sampan/internal/runner"
	"github.com/sampan-batch/sampan/internal/server"
)

// Config is everything that an engine can be told. Default gives what a user
// expects; New checks it before anything is opened.
type Config struct {
	// DataDir keeps everything; it is created with mode 0700. One that is not the
	// user's alone is refused (see keeper).
	DataDir string
	// ImageDir keeps the images; "" means DataDir/images, or, for a private
	// engine, the images of the default data directory.
	ImageDir string
	// Listen is the API's address; port 0 picks one.
	Listen string
	// Kubeconfig is where the administrator's kubeconfig is written, with mode
	// 0600; "" means DataDir/kubeconfig.
	Kubeconfig string
	// TokenFile has users and their tokens, as kube-apiserver reads it (--token-auth-file); "": none.
	TokenFile string
	// Runtime is the class of containers whose pod names none.
	Runtime runner.Class
	// NodeName is the Node's name; "" means the host's.
	NodeName string
	// Nodes are the nodes that this machine is, with the name, labels, annotations, taints and
	// capacity that each registers with; none: one, called NodeName, which has all of the machine.
	// What a node leaves open is an equal share.
	Nodes []*corev1.Node
	// AutomountDefaultToken makes the account "default" of a new namespace one whose token is mounted into
	// pods, as in Kubernetes.
	AutomountDefaultToken bool
	// NodeMonitorGrace is how long a node may be silent before nobody knows how it is; 0:
	// kube-controller-manager's 50 s. A node says five times in it that it lives.
	NodeMonitorGrace time.Duration
	// MaxPods is how many pods may run at a time, at most: as many as there may be files open for.
	MaxPods int64
	// PodPids is how many processes and threads a pod may have; 0 means
	// DefaultPodPids, a negative number: as many as the machine has.
	PodPids int64
	// EvictionHard and EvictionMinimumReclaim say when what the machine has left
	// is too little, as a kubelet's flags of that name do; "" means
	// eviction.Defaults, and nothing more.
	EvictionHard, EvictionMinimumReclaim string
	// NodePortAddresses says where node ports are, as kube-proxy's flag of that name does; "" means the
	// machine's loopback address.
	NodePortAddresses string
	// PodRoutes has this machine reach pods and Services by their addresses, which takes rights over its
	// network. It holds for nodes whose supervisors are started.
	PodRoutes bool
	// IPFamily is IPv4Only or DualStack, which is to have pods and Services with addresses of IPv6 beside those of
	// IPv4; "" means DualStack where the machine has IPv6.
	IPFamily string
	// PressureTransition is how long the node says that it had too little after it
	// has enough; 0 means a kubelet's five minutes.
	PressureTransition time.Duration
	// StoreQuota is how many bytes the store may hold until nothing new is taken; 0 means a sixteenth
	// of the machine's memory, a negative number any.
	StoreQuota int64
	// Private: pods end with this process, as `sampan run` wants it.
	Private bool
	// Volatile: the data directory is removed when the engine has ended, so that nothing
	// waits until the disk has it.
	Volatile bool
	// Supervised: a service manager starts the engine again when it fails (see
	// Supervised).
	Supervised bool
	// HandLog, if set, is handed the log of every container that is started, and
	// must not block. The files stay until it is read, or closed. restarts is the
	// container's restartCount.
	HandLog func(pod *corev1.Pod, container string, restarts int, log io.ReadCloser)
	// HandLogTimes puts the time in front of each line of these logs.
	HandLogTimes bool
	// Command names this engine to whoever finds the directory in use.
	Command string
	Version string
	Logger  *slog.Logger

	eviction eviction.Config
	ipv6     bool
}

// What Config.IPFamily may be, in kind's words.
const (
	IPv4Only  = "ipv4"
	DualStack = "dual"
)

// DefaultMaxPods is far above Kubernetes' 110, which is about a machine's
// network and kubelet, neither of which is here.
const DefaultMaxPods = 10000

// DefaultNodeMonitorGrace is kube-controller-manager's.
const DefaultNodeMonitorGrace = 50 * time.Second

// DefaultPodPids is OpenShift's. A kubelet sets no limit: there, a node that is
// out of processes is nobody's machine.
const DefaultPodPids = 4096

// DefaultEvictionHard is what EvictionHard is when it is "", for people.
const DefaultEvictionHard = "memory.available<100Mi, nodefs.available<10% or 1Gi, nodefs.inodesFree<5% or 50k, " +
	"imagefs.available<15% or 1Gi, imagefs.inodesFree<5% or 50k, pid.available<5% or 500, whichever is less"

// Default returns the configuration of `sampan serve` without flags.
func Default() Config {
	return Config{
		DataDir: defaultDataDir(),
		Listen:  server.DefaultListen,
		Runtime: runner.Sandbox,
		MaxPods: DefaultMaxPods,
		PodPids: DefaultPodPids,
		Logger:  slog.New(slog.DiscardHandler),
	}
}

// defaultDataDir follows the Filesystem Hierarchy Standard for root, and the
// XDG base directories for a user. Without a home its name can be guessed, and
// taken by another user, so that the engine then refuses it.
func defaultDataDir() string {
	if os.Geteuid() == 0 {
		return "/var/lib/sampan"
	}
	if dir := os.Getenv("XDG_DATA_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "sampan")
	}
	if home, err := os.UserHomeDir(); err == nil {
		return filepath.Join(home, ".local", "share", "sampan")
	}
	return filepath.Join(os.TempDir(), fmt.Sprintf("sampan-%d", os.Getuid()))
}

// OpenImages opens the images of a data directory, which it makes where there is
// none. log is told of modes that were repaired.
func OpenImages(dataDir string, log *slog.Logger) (*image.Store, error) {
	dir, err := newKeeper(log).dir(filepath.Join(dataDir, "images"))
	if err != nil {
		return nil, fmt.Errorf("image directory: %w", err)
	}
	return image.Open(dir)
}

// imageStore returns how the images are opened: once, when somebody wants one. An engine that
// starts plain processes only needs no place for images, and may have none.
func (c *Config) imageStore() func() (*image.Store, error) {
	dir, log := c.ImageDir, c.Logger
	return sync.OnceValues(func() (*image.Store, error) {
		real, err := newKeeper(log).dir(dir)
		if err != nil {
			return nil, fmt.Errorf("image directory: %w", err)
		}
		return image.Open(real)
	})
}

// imageless: an engine of this configuration may never need an image. It is private, so that the
// images are not its own, and its pods are processes of the machine unless they say otherwise.
func (c *Config) imageless() bool { return c.Private && c.Runtime == runner.Host }

// complete fills in what was left open, and refuses what cannot work.
func (c *Config) complete() error {
	if c.DataDir == "" {
		return errors.New("no data directory")
	}
	var err error
	if c.DataDir, err = filepath.Abs(c.DataDir); err != nil {
		return err
	}
	if _, _, err := net.SplitHostPort(c.Listen); err != nil {
		return fmt.Errorf("listen address %q: want HOST:PORT", c.Listen)
	}
	if c.ImageDir == "" {
		base := c.DataDir
		if c.Private {
			base = defaultDataDir()
		}
		c.ImageDir = filepath.Join(base, "images")
	}
	if c.Kubeconfig == "" {
		c.Kubeconfig = filepath.Join(c.DataDir, "kubeconfig")
	}
	if err := c.completeName(); err != nil {
		return err
	}
	if err := c.completeFamily(); err != nil {
		return err
	}
	if len(c.Nodes) > MaxNodes {
		return fmt.Errorf("%d nodes: at most %d can be on one machine", len(c.Nodes), MaxNodes)
	}
	switch {
	case c.MaxPods == 0:
		c.MaxPods = DefaultMaxPods
	case c.MaxPods < 0:
		return fmt.Errorf("max pods %d: want a positive number", c.MaxPods)
	}
	c.MaxPods = min(c.MaxPods, podsWith(limitOf(unix.RLIMIT_NOFILE), c.Runtime)*int64(max(1, len(c.Nodes))))
	if c.PodPids == 0 {
		c.PodPids = DefaultPodPids
	}
	switch {
	case c.NodeMonitorGrace == 0:
		c.NodeMonitorGrace = DefaultNodeMonitorGrace
	case c.NodeMonitorGrace < time.Second:
		return fmt.Errorf("node monitor grace period %s: want at least a second", c.NodeMonitorGrace)
	}
	if err := c.completeEviction(); err != nil {
		return err
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return nil
}

// completeName gives the node the machine's name, if it has none.
func (c *Config) completeName() error {
	if c.NodeName != "" {
		return nil
	}
	host, err := os.Hostname()
	if err != nil {
		return err
	}
	c.NodeName = node.NameOf(host)
	return nil
}

// completeFamily says whether there is IPv6.
func (c *Config) completeFamily() error {
	c.ipv6 = c.HasIPv6()
	switch {
	case c.IPFamily != "" && c.IPFamily != IPv4Only && c.IPFamily != DualStack:
		return fmt.Errorf("IP family %q: want %q or %q", c.IPFamily, IPv4Only, DualStack)
	case c.IPFamily == DualStack && !c.ipv6:
		return fmt.Errorf("IP family %q: this machine has no IPv6", c.IPFamily)
	}
	return nil
}

// HasIPv6 tells whether pods and Services get addresses of IPv6, too.
func (c *Config) HasIPv6() bool {
	return c.IPFamily != IPv4Only && network.HasIPv6()
}

// network is what all nodes' networks have in common.
func (c *Config) network() network.Config {
	n := network.DefaultConfig()
	n.IPv6 = c.ipv6
	return n
}

// SetNodes sets the nodes to those that list returns; first is the name of this machine's node,
// where nothing is said of nodes.
func (c *Config) SetNodes(list func(first string) ([]*corev1.Node, error)) error {
	if err := c.completeName(); err != nil {
		return err
	}
	nodes, err := list(c.NodeName)
	if err == nil {
		c.Nodes = nodes
	}
	return err
}

// completeEviction reads what the configuration says about thresholds.
func (c *Config) completeEviction() (err error) {
	c.eviction.Transition = c.PressureTransition
	switch {
	case c.PressureTransition < 0:
		return fmt.Errorf("pressure transition period %s: want a positive duration", c.PressureTransition)
	case c.PressureTransition == 0:
		c.eviction.Transition = eviction.DefaultTransition
	}
	if c.EvictionHard == "" {
		c.eviction.Thresholds, err = eviction.WithReclaim(c.EvictionMinimumReclaim)
	} else {
		c.eviction.Thresholds, err = eviction.Parse(c.EvictionHard, c.EvictionMinimumReclaim)
	}
	if err != nil {
		return fmt.Errorf("eviction: %w", err)
	}
	if c.Private && c.EvictionHard == "" {
		// The images are the user's, and the pods write to another place.
		c.eviction.Thresholds = slices.DeleteFunc(c.eviction.Thresholds, func(t eviction.Threshold) bool {
			return t.Signal == eviction.ImagefsAvailable || t.Signal == eviction.ImagefsInodesFree
		})
	}
	return nil
}

// RouteLibraryLogs sends what the Kubernetes libraries log to log. That is a
// setting of the whole process: once, before anything else.
func RouteLibraryLogs(log *slog.Logger) { server.RouteKlog(log) }
