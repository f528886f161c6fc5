package engine

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/google/uuid"
	authenticationv1 "k8s.io/api/authentication/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/sampan-batch/sampan/internal/agent"
	"github.com/sampan-batch/sampan/internal/agent/node"
	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/control"
	"github.com/sampan-batch/sampan/internal/kind"
	"github.com/sampan-batch/sampan/internal/runner"
	"github.com/sampan-batch/sampan/internal/store"
)

// nodeClient is the API as a node in this process uses it: calls on shared objects, with the
// rules of the API's verbs. It is one node's, and has its rights only: those that Kubernetes'
// node authorizer and NodeRestriction give the user system:node:NAME. A node writes itself, its
// lease and the pods that are bound to it, and reads what these pods refer to.
type nodeClient struct {
	node string
	// alone: there is no other node whose things it could ask for.
	alone    bool
	store    *store.Store
	kinds    *kind.Kinds
	recorder *control.Recorder
	tokens   tokenIssuer
}

// tokenIssuer answers TokenRequests; the server is one.
type tokenIssuer interface {
	IssueToken(ctx context.Context, namespace, account string, req *authenticationv1.TokenRequest) (*authenticationv1.TokenRequest, error)
}

var (
	_ agent.Client = (*nodeClient)(nil)
	_ node.API     = (*nodeClient)(nil)
)

// WatchPods implements agent.Client.
func (c *nodeClient) WatchPods(ctx context.Context, node string, deliver func(agent.PodChanges)) error {
	if err := c.itself(kind.Pods, node); err != nil {
		return err
	}
	view := c.store.View()
	w, err := c.store.Watch(kind.Pods, view.Rev())
	if err != nil {
		return err
	}
	all := agent.PodChanges{All: true}
	for obj := range view.Index(kind.Pods, kind.NodePods(node)) {
		all.Pods = append(all.Pods, obj.(*corev1.Pod))
	}
	deliver(all)
	for {
		events, _, err := w.Next(ctx)
		if err != nil {
			return err
		}
		if changes := podChanges(events, node); len(changes.Pods)+len(changes.Gone) > 0 {
			deliver(changes)
		}
	}
}

func listOf[T change.Object](view *store.View, resource change.Resource) (list []T) {
	for obj := range view.List(resource, "") {
		list = append(list, obj.(T))
	}
	return list
}

// podChanges keeps the latest of what events say about each pod of node.
func podChanges(events []store.Event, node string) agent.PodChanges {
	var changes agent.PodChanges
	seen := make(map[types.UID]int, len(events))
	for _, ev := range events {
		pod := ev.Object.(*corev1.Pod)
		if pod.Spec.NodeName != node {
			continue
		}
		i, again := seen[pod.UID]
		switch {
		case ev.Op == change.Delete:
			changes.Gone = append(changes.Gone, agent.RefOf(pod))
			if again {
				changes.Pods[i] = nil
			}
		case again:
			changes.Pods[i] = pod
		default:
			seen[pod.UID] = len(changes.Pods)
			changes.Pods = append(changes.Pods, pod)
		}
	}
	kept := changes.Pods[:0]
	for _, pod := range changes.Pods {
		if pod != nil {
			kept = append(kept, pod)
		}
	}
	changes.Pods = kept
	return changes
}

// UpdatePodStatus implements agent.Client.
func (c *nodeClient) UpdatePodStatus(ctx context.Context, ref runner.PodRef, status func(*corev1.Pod) corev1.PodStatus) (*corev1.Pod, error) {
	var done *corev1.Pod
	err := c.redo(ctx, func(view *store.View) (change.Set, error) {
		pod, err := c.pod(view, ref)
		if err != nil {
			return change.Set{}, err
		}
		next := *pod // shares everything but the status, which is replaced
		next.Status = status(pod)
		done = pod
		var set change.Set
		if !equality.Semantic.DeepEqual(pod.Status, next.Status) {
			done = &next
			set.Update(podKey(ref), change.RevOf(pod), &next)
		}
		return set, nil
	})
	return done, err
}

// DeletePod implements agent.Client.
func (c *nodeClient) DeletePod(ctx context.Context, ref runner.PodRef) error {
	pods := c.kinds.ByResource(kind.Pods)
	err := c.redo(ctx, func(view *store.View) (change.Set, error) {
		pod, err := c.pod(view, ref)
		if err != nil {
			return change.Set{}, err
		}
		var set change.Set
		now := new(int64)
		if w, ok := pods.Removal(pod, change.RevOf(pod), time.Now(), now); ok {
			set.Writes = append(set.Writes, w)
		}
		return set, nil
	})
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

// ConfigMap implements agent.Client.
func (c *nodeClient) ConfigMap(_ context.Context, namespace, name string) (*corev1.ConfigMap, error) {
	if err := c.refersTo(kind.ConfigMaps, namespace, name); err != nil {
		return nil, err
	}
	return get[*corev1.ConfigMap](c, kind.ConfigMaps, namespace, name)
}

// Secret implements agent.Client.
func (c *nodeClient) Secret(_ context.Context, namespace, name string) (*corev1.Secret, error) {
	if err := c.refersTo(kind.Secrets, namespace, name); err != nil {
		return nil, err
	}
	return get[*corev1.Secret](c, kind.Secrets, namespace, name)
}

// ServiceAccount implements agent.Client.
func (c *nodeClient) ServiceAccount(_ context.Context, namespace, name string) (*corev1.ServiceAccount, error) {
	if err := c.refersTo(kind.ServiceAccounts, namespace, name); err != nil {
		return nil, err
	}
	return get[*corev1.ServiceAccount](c, kind.ServiceAccounts, namespace, name)
}

// Services implements agent.Client.
func (c *nodeClient) Services(_ context.Context, namespace string) (all []*corev1.Service, err error) {
	for obj := range c.store.View().List(kind.Services, namespace) {
		all = append(all, obj.(*corev1.Service))
	}
	return all, nil
}

// PersistentVolumeClaim implements agent.Client.
func (c *nodeClient) PersistentVolumeClaim(_ context.Context, namespace, name string) (*corev1.PersistentVolumeClaim, error) {
	return get[*corev1.PersistentVolumeClaim](c, kind.PersistentVolumeClaims, namespace, name)
}

// PersistentVolume implements agent.Client.
func (c *nodeClient) PersistentVolume(_ context.Context, name string) (*corev1.PersistentVolume, error) {
	return get[*corev1.PersistentVolume](c, kind.PersistentVolumes, "", name)
}

// Token implements agent.Client.
func (c *nodeClient) Token(ctx context.Context, namespace, account string, req *authenticationv1.TokenRequest) (*authenticationv1.TokenRequest, error) {
	if err := c.refersTo(kind.ServiceAccounts, namespace, account); err != nil {
		return nil, err
	}
	return c.tokens.IssueToken(ctx, namespace, account, req)
}

// Record implements agent.Client.
func (c *nodeClient) Record(notes ...change.Note) { c.recorder.Record(notes...) }

// RegisterNode implements node.API.
func (c *nodeClient) RegisterNode(ctx context.Context, node *corev1.Node) (*corev1.Node, error) {
	if err := c.itself(kind.Nodes, node.Name); err != nil {
		return nil, err
	}
	key := kind.Nodes.Key("", node.Name)
	var done *corev1.Node
	err := c.redo(ctx, func(view *store.View) (change.Set, error) {
		var set change.Set
		old, ok := view.Get(key)
		if !ok {
			done = node.DeepCopy()
			done.UID = types.UID(uuid.NewString())
			done.CreationTimestamp = metav1.NewTime(time.Now().Truncate(time.Second))
			set.Create(key, done)
			return set, nil
		}
		present := old.(*corev1.Node)
		done = present.DeepCopy()
		done.Labels = merged(done.Labels, node.Labels)
		done.Annotations = merged(done.Annotations, node.Annotations)
		if done.Spec.PodCIDR == "" || done.Spec.PodCIDR == node.Spec.PodCIDR { // the latter may be of more families now
			done.Spec.PodCIDR, done.Spec.PodCIDRs = node.Spec.PodCIDR, slices.Clone(node.Spec.PodCIDRs)
		}
		if !equality.Semantic.DeepEqual(present, done) {
			set.Update(key, change.RevOf(present), done)
		}
		return set, nil
	})
	return done, err
}

// Node implements node.API.
func (c *nodeClient) Node(_ context.Context, name string) (*corev1.Node, error) {
	return get[*corev1.Node](c, kind.Nodes, "", name)
}

// UpdateNodeStatus implements node.API.
func (c *nodeClient) UpdateNodeStatus(ctx context.Context, name string, status func(*corev1.Node) corev1.NodeStatus) error {
	if err := c.itself(kind.Nodes, name); err != nil {
		return err
	}
	key := kind.Nodes.Key("", name)
	return c.redo(ctx, func(view *store.View) (change.Set, error) {
		var set change.Set
		old, ok := view.Get(key)
		if !ok {
			return set, notFound(kind.Nodes, name)
		}
		node := old.(*corev1.Node)
		next := *node
		next.Status = status(node)
		if !equality.Semantic.DeepEqual(node.Status, next.Status) {
			set.Update(key, change.RevOf(node), &next)
		}
		return set, nil
	})
}

// RenewLease implements node.API. It does not wait for the disk.
func (c *nodeClient) RenewLease(ctx context.Context, lease *coordinationv1.Lease) error {
	if err := c.itself(kind.Leases, lease.Name); err != nil || lease.Namespace != corev1.NamespaceNodeLease {
		return errors.Join(err, c.forbidden(kind.Leases, lease.Name))
	}
	key := kind.Leases.Key(lease.Namespace, lease.Name)
	return c.redo(ctx, func(view *store.View) (change.Set, error) {
		set := change.Set{Lazy: true}
		old, ok := view.Get(key)
		if !ok {
			next := lease.DeepCopy()
			next.UID = types.UID(uuid.NewString())
			next.CreationTimestamp = metav1.NewTime(time.Now().Truncate(time.Second))
			set.Create(key, next)
			return set, nil
		}
		next := old.DeepCopyObject().(*coordinationv1.Lease)
		lease.Spec.DeepCopyInto(&next.Spec)
		set.Update(key, change.RevOf(old), next)
		return set, nil
	})
}

// redo decides and applies until nobody writes in between. It need not wait before it
// decides anew: the store answers with a conflict when the view has what it lost against.
func (c *nodeClient) redo(ctx context.Context, decide func(*store.View) (change.Set, error)) error {
	for ctx.Err() == nil {
		set, err := decide(c.store.View())
		if err != nil || len(set.Writes) == 0 {
			return err
		}
		_, err = c.store.Apply(ctx, set)
		var conflict *store.ConflictError
		if !errors.As(err, &conflict) {
			return err
		}
	}
	return context.Cause(ctx)
}

// pod returns a pod of the node's.
func (c *nodeClient) pod(view *store.View, ref runner.PodRef) (*corev1.Pod, error) {
	obj, ok := view.Get(podKey(ref))
	if !ok || string(obj.GetUID()) != ref.UID {
		return nil, notFound(kind.Pods, ref.Name)
	}
	pod := obj.(*corev1.Pod)
	if pod.Spec.NodeName != c.node {
		return nil, c.forbidden(kind.Pods, ref.Name)
	}
	return pod, nil
}

func get[T change.Object](c *nodeClient, resource change.Resource, namespace, name string) (T, error) {
	obj, ok := c.store.View().Get(resource.Key(namespace, name))
	if !ok {
		var none T
		return none, notFound(resource, name)
	}
	return obj.(T), nil
}

func notFound(resource change.Resource, name string) error {
	return apierrors.NewNotFound(corev1.Resource(string(resource)), name) // all of them are of the core group
}

func podKey(ref runner.PodRef) change.Key {
	return kind.Pods.Key(ref.Namespace, ref.Name)
}

func merged(into, from map[string]string) map[string]string {
	if into == nil && len(from) > 0 {
		into = map[string]string{}
	}
	for k, v := range from {
		into[k] = v
	}
	return into
}
