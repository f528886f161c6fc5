// Package runner is the contract between the node and whatever starts
// processes: a container is started from a Spec, outlives the engine, can be
// found again, waited for, signalled, entered and removed.
//
// The implementations are sandbox (an isolated root file system and
// namespaces), host (a plain process of this machine) and fake (scripted).
// sandbox and host live in the supervisor, a process of its own that is the
// parent of every container; see package supervisor.
package runner

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"time"

	"github.com/sampan-batch/sampan/internal/network"
	"github.com/sampan-batch/sampan/internal/stdio"
)

// Runner starts and keeps containers. All methods are safe for concurrent use.
type Runner interface {
	// Start starts the container and returns once its process runs, or with the
	// reason why it could not. A *StartError tells what Kubernetes calls it.
	// The ID must be new.
	Start(ctx context.Context, spec *Spec) (Status, error)
	// List returns every container that was started and not removed, those
	// included that a former engine started.
	List(ctx context.Context) ([]Status, error)
	// Wait returns when the container's first process has ended and all that it
	// wrote is in the log file; at once when that was long ago.
	Wait(ctx context.Context, id string) (Status, error)
	// Losses tells, until ctx ends, of containers that have lost output
	// (Status.OutputLost) whenever one has lost more. What happens within a second
	// is told at once, and each loss to one of those who ask.
	Losses(ctx context.Context, tell func(Status))
	// Signal sends a signal to the container's first process; SIGKILL ends
	// every process of the container. It returns ErrEnded when that is over.
	Signal(ctx context.Context, id string, signal int) error
	// Resize changes what a container that runs may use: the whole of it, not what is
	// different. ignored says why something of it cannot be enforced. It returns ErrEnded
	// when the container is over, and changes nothing when it returns an error.
	Resize(ctx context.Context, id string, r Resources) (ignored string, err error)
	// Exec runs a command inside the container with the streams, and returns how it
	// ended. It returns a *StartError when the command could not be executed, ErrEnded
	// when the container is not running. When ctx ends, or this engine dies, the
	// command is killed with all that is in its session, and the error is the cause
	// of ctx. See ExecOutput for commands of which a line or two is wanted.
	Exec(ctx context.Context, id string, cmd ExecSpec, streams stdio.Streams) (ExitInfo, error)
	// Attach connects the streams to those of the container's first process, and
	// returns nil when that has ended and all that it wrote from now on has been
	// handed over. It returns ErrEnded when the container is not running, the cause of
	// ctx when that ends, and ErrSlow when the streams' writers are so slow that too
	// much is waiting for them: the container and its log wait for nobody.
	//
	// A container that was started without Spec.Stdin or Spec.TTY has no input, and
	// the streams' is not read. When the streams' input ends, so does that of a
	// container with Spec.StdinOnce and without Spec.TTY, as when ctx ends; of others
	// Attach lets go, and returns nil.
	Attach(ctx context.Context, id string, streams stdio.Streams) error
	// Dial connects to a TCP port of a pod. It returns ErrNotFound when no container of
	// the pod runs.
	Dial(ctx context.Context, to Target) (net.Conn, error)
	// Join returns where a pod is in the network that this runner has for pods, and
	// gives it an address if it has none. It is called before the first Start of a container with
	// Spec.PodNetwork, and again when Start returns ErrNoNetwork; RemovePod takes the address
	// back. The error is an errors.ErrUnsupported, and says why, where pods share the
	// machine's network.
	Join(ctx context.Context, podUID string) (Joined, error)
	// SetServices makes the Services that pods reach in that network those of the list.
	// With the supervisor they are lost.
	SetServices(ctx context.Context, list []network.Service) error
	// SetPolicies says what pods may exchange with whom: a pod that the policies do not name is
	// open to all.
	SetPolicies(ctx context.Context, p *network.Policies) error
	// Names returns sockets at which the pods in that network ask for names: they are
	// sent to network.Config.Names. They are the caller's.
	Names(ctx context.Context) (net.PacketConn, net.Listener, error)
	// Remove forgets an ended container and removes its writable layer. Its log
	// file stays; that is the agent's to remove.
	Remove(ctx context.Context, id string) error
	// SetVolume makes a volume of a pod, or brings the files of one that exists
	// up to date. It is called before the first Start of a container that mounts
	// the volume, and again when Start returns ErrNoVolume.
	SetVolume(ctx context.Context, v *Volume) error
	// ReadVolume returns what is in a regular file of a volume that SetVolume has made:
	// links lead to what is in the volume, as for who has it as its root. A file that is
	// not there is fs.ErrNotExist, a volume ErrNoVolume. More than MaxVolumeFile is an
	// error.
	ReadVolume(ctx context.Context, f *VolumeFile) ([]byte, error)
	// Usage measures what a pod's containers, ended ones included, and its volumes
	// take of the disk. That can take long; it delays nothing else. A pod that is
	// not known takes nothing.
	Usage(ctx context.Context, podUID string) (PodUsage, error)
	// Pods returns the uids of the pods that RemovePod is due for: those that had
	// a container or a volume, former engines' included.
	Pods(ctx context.Context) ([]string, error)
	// RemovePod releases what the containers of a pod shared, and removes its
	// volumes. None of its containers is left, and SetVolume is not called for it
	// again.
	RemovePod(ctx context.Context, podUID string) error
}

var (
	// ErrNotFound: no such container.
	ErrNotFound = errors.New("runner: no such container")
	// ErrExists: Start was given the ID of a container that exists.
	ErrExists = errors.New("runner: container exists already")
	// ErrRunning: Remove was asked to remove a container that has not ended.
	ErrRunning = errors.New("runner: container is running")
	// ErrEnded: Signal, Exec or Attach was asked of a container that has ended.
	ErrEnded = errors.New("runner: container has ended")
	// ErrSlow: Attach could not hand over what the container wrote.
	ErrSlow = errors.New("runner: the output was not taken as fast as the container wrote it")
	// ErrBusy: so many streams are open that no more are taken.
	ErrBusy = errors.New("runner: too many streams are open")
	// ErrNoVolume: Start was given a mount of a volume that SetVolume has not made,
	// or that was lost with a supervisor.
	ErrNoVolume = errors.New("runner: no such volume")
	// ErrNoNetwork: Start was given Spec.PodNetwork for a pod that Join has not been
	// called for, or whose network was lost with a supervisor.
	ErrNoNetwork = errors.New("runner: the pod has no network")
	// ErrRemains: all has ended, but files of containers could not be removed.
	// They have been set aside, and that is tried again.
	ErrRemains = errors.New("files of containers remain")
)

// StartError says why a container could not be started, in Kubernetes' words.
type StartError struct {
	// Reason is the waiting or terminated reason: "RunContainerError",
	// "CreateContainerError", "CreateContainerConfigError", "StartError".
	Reason string
	// Code is the exit code that Kubernetes (with containerd) reports for a
	// command that could not be executed, 128, or 0 when the container never
	// existed.
	Code int
	// Message is for people: it names the command or the path.
	Message string
}

func (e *StartError) Error() string { return e.Message }

// Joined is where a pod is.
type Joined struct {
	Address netip.Addr
	// IPv6 is its address of IPv6, which is not valid if it has none.
	IPv6 netip.Addr `json:",omitzero"`
	// Network says which network it is in: another, without Services, after the supervisor has
	// died.
	Network uint64
	// Unreached says why this machine does not reach the pods of that network by their
	// addresses, if it was to.
	Unreached string `json:",omitempty"`
}

// Target is a TCP port of a pod.
type Target struct {
	PodUID string
	Port   uint16
	// Outside is how others reach it, by the pod's address; else it is reached as the pod's own
	// processes reach it, by "localhost".
	Outside bool
}

// Class is the kind of isolation, chosen by runtimeClassName or by a flag.
type Class string

const (
	Sandbox Class = "sandbox"
	Host    Class = "host"
)

// Spec is everything needed to start one container; it is self-contained. What
// says whose the container is (ID, Class, Pod, Container, Attempt) is kept on disk,
// so that it is known after a restart.
type Spec struct {
	// ID is unique for ever: <pod uid>_<container>_<attempt>.
	ID    string
	Class Class
	Pod   PodRef
	// Container is the container's name, Attempt counts its starts from 0.
	Container string
	Attempt   int

	// Args is the whole command, Env the whole environment ("K=V").
	Args []string
	Env  []string
	// Dir is the working directory, inside the root if there is one; it is
	// created if absent. "" means "/" (sandbox) or an empty directory that the
	// pod's containers share until RemovePod (host).
	Dir string

	// Layers are the unpacked image layers, lowest first (sandbox only).
	Layers       []string
	ReadOnlyRoot bool
	// Mounts are what the container sees besides. host, which has no file system
	// of its own, accepts those whose source and target are the same path.
	Mounts   []Mount
	Hostname string
	// ShareProcesses puts all containers of the pod into one pid namespace.
	ShareProcesses bool
	// ProcessesOf is the ID of a container of the pod that runs, in whose pid namespace this
	// one is: it sees that one's processes, and ends with its first one. "": none.
	ProcessesOf string `json:",omitempty"`
	HostPID     bool
	HostIPC     bool
	// PodNetwork gives the container the network that Join has made for the pod; else it
	// shares the machine's.
	PodNetwork bool
	// Sysctls are kernel parameters of the pod's namespaces, by their names with dots: those of
	// memory that processes share ("kernel."), and those of its network ("net."), which have a
	// meaning with PodNetwork only. All containers of a pod have the same.
	Sysctls map[string]string `json:",omitempty"`

	// UID and GID of the process, Groups its supplementary groups. nil UID:
	// the runner's own user (host), 0 (sandbox). nil GID: the primary group that
	// the machine's /etc/passwd gives to UID (host), 0 (sandbox).
	UID    *uint32
	GID    *uint32
	Groups []uint32
	// RunAsNonRoot refuses to run as user 0.
	RunAsNonRoot bool

	// Privileged gives the container every device, and no seccomp filter nor masks.
	Privileged bool
	// UnmaskedProc shows all of /proc; it is for containers whose root is not the
	// machine's.
	UnmaskedProc bool
	// Capabilities is the whole set, "CAP_CHOWN", …; nil: none (sandbox), those of
	// the runner itself (host). host gives no more than the runner has.
	Capabilities []string
	// AllowPrivilegeEscalation false sets no_new_privs.
	AllowPrivilegeEscalation bool
	// Seccomp is the default profile unless Unconfined.
	SeccompUnconfined bool

	Resources Resources
	// PodPids is how many processes and threads the pod's containers may have
	// together; 0: no limit.
	PodPids int64

	// LogPath is the log file, written in the CRI format (see package crilog).
	LogPath string
	// TerminationLog is a file of this machine that the container sees at
	// TerminationLogPath (sandbox), or finds in the variable
	// SAMPAN_TERMINATION_LOG (host).
	TerminationLog     string
	TerminationLogPath string

	// Stdin keeps the standard input open for Attach; else it is /dev/null. With
	// StdinOnce it ends with the first Attach that has brought any.
	Stdin     bool
	StdinOnce bool
	// TTY gives the container a terminal as its standard streams, which is its
	// controlling one.
	TTY bool
}

// PodRef tells whose the container is; for people, logs and recovery.
type PodRef struct {
	Namespace, Name, UID string
}

// Mount is a file, directory or file system that the container sees at Target.
type Mount struct {
	// Volume is the name of the pod's volume that is mounted: one that SetVolume
	// has made or, with a Source, a hostPath. "": a file of the engine's own.
	Volume string
	// Source is a path of this machine; "": the Volume itself. One of a hostPath is
	// whatever a manifest says, and may not answer.
	Source string
	Target string // absolute path inside the container
	// SubPath is what of the volume, or the source, is mounted; "" is all. It is a
	// relative path without "..", of which missing directories are made. Links on
	// the way are followed, but none that leads out.
	SubPath  string
	ReadOnly bool
	// Recursive binds the mounts below Source too.
	Recursive bool
	// Propagation is "", "HostToContainer" or "Bidirectional".
	Propagation string
}

// Volume is a directory that the containers of a pod mount by its name. It
// lives until RemovePod; one in memory dies with the supervisor too.
type Volume struct {
	Class  Class // of the pod's containers
	PodUID string
	Name   string
	// Memory keeps the volume in memory, where it can take Size bytes; 0: half of
	// what the machine has. Others are on disk, and Size means nothing.
	Memory bool
	Size   int64
	// Mode and Group are those of the directory when it is made, with the bits of
	// chmod(2). A Group of nil, or one that this user has no part in, is root's.
	Mode  uint32
	Group *uint32
	// Files are all that the volume shows, by path, replaced all or none, as a
	// kubelet does; nil: what is in the volume is the containers' own. They
	// belong to Group.
	Files map[string]File
	// Layers are the unpacked layers, lowest first, of an image that the volume shows:
	// nobody can write to it, or execute what is in it. Like a volume in memory it dies with
	// the supervisor. nil: it is another volume.
	Layers []string `json:",omitempty"`
	// Source is a directory of this machine that is there already, "" in all other volumes. It is
	// given to Group, with all that is in it: the group may read and write everything, and what is
	// made there belongs to it. What is not this user's to give stays as it is.
	Source string `json:",omitempty"`
	// Matching: a Source whose own group and mode are right is left as it is.
	Matching bool `json:",omitempty"`
}

// VolumeFile is a file of a pod's volume.
type VolumeFile struct {
	Class        Class
	PodUID, Name string // of the volume
	Path         string // relative to its root
}

// MaxVolumeFile is how much ReadVolume reads.
const MaxVolumeFile = 1 << 20

// File is a file of a Volume.
type File struct {
	Data []byte
	Mode uint32  // permissions, with the bits of chmod(2)
	UID  *uint32 // nil, or one that is not to be had: root
}

// DiskUsage is what a tree of files takes of the disk.
type DiskUsage struct {
	Bytes, Inodes int64
}

// PodUsage is what a pod takes of the disk. What is in memory is not in it.
type PodUsage struct {
	Containers map[string]DiskUsage // writable layers, by container ID
	Volumes    map[string]DiskUsage // those that SetVolume made, by name
	// Shared is what belongs to no one container or volume: the working
	// directory that the containers of class host share.
	Shared DiskUsage
}

// Resources are the limits that the container's cgroup enforces, where the
// machine allows. 0 means none.
type Resources struct {
	CPUShares   int64 // cgroup v1 weight, 2…262144
	CPUQuota    int64 // microseconds per CPUPeriod
	CPUPeriod   int64
	MemoryLimit int64 // bytes
	PidsLimit   int64
}

// Phase of a container's life: created → running → exited.
type Phase string

const (
	Created Phase = "created"
	Running Phase = "running"
	Exited  Phase = "exited"
)

// Status is what is known of a container.
type Status struct {
	ID        string
	Pod       PodRef
	Container string
	Attempt   int
	Class     Class
	Phase     Phase
	PID       int // on this machine; 0 unless running
	StartedAt time.Time

	// When Phase is Exited:
	FinishedAt time.Time
	ExitCode   int // 128+n when ended by signal n
	Signal     int
	OOMKilled  bool
	// Lost: the supervisor died, and the container with it; how it ended is
	// not known.
	Lost bool
	// Reason and Message say what went wrong, if it is known.
	Reason, Message string

	// OutputLost is what the container wrote and its log does not have.
	OutputLost OutputLoss `json:",omitzero"`

	// LimitsIgnored says why resource limits could not be enforced; "" if they
	// are, or none were asked for.
	LimitsIgnored string
}

// OutputLoss is output of a container that could not be written to its log, as on
// a full disk, since the container was started.
type OutputLoss struct {
	Bytes   int64
	Message string    // why the last of it could not
	At      time.Time // when that was
}
