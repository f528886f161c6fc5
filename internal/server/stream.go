package server

import (
	"context"
	"fmt"
	"io"
	"net"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metricsv1beta1 "k8s.io/metrics/pkg/apis/metrics/v1beta1"

	"github.com/sampan-batch/sampan/internal/stdio"
)

// PodStreams is what the server needs of a node: what flows in and out of its pods, and what
// they use.
// Their pods are bound to it, the options are valid, and options.Container is one of
// the pod's containers. Whether that runs, or has a log yet, or still, is the node's
// to know; its errors are those of the API. ctx ends every stream.
type PodStreams interface {
	// Logs opens the log of a container as options ask: its lines, with times in
	// front if asked so, until the end or, when following, until the container has
	// ended.
	Logs(ctx context.Context, pod *corev1.Pod, options *corev1.PodLogOptions) (io.ReadCloser, error)
	// Exec runs a command in a container and returns its exit code.
	Exec(ctx context.Context, pod *corev1.Pod, options *corev1.PodExecOptions, streams stdio.Streams) (exit int, err error)
	// Attach connects the streams with those of a container until either has ended.
	Attach(ctx context.Context, pod *corev1.Pod, options *corev1.PodAttachOptions, streams stdio.Streams) error
	// PortForward connects to a port of the pod.
	PortForward(ctx context.Context, pod *corev1.Pod, port uint16) (net.Conn, error)
	// Dial connects to a port of the pod as other pods do. The connection outlives ctx.
	Dial(ctx context.Context, pod *corev1.Pod, port uint16) (net.Conn, error)
	// Metrics returns what the node uses, and its pods that run. The objects are the
	// caller's, what they point to is not.
	Metrics(ctx context.Context) (*metricsv1beta1.NodeMetrics, []metricsv1beta1.PodMetrics, error)
}

// node returns the node that a pod is bound to.
func (sh *shared) node(pod *corev1.Pod) (PodStreams, error) {
	if sh.nodes != nil {
		if node := sh.nodes(pod.Spec.NodeName); node != nil {
			return node, nil
		}
	}
	return nil, apierrors.NewInternalError(fmt.Errorf("node %q is not connected", pod.Spec.NodeName))
}

// dialPod connects to a port of a pod, for the API itself.
func (sh *shared) dialPod(ctx context.Context, pod *corev1.Pod, port uint16) (net.Conn, error) {
	node, err := sh.node(pod)
	if err != nil {
		return nil, err
	}
	return node.Dial(ctx, pod, port)
}
