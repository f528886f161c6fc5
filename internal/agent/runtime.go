package agent

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/sampan-batch/sampan/internal/agent/network"
	"github.com/sampan-batch/sampan/internal/agent/podfiles"
	"github.com/sampan-batch/sampan/internal/agent/volume"
	"github.com/sampan-batch/sampan/internal/reason"
	"github.com/sampan-batch/sampan/internal/runner"
	"github.com/sampan-batch/sampan/internal/runner/hostpath"
	"github.com/sampan-batch/sampan/internal/runner/reap"
)

// containerRuntime is what the containers of this node are run with: the runners, and
// the images, volumes and files that a container needs. It remembers nothing of a pod.
type containerRuntime struct {
	*Options
	files   *podfiles.Files
	book    *addressBook
	cluster *cluster
	// paths is who looks at the machine's paths that manifests name.
	paths *hostpath.Scout
}

func newContainerRuntime(o *Options) *containerRuntime {
	book := newAddressBook(o.Addresses)
	return &containerRuntime{Options: o, book: book, cluster: newCluster(o, book), files: podfiles.New(o.Dir, o.RunDir, o.Log), paths: hostpath.New(reap.New())}
}

// class is the kind of isolation that the pod asks for.
func (r *containerRuntime) class(pod *corev1.Pod) runner.Class {
	if name := pod.Spec.RuntimeClassName; name != nil {
		return runner.Class(*name)
	}
	return r.Class
}

// canRun returns why no runner can make the pod's surroundings, nil if one can.
func (r *containerRuntime) canRun(pod *corev1.Pod) error {
	class := r.class(pod)
	if _, err := network.Nodename(pod, r.Node.Name()); err != nil {
		return err
	}
	switch {
	case r.Runners[class] == nil:
		return fmt.Errorf("no runtime for %q is configured", class)
	case pod.Spec.HostUsers == nil || *pod.Spec.HostUsers:
		return nil
	case class == runner.Sandbox && r.UserNamespace:
		return nil // it is in one in any case
	case pod.Spec.RuntimeClassName != nil:
		return fmt.Errorf("can't set `spec.hostUsers: false`, RuntimeClass handler %q does not support user namespaces", class)
	}
	return errors.New("can't set `spec.hostUsers: false`, runtime does not support user namespaces")
}

// api is where the containers of a pod are told that the API is. A process of the machine has the
// machine's configuration.
func (r *containerRuntime) api(pod *corev1.Pod) netip.AddrPort {
	if r.class(pod) == runner.Host || !volume.HasToken(pod) {
		return netip.AddrPort{}
	}
	if r.hasNetwork(pod) {
		return apiService()
	}
	return r.API
}

// names is where the pod can ask for the cluster's names, if it can.
func (r *containerRuntime) names(pod *corev1.Pod) netip.Addr {
	if !r.hasNetwork(pod) {
		return netip.Addr{}
	}
	return namesService()
}

// hasNetwork tells whether the pod has a network of its own.
func (r *containerRuntime) hasNetwork(pod *corev1.Pod) bool {
	return !pod.Spec.HostNetwork && r.class(pod) != runner.Host && !r.book.shared.Load()
}

// addresses returns those of a pod.
func (r *containerRuntime) addresses(pod *corev1.Pod) network.Addresses {
	if r.hasNetwork(pod) {
		return r.book.of(string(pod.UID))
	}
	return r.book.machine()
}

// join has a pod join the network that its runner has for pods. Where there is none, it has
// the machine's, as all that come after it.
func (r *containerRuntime) join(ctx context.Context, pod *corev1.Pod) error {
	if !r.hasNetwork(pod) {
		return nil
	}
	run := r.Runners[r.class(pod)]
	joined, err := run.Join(ctx, string(pod.UID))
	if errors.Is(err, errors.ErrUnsupported) {
		if r.book.share() {
			r.Log.Warn("pods share the machine's network", "why", err)
		}
		return nil
	}
	if err == nil {
		err = r.cluster.joined(ctx, joined)
	}
	at := []netip.Addr{joined.Address}
	if joined.IPv6.IsValid() {
		at = append(at, joined.IPv6)
	}
	if err == nil {
		r.book.set(string(pod.UID), at...)
		err = r.cluster.police.isolate(ctx, pod)
	}
	if err != nil {
		return &filesError{fmt.Errorf("the pod's network: %w", err)}
	}
	r.cluster.lead(ctx, pod, string(pod.UID), at...)
	return nil
}

// surround makes what a pod's containers have around them: its network, and its own versions
// of files in /etc, where it has any.
func (r *containerRuntime) surround(ctx context.Context, pod *corev1.Pod) error {
	if err := r.join(ctx, pod); err != nil {
		return err
	}
	return r.writeFiles(pod)
}

func (r *containerRuntime) writeFiles(pod *corev1.Pod) error {
	if r.class(pod) == runner.Host {
		return nil
	}
	warnings, err := r.files.WriteEtc(pod, network.Hostname(pod, r.Node.Name()), r.addresses(pod).Pod, r.names(pod))
	if err != nil {
		return &filesError{err}
	}
	for _, text := range warnings {
		r.Client.Record(note(pod, nil, warning, reason.DNSConfigForming, text))
	}
	return nil
}

// filesError says that a pod's own files could not be written.
type filesError struct{ err error }

func (e *filesError) Error() string { return fmt.Sprintf("Failed to create pod sandbox: %v", e.err) }
func (e *filesError) Unwrap() error { return e.err }

func (r *containerRuntime) volumes(ctx context.Context, pod *corev1.Pod) *volume.Pod {
	return &volume.Pod{
		Object: pod, Class: r.class(pod), Objects: objects{ctx, r.Client, pod.Namespace}, Paths: r.paths,
		Addresses: r.addresses(pod), Allocatable: r.Node.Allocatable(),
	}
}

// containers returns the containers that the runners have, whosever they are. Those of
// a runner that does not answer are missing, and the error says why.
func (r *containerRuntime) containers(ctx context.Context) ([]runner.Status, error) {
	var all []runner.Status
	var errs []error
	for class, run := range r.Runners {
		list, err := run.List(ctx)
		if err != nil {
			errs = append(errs, fmt.Errorf("list the containers of class %s: %w", class, err))
		}
		for _, st := range list {
			if st.Class == "" {
				st.Class = class
			}
			if st.Class == class { // one runner may keep those of several classes
				all = append(all, st)
			}
		}
	}
	return all, errors.Join(errs...)
}

// leftovers returns the containers that the runners still have of a pod.
func (r *containerRuntime) leftovers(ctx context.Context, ref runner.PodRef) []runner.Status {
	list, err := r.containers(ctx)
	if err != nil && ctx.Err() == nil {
		r.Log.Warn("cannot list containers", "err", err)
	}
	var left []runner.Status
	for _, st := range list {
		if st.Pod.UID == ref.UID {
			left = append(left, st)
		}
	}
	return left
}

// discardGrace is what a container that nobody wants any more has to end in.
const discardGrace = 2 * time.Second

// discard ends and removes containers of a pod that nobody wants any more, and
// releases the pod: a stop signal, a short while, SIGKILL.
func (r *containerRuntime) discard(ctx context.Context, ref runner.PodRef, list []runner.Status) {
	for _, st := range list {
		if st.Phase != runner.Exited {
			r.Runners[st.Class].Signal(ctx, st.ID, int(unix.SIGTERM))
		}
	}
	deadline, cancel := context.WithTimeout(ctx, discardGrace)
	defer cancel()
	for _, st := range list {
		if st.Phase == runner.Exited {
			continue
		}
		run := r.Runners[st.Class]
		if _, err := run.Wait(deadline, st.ID); err != nil && ctx.Err() == nil {
			run.Signal(ctx, st.ID, int(unix.SIGKILL))
			run.Wait(ctx, st.ID)
		}
	}
	for _, st := range list {
		if err := r.Runners[st.Class].Remove(ctx, st.ID); err != nil && ctx.Err() == nil {
			r.Log.Warn("cannot remove a container", "container", st.ID, "err", err)
		}
	}
	r.release(ctx, ref, nil)
}

// release releases a pod none of whose containers is left; pod is nil when the API
// has it no more.
func (r *containerRuntime) release(ctx context.Context, ref runner.PodRef, pod *corev1.Pod) {
	for class, run := range r.Runners {
		if pod != nil && class != r.class(pod) {
			continue
		}
		if err := run.RemovePod(ctx, ref.UID); err != nil && ctx.Err() == nil {
			r.Log.Warn("cannot release a pod", "ns", ref.Namespace, "name", ref.Name, "uid", ref.UID, "err", err)
		}
	}
	r.book.set(ref.UID)
	r.cluster.lead(ctx, nil, ref.UID)
	r.Images.Release(ref.UID)
	if pod == nil || r.class(pod) != runner.Host {
		r.files.RemoveEtc(ref.UID)
	}
	r.files.RemoveVolumes(ref.UID)
}

// containerID is how the runner knows an attempt.
func containerID(ref runner.PodRef, container string, number int) string {
	return ref.UID + "_" + container + "_" + strconv.Itoa(number)
}

// containerOf returns the name of the container in what containerID has made.
func containerOf(id string) string {
	_, rest, _ := strings.Cut(id, "_")
	name, _, _ := strings.Cut(rest, "_")
	return name
}

// eachContainer calls visit for every container of the pod.
func eachContainer(pod *corev1.Pod, visit func(*corev1.Container)) {
	for _, list := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range list {
			visit(&list[i])
		}
	}
	for i := range pod.Spec.EphemeralContainers {
		visit((*corev1.Container)(&pod.Spec.EphemeralContainers[i].EphemeralContainerCommon))
	}
}

// objects looks up what a pod refers to.
type objects struct {
	ctx       context.Context
	client    Client
	namespace string
}

func (o objects) ConfigMap(name string) (*corev1.ConfigMap, error) {
	cm, err := o.client.ConfigMap(o.ctx, o.namespace, name)
	return cm, named(err, "configmap", name)
}

func (o objects) Secret(name string) (*corev1.Secret, error) {
	secret, err := o.client.Secret(o.ctx, o.namespace, name)
	return secret, named(err, "secret", name)
}

func (o objects) Claim(name string) (*corev1.PersistentVolumeClaim, error) {
	claim, err := o.client.PersistentVolumeClaim(o.ctx, o.namespace, name)
	return claim, named(err, "persistentvolumeclaim", name)
}

func (o objects) Volume(name string) (*corev1.PersistentVolume, error) {
	v, err := o.client.PersistentVolume(o.ctx, name)
	return v, named(err, "persistentvolume", name)
}

func (o objects) TrustBundle(name string) (*certificatesv1.ClusterTrustBundle, error) {
	return o.client.ClusterTrustBundle(o.ctx, name)
}

func (o objects) TrustBundles(signer string) ([]*certificatesv1.ClusterTrustBundle, error) {
	return o.client.ClusterTrustBundles(o.ctx, signer)
}

// named gives the error for an absent object a kubelet's words.
func named(err error, kind, name string) error {
	if apierrors.IsNotFound(err) {
		return apierrors.NewNotFound(corev1.Resource(kind), name)
	}
	return err
}
