package agent

import (
	"context"

	authenticationv1 "k8s.io/api/authentication/v1"
	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/sampan-batch/sampan/internal/agent/policy"
	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/runner"
)

// Client is the API as the node uses it for its pods; what it tells of itself goes
// through node.API. In the engine's process it is a function call on shared objects;
// another node would speak HTTPS.
//
// Objects that a Client returns or delivers are shared: the agent never
// changes them. Objects that the agent hands over are the Client's from then
// on. Errors are those of the API: apierrors.IsNotFound tells that an object is
// absent. All methods are safe for concurrent use.
type Client interface {
	// WatchPods delivers the pods that are bound to node, and what changes about
	// them, until ctx ends (its cause is returned) or the watch breaks (the
	// reason is returned, and the agent calls again). The first delivery, and
	// any later one that had to list anew, has All set. deliver is never called
	// concurrently, and returns soon.
	WatchPods(ctx context.Context, node string, deliver func(PodChanges)) error

	// UpdatePodStatus replaces the status of the pod and returns what was
	// committed. status is given the present state of the pod and returns the
	// status to be written; it is called again when somebody else wrote
	// meanwhile. It must not change what it is given, and what it returns may
	// share memory with that. When the returned status is the present one, nothing
	// needs to be written. NotFound: the pod is gone, or one of another uid has
	// its name.
	UpdatePodStatus(ctx context.Context, pod runner.PodRef, status func(now *corev1.Pod) corev1.PodStatus) (*corev1.Pod, error)
	// DeletePod ends the grace period of a pod whose containers have all
	// stopped: the API's DELETE with grace period 0 and the uid as
	// precondition. That it is gone already is no error.
	DeletePod(ctx context.Context, pod runner.PodRef) error

	// WatchServices delivers the Services and EndpointSlices of the cluster, and the names of its
	// namespaces, all of them, soon after any has changed, like WatchPods.
	WatchServices(ctx context.Context, deliver func(services []*corev1.Service, endpoints []*discoveryv1.EndpointSlice, namespaces []string)) error

	// Policies returns the NetworkPolicies of the cluster, and, if there is one, all that it may
	// select. WatchPolicies calls changed soon after any of that has changed, like WatchServices.
	Policies() policy.World
	WatchPolicies(ctx context.Context, changed func()) error

	ConfigMap(ctx context.Context, namespace, name string) (*corev1.ConfigMap, error)
	Secret(ctx context.Context, namespace, name string) (*corev1.Secret, error)
	ServiceAccount(ctx context.Context, namespace, name string) (*corev1.ServiceAccount, error)
	// Services returns those of a namespace, in the order of their names.
	Services(ctx context.Context, namespace string) ([]*corev1.Service, error)
	PersistentVolumeClaim(ctx context.Context, namespace, name string) (*corev1.PersistentVolumeClaim, error)
	PersistentVolume(ctx context.Context, name string) (*corev1.PersistentVolume, error)

	ClusterTrustBundle(ctx context.Context, name string) (*certificatesv1.ClusterTrustBundle, error)
	// ClusterTrustBundles returns those of a signer, in a list that is the caller's.
	ClusterTrustBundles(ctx context.Context, signer string) ([]*certificatesv1.ClusterTrustBundle, error)

	// CreatePodCertificateRequest creates a request for a pod of the node's, under a name that it
	// makes of generateName.
	CreatePodCertificateRequest(ctx context.Context, request *certificatesv1.PodCertificateRequest) (*certificatesv1.PodCertificateRequest, error)
	PodCertificateRequest(ctx context.Context, namespace, name string) (*certificatesv1.PodCertificateRequest, error)

	// Token answers a TokenRequest for an account: a copy of it with the token.
	Token(ctx context.Context, namespace, account string, req *authenticationv1.TokenRequest) (*authenticationv1.TokenRequest, error)

	// Record makes Events of notes. Best effort; it never blocks.
	Record(notes ...change.Note)
}

// RefOf returns what identifies pod, here and to the runners, as long as it lives.
func RefOf(pod *corev1.Pod) runner.PodRef {
	return runner.PodRef{Namespace: pod.Namespace, Name: pod.Name, UID: string(pod.UID)}
}

// PodChanges is one delivery of a watch: pods that appeared or changed, in
// their latest state, and pods that are gone.
type PodChanges struct {
	// All says that Pods are all the pods of the node, so that every other is gone.
	All  bool
	Pods []*corev1.Pod
	Gone []runner.PodRef
}
