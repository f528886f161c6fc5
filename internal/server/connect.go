package server

import (
	"context"
	"fmt"
	"net"
	"net/http"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/proxy"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	genericapifilters "k8s.io/apiserver/pkg/endpoints/filters"
	"k8s.io/apiserver/pkg/registry/rest"

	"github.com/sampan-batch/sampan/internal/server/stream"
	"github.com/sampan-batch/sampan/internal/stdio"
)

// podConnect is what exec, attach and portforward have in common.
type podConnect struct{ pods *resource }

// Destroy implements rest.Storage.
func (c podConnect) Destroy() {}

// ConnectMethods implements rest.Connecter: a WebSocket begins with GET, SPDY with POST.
func (c podConnect) ConnectMethods() []string { return []string{"GET", "POST"} }

// pod returns the pod, and the node that it is bound to.
func (c podConnect) pod(ctx context.Context, name string) (*corev1.Pod, PodStreams, error) {
	// Whoever may only read pods may not do more by beginning with GET.
	if err := c.mayCreate(ctx); err != nil {
		return nil, nil, err
	}
	obj, err := c.pods.Get(ctx, name, &metav1.GetOptions{})
	if err != nil {
		return nil, nil, err
	}
	pod := obj.(*corev1.Pod)
	if pod.Spec.NodeName == "" {
		return pod, nil, nil
	}
	node, err := c.pods.node(pod)
	return pod, node, err
}

// mayCreate asks whether the user may do with POST what he does. (Kubernetes 1.35,
// AuthorizePodWebsocketUpgradeCreatePermission)
func (c podConnect) mayCreate(ctx context.Context) error {
	asked, err := genericapifilters.GetAuthorizerAttributes(ctx)
	if err != nil {
		return apierrors.NewInternalError(err)
	}
	if asked.GetVerb() == "create" {
		return nil
	}
	decision, reason, err := c.pods.gate.Authorize(ctx, asCreate{asked})
	if err != nil || decision != authorizer.DecisionAllow {
		return apierrors.NewForbidden(c.pods.gr, asked.GetName(), fmt.Errorf("user %q cannot create resource \"%s/%s\": %s", asked.GetUser().GetName(), asked.GetResource(), asked.GetSubresource(), reason))
	}
	return nil
}

type asCreate struct{ authorizer.Attributes }

func (asCreate) GetVerb() string { return "create" }

// session is what a client gets who asks for streams of a container.
func (c podConnect) session(ctx context.Context, name string, container *string, r rest.Responder) (stream.Session, PodStreams, error) {
	pod, node, err := c.pod(ctx, name)
	if err != nil {
		return stream.Session{}, nil, err
	}
	if container != nil {
		if *container, err = containerNamed(pod, *container); err != nil {
			return stream.Session{}, nil, err
		}
	}
	if node == nil {
		return stream.Session{}, nil, apierrors.NewBadRequest(fmt.Sprintf("pod %s does not have a host assigned", name))
	}
	return stream.Session{Pod: pod, Stop: c.pods.stop, Errors: proxy.NewErrorResponder(r)}, node, nil
}

// podExec is pods/exec.
type podExec struct{ podConnect }

// New implements rest.Storage.
func (e *podExec) New() runtime.Object { return &corev1.PodExecOptions{} }

// NewConnectOptions implements rest.Connecter.
func (e *podExec) NewConnectOptions() (runtime.Object, bool, string) {
	return &corev1.PodExecOptions{}, false, ""
}

// Connect implements rest.Connecter.
func (e *podExec) Connect(ctx context.Context, name string, opts runtime.Object, r rest.Responder) (http.Handler, error) {
	options := opts.(*corev1.PodExecOptions)
	session, node, err := e.session(ctx, name, &options.Container, r)
	if err != nil {
		return nil, err
	}
	return e.pods.sessions.counted(ctx, session.Exec(options, func(ctx context.Context, streams stdio.Streams) (int, error) {
		return node.Exec(ctx, session.Pod, options, streams)
	}), r), nil
}

// podAttach is pods/attach.
type podAttach struct{ podConnect }

// New implements rest.Storage.
func (a *podAttach) New() runtime.Object { return &corev1.PodAttachOptions{} }

// NewConnectOptions implements rest.Connecter.
func (a *podAttach) NewConnectOptions() (runtime.Object, bool, string) {
	return &corev1.PodAttachOptions{}, false, ""
}

// Connect implements rest.Connecter.
func (a *podAttach) Connect(ctx context.Context, name string, opts runtime.Object, r rest.Responder) (http.Handler, error) {
	options := opts.(*corev1.PodAttachOptions)
	session, node, err := a.session(ctx, name, &options.Container, r)
	if err != nil {
		return nil, err
	}
	return a.pods.sessions.counted(ctx, session.Attach(options, func(ctx context.Context, streams stdio.Streams) error {
		return node.Attach(ctx, session.Pod, options, streams)
	}), r), nil
}

// podPortForward is pods/portforward.
type podPortForward struct{ podConnect }

// New implements rest.Storage.
func (p *podPortForward) New() runtime.Object { return &corev1.PodPortForwardOptions{} }

// NewConnectOptions implements rest.Connecter.
func (p *podPortForward) NewConnectOptions() (runtime.Object, bool, string) {
	return &corev1.PodPortForwardOptions{}, false, ""
}

// Connect implements rest.Connecter.
func (p *podPortForward) Connect(ctx context.Context, name string, opts runtime.Object, r rest.Responder) (http.Handler, error) {
	session, node, err := p.session(ctx, name, nil, r)
	if err != nil {
		return nil, err
	}
	return p.pods.sessions.counted(ctx, session.PortForward(opts.(*corev1.PodPortForwardOptions), func(ctx context.Context, port uint16) (net.Conn, error) {
		return node.PortForward(ctx, session.Pod, port)
	}), r), nil
}

var _ = []interface {
	rest.Storage
	rest.Connecter
}{&podExec{}, &podAttach{}, &podPortForward{}}
