package runner

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"

	"github.com/sampan-batch/sampan/internal/network"
	"github.com/sampan-batch/sampan/internal/runner/reap"
)

// Launcher starts containers' processes inside the supervisor process; host
// and sandbox implement it. All methods are safe for concurrent use.
//
// Two rules come from the supervisor's being a Go process with many threads.
// Every child is started through the Reaper of the LauncherEnv: the supervisor
// is a subreaper and collects children that nobody owns. And a thread that
// has started a child must not end before it (a goroutine must not return
// while locked to it), because a child's parent-death signal is bound to the
// thread.
type Launcher interface {
	// Launch starts the container's first process with the given standard
	// streams, which stay the caller's to close, and returns once execve has
	// succeeded. A nil stream is /dev/null. With Spec.TTY they are all nil: the
	// process gets a terminal, see Process.Terminal.
	// An error that the container's command, user or files are the cause of is a
	// *StartError; whatever was made for the container is then gone again. When ctx
	// ends before, the start is given up. A start may take as long as what it meets
	// on the container's files lets it; it holds up no other call.
	Launch(ctx context.Context, spec *Spec, stdin, stdout, stderr *os.File) (Process, error)
	// SetVolume is Runner.SetVolume.
	SetVolume(v *Volume) error
	// ReadVolume is Runner.ReadVolume.
	ReadVolume(f *VolumeFile) ([]byte, error)
	// Usage is Runner.Usage; containers are those of the pod.
	Usage(podUID string, containers []*Spec) (PodUsage, error)
	// Pods returns the uids of the pods that a former supervisor has left volumes
	// of.
	Pods() ([]string, error)
	// ReleasePod releases what the pod's containers shared but for its volumes on
	// disk, which a later supervisor finds. All containers have been released; a
	// pod that is not known is no error.
	ReleasePod(podUID string) error
	// RemovePod does that, and removes the volumes too.
	RemovePod(podUID string) error
	// Recover is called once, before anything else, with the containers that
	// a former supervisor had when it died: it ends what still runs of them,
	// whatever its state, and releases what they held. Of their Specs only ID,
	// Class, Pod, Container and Attempt are known.
	Recover(lost []*Spec) error
	// Dial is Runner.Dial. The pod has a container that runs.
	Dial(ctx context.Context, to Target) (net.Conn, error)
	// Join is Runner.Join.
	Join(podUID string) (Joined, error)
	// SetServices is Runner.SetServices.
	SetServices(list []network.Service) error
	// SetPolicies is Runner.SetPolicies.
	SetPolicies(p *network.Policies) error
	// Names returns the sockets of Runner.Names as files, which are the caller's: a UDP one,
	// and a TCP one that listens.
	Names() (udp, tcp *os.File, err error)
	// Hub returns a descriptor of what connects this node's network to those of others of the
	// machine, which is the caller's.
	Hub() (*os.File, error)
	// Finish is called last. It returns when the files that Release and RemovePod
	// have left to be removed are, or when ctx ends. The error says what remains.
	Finish(ctx context.Context) error
}

// Process is a container's first process, or one that Exec added to it.
type Process interface {
	// PID is the process's id as the supervisor sees it.
	PID() int
	// Wait returns when the process has ended. For a first process, every other
	// process of the container has been killed by then, so that nobody is left
	// who could write to its streams. It is called once.
	Wait() (ExitInfo, error)
	// Signal sends a signal to the process; SIGKILL ends every process of the
	// container (for one from Exec: every process of its session). It is
	// os.ErrProcessDone when the process has ended.
	Signal(sig int) error
	// Exec starts a further process inside the container, as its user, with its
	// environment and under the same restrictions. The streams stay the caller's.
	// Like Launch it ends with ctx, but once it has returned, ctx means nothing. With
	// ExecSpec.TTY the streams are nil, as in Launch. It is os.ErrProcessDone when the
	// container has ended. WaitDelay is the caller's affair.
	Exec(ctx context.Context, spec ExecSpec, stdin, stdout, stderr *os.File) (Process, error)
	// Terminal is this side's end of the terminal that the process was started with,
	// in the runtime's poller, and the caller's to close; nil without one.
	Terminal() *os.File
	// Release gives back what an ended container held: mounts, cgroup, writable
	// layer. It is called once, after Wait, and on first processes only.
	Release() error
	// LimitsIgnored says why resource limits could not be enforced, or "".
	LimitsIgnored() string
	// Resize is as in Runner; os.ErrProcessDone when the container has ended.
	Resize(r Resources) (ignored string, err error)
}

// ExitInfo is how a process ended.
type ExitInfo struct {
	Code      int // the exit code; 128+n when ended by signal n
	Signal    int // the signal that ended it, or 0
	OOMKilled bool
}

// LauncherEnv is what a Launcher finds around itself. A supervisor keeps the
// containers of one class and has one Launcher.
type LauncherEnv struct {
	// Dir is a directory of the Launcher's own, on disk; it exists, mode 0700.
	// It outlives the supervisor.
	Dir    string
	Reaper *reap.Reaper
	Log    *slog.Logger
	// NoNamespaces says why the supervisor of an ordinary user could not be put
	// into a user namespace of its own, and what would help; "" when it was, or
	// when it runs as root. The supervisor of the sandbox class also has a
	// mount namespace of its own, from which nothing propagates.
	NoNamespaces string
	// Pods, Cluster, Hub, Machine and IPv6 are those of network.Config; without, it is the only node.
	Pods, Cluster netip.Prefix
	Hub           *os.File
	Machine, IPv6 bool
}

// What a manifest or an image may make a launcher put together. Both can say megabytes,
// and each directory of a path, or of $PATH, takes all that is before it, or behind it,
// once more.
const (
	// MaxPath is the kernel's PATH_MAX: what has as many bytes is no path.
	MaxPath = 4096
	// MaxSearched is in how many directories of $PATH a command is looked for.
	MaxSearched = 512
)

// ExitFromWait puts a wait status into Kubernetes' terms.
func ExitFromWait(ws reap.Status) ExitInfo {
	if ws.Signaled() {
		return ExitInfo{Code: 128 + int(ws.Signal()), Signal: int(ws.Signal())}
	}
	return ExitInfo{Code: ws.ExitStatus()}
}

// MachineNetwork is what a Launcher has of a network whose containers share the machine's.
type MachineNetwork struct{}

var errMachineNetwork = fmt.Errorf("pods of this class share the machine's network: %w", errors.ErrUnsupported)

// Dial implements Launcher.
func (MachineNetwork) Dial(ctx context.Context, to Target) (net.Conn, error) {
	return DialMachine(ctx, to.Port)
}

// Join implements Launcher.
func (MachineNetwork) Join(string) (Joined, error) { return Joined{}, errMachineNetwork }

// SetServices implements Launcher.
func (MachineNetwork) SetServices([]network.Service) error { return errMachineNetwork }

// SetPolicies implements Launcher.
func (MachineNetwork) SetPolicies(*network.Policies) error { return errMachineNetwork }

// Names implements Launcher.
func (MachineNetwork) Names() (udp, tcp *os.File, err error) { return nil, nil, errMachineNetwork }

// Hub implements Launcher.
func (MachineNetwork) Hub() (*os.File, error) { return nil, errMachineNetwork }

// DialMachine connects to a port of this machine as "localhost", which is where pods
// are that share its network.
func DialMachine(ctx context.Context, port uint16) (net.Conn, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp4", fmt.Sprintf("127.0.0.1:%d", port))
	if err == nil {
		return conn, nil
	}
	conn, err6 := d.DialContext(ctx, "tcp6", fmt.Sprintf("[::1]:%d", port))
	if err6 == nil {
		return conn, nil
	}
	return nil, fmt.Errorf("failed to connect to localhost:%d: %w, %w", port, err, err6)
}
