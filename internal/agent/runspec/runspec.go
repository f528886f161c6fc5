// Package runspec turns a container of a pod, and the image that it runs, into
// what a runner is told: command, environment, user, capabilities, limits. Its
// rules are the kubelet's and those of the usual container runtimes.
package runspec

import (
	"errors"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/sampan-batch/sampan/internal/agent/network"
	"github.com/sampan-batch/sampan/internal/runner"
)

// Input is what a container is made from. Everything in it is read only.
type Input struct {
	Pod       *corev1.Pod
	Container *corev1.Container
	// Addresses are the pod's and its node's, Allocatable is what the node has.
	Addresses   network.Addresses
	Allocatable corev1.ResourceList
	Class       runner.Class
	Hostname    string
	// PodPids is how many processes and threads the pod may have; 0: no limit.
	PodPids int64
	// API is where the container finds the API; zero: it is not told.
	API netip.AddrPort
	// Services returns those of the pod's namespace; nil: there are none.
	Services func() ([]*corev1.Service, error)

	// What the image says; empty for the host class.
	Layers, Entrypoint, Cmd, ImageEnv []string
	WorkingDir                        string
	// ImageUser is the user as the image names it.
	ImageUser string
	// LookupUser finds a user in the image; see agent.Images.
	LookupUser func(user string) (User, error)
	// ReadFile returns what is in a file of a volume of the pod.
	ReadFile func(volume, path string) ([]byte, error)
	// Mounts returns what the container mounts, given its environment.
	Mounts func(env *Env) ([]runner.Mount, error)
}

// User is a user of an image, as the kernel and a program's environment know it.
type User struct {
	UID, GID uint32
	Groups   []uint32 // supplementary
	Home     string
}

// ConfigError is a container whose configuration cannot be satisfied now:
// Kubernetes' CreateContainerConfigError.
type ConfigError struct{ Message string }

func (e *ConfigError) Error() string { return e.Message }

// New returns how the container is started; the caller adds its identity
// and files. An error is a *ConfigError, or a *runner.StartError.
func New(in *Input, objects Objects) (*runner.Spec, error) {
	c := in.Container
	env, err := Environment(in, objects)
	var args []string
	if err == nil {
		args, err = Command(c, in.Entrypoint, in.Cmd, env)
	}
	if start := (*runner.StartError)(nil); errors.As(err, &start) {
		return nil, start
	}
	if err != nil {
		return nil, &ConfigError{err.Error()}
	}
	spec := &runner.Spec{
		Class:          in.Class,
		Container:      c.Name,
		Args:           args,
		Dir:            c.WorkingDir,
		Layers:         in.Layers,
		Hostname:       in.Hostname,
		ShareProcesses: isTrue(in.Pod.Spec.ShareProcessNamespace),
		HostPID:        in.Pod.Spec.HostPID,
		HostIPC:        in.Pod.Spec.HostIPC,
		Resources:      Resources(&c.Resources),
		PodPids:        in.PodPids,
		Stdin:          c.Stdin,
		StdinOnce:      c.StdinOnce,
		TTY:            c.TTY,
	}
	if len(spec.Args) == 0 || spec.Args[0] == "" {
		return nil, noCommand(in.Class)
	}
	if spec.Dir == "" {
		spec.Dir = in.WorkingDir
	}
	home, err := secure(in, spec)
	if err != nil {
		return nil, err
	}
	if spec.Mounts, err = in.Mounts(env); err != nil {
		return nil, &ConfigError{err.Error()}
	}
	if in.Class == runner.Host && spec.UID != nil {
		another := *in
		another.ImageEnv = withoutUser(in.ImageEnv)
		in = &another
	}
	spec.Sysctls, _ = sysctls(in)
	spec.Env = environ(in, env, home)
	return spec, nil
}

func noCommand(class runner.Class) error {
	msg := "no command specified"
	if class == runner.Host {
		msg = "the host runtime class runs commands of this machine and uses no image: the container needs a command"
	}
	return &runner.StartError{Reason: "CreateContainerError", Message: msg}
}

// environ returns the environment: what the image says, replaced and followed by
// what the pod says. The sandbox adds what every container has, but HOME: the user's
// home is known only here, where the user was looked up.
func environ(in *Input, env *Env, home string) []string {
	out := make([]string, 0, len(in.ImageEnv)+len(env.list)+1)
	if in.Class != runner.Host && home != "" && !hasHome(in, env) {
		out = append(out, "HOME="+home)
	}
	for _, kv := range in.ImageEnv {
		name, _, _ := strings.Cut(kv, "=")
		if _, ok := env.index[name]; !ok {
			out = append(out, kv)
		}
	}
	return append(out, env.list...)
}

// hasHome reports whether the pod or the image says where home is.
func hasHome(in *Input, env *Env) bool {
	if _, ok := env.index["HOME"]; ok {
		return true
	}
	return slices.ContainsFunc(in.ImageEnv, func(kv string) bool { return strings.HasPrefix(kv, "HOME=") })
}
