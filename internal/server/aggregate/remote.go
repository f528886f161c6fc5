package aggregate

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
	"k8s.io/kube-aggregator/pkg/apis/apiregistration/v1/helper"
	"k8s.io/kube-openapi/pkg/handler3"
	"k8s.io/utils/ptr"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/kind"
	"github.com/sampan-batch/sampan/internal/store"
)

const (
	// every is how often a server is asked that is there; firstWait and maxWait are between
	// which it is when it is not.
	every     = 30 * time.Second
	firstWait = 250 * time.Millisecond
	maxWait   = 30 * time.Second
	// patience is how long a server may take to answer such a question.
	patience = 5 * time.Second
)

// remote looks after the server of one APIService. It is a role: run is its goroutine.
type remote struct {
	*Server
	name string
	spec apiregistrationv1.APIServiceSpec
	look chan struct{} // has something when it is to look again
	stop func()

	// What was discovered last, and whether it is so now; where the OpenAPI document of version 3 is, if
	// there is one. These are guarded by Server.mu.
	known    resources
	fresh    bool
	document handler3.OpenAPIV3DiscoveryGroupVersion

	description description
}

func (r *remote) run(ctx context.Context) {
	wait := firstWait
	for ctx.Err() == nil {
		err := r.check(ctx)
		r.tell(ctx, err)
		if err == nil {
			err = r.discover(ctx)
		} else {
			r.stale()
		}
		next := every
		if err != nil {
			next, wait = wait, min(2*wait, maxWait)
		} else {
			wait = firstWait
		}
		again := time.NewTimer(next)
		select {
		case <-again.C:
		case <-r.look:
		case <-ctx.Done():
		}
		again.Stop()
	}
}

// absent is why a server is not available, with the reason of the condition.
type absent struct{ reason, message string }

func (a *absent) Error() string { return a.message }

// check returns nil if the server is there, else an *absent with Kubernetes' words.
func (r *remote) check(ctx context.Context) error {
	view, at := r.Store.View(), r.spec.Service
	obj, ok := view.Get(kind.Services.Key(at.Namespace, at.Name))
	if !ok {
		return &absent{"ServiceNotFound", fmt.Sprintf("service/%s in %q is not present", at.Name, at.Namespace)}
	}
	if service := obj.(*corev1.Service); service.Spec.Type == corev1.ServiceTypeClusterIP {
		if err := r.checkEndpoints(view, service); err != nil {
			return err
		}
	}
	if err := r.ask(ctx, r.root(), nil); err != nil {
		return &absent{"FailedDiscoveryCheck", err.Error()}
	}
	return nil
}

func (r *remote) checkEndpoints(view *store.View, service *corev1.Service) error {
	at, name, found := r.spec.Service, "", false
	for _, port := range service.Spec.Ports {
		if port.Port == *at.Port {
			name, found = port.Name, true
			break
		}
	}
	if !found {
		return &absent{"ServicePortError", fmt.Sprintf("service/%s in %q is not listening on port %d", at.Name, at.Namespace, *at.Port)}
	}
	slices, active := 0, false
	for obj := range view.List(kind.EndpointSlices, at.Namespace) {
		slice := obj.(*discoveryv1.EndpointSlice)
		if slice.Labels[discoveryv1.LabelServiceName] != at.Name {
			continue
		}
		slices++
		active = active || hasEndpoint(slice, name)
	}
	switch {
	case slices == 0:
		return &absent{"EndpointsNotFound", fmt.Sprintf("cannot find endpointslices for service/%s in %q", at.Name, at.Namespace)}
	case !active:
		return &absent{"MissingEndpoints", fmt.Sprintf("endpointslices for service/%s in %q have no addresses with port name %q", at.Name, at.Namespace, name)}
	}
	return nil
}

func hasEndpoint(slice *discoveryv1.EndpointSlice, port string) bool {
	ready := false
	for i := range slice.Endpoints {
		ready = ready || ptr.Deref(slice.Endpoints[i].Conditions.Ready, true)
	}
	for _, p := range slice.Ports {
		if p.Name != nil && *p.Name == port && p.Port != nil {
			return ready
		}
	}
	return false
}

// root is what the server has to serve.
func (r *remote) root() string {
	if r.name == "v1." {
		return "/api/" + r.spec.Version
	}
	return "/apis/" + r.spec.Group + "/" + r.spec.Version
}

// tell writes the condition, if it is another one than before.
func (r *remote) tell(ctx context.Context, err error) {
	condition := apiregistrationv1.APIServiceCondition{
		Type: apiregistrationv1.Available, Status: apiregistrationv1.ConditionTrue,
		Reason: "Passed", Message: "all checks passed", LastTransitionTime: metav1.NewTime(r.Now().Truncate(time.Second)),
	}
	if why := new(absent); errors.As(err, &why) {
		condition.Status, condition.Reason, condition.Message = apiregistrationv1.ConditionFalse, why.reason, why.message
	}
	key := kind.APIServices.Key("", r.name)
	for ctx.Err() == nil {
		obj, ok := r.Store.View().Get(key)
		if !ok {
			return
		}
		stored := obj.(*apiregistrationv1.APIService)
		if c := helper.GetAPIServiceConditionByType(stored, apiregistrationv1.Available); c != nil &&
			c.Status == condition.Status && c.Reason == condition.Reason && c.Message == condition.Message {
			return
		}
		next := stored.DeepCopy()
		helper.SetAPIServiceCondition(next, condition)
		var set change.Set
		set.Update(key, change.RevOf(stored), next)
		_, err := r.Store.Apply(ctx, set)
		var conflict *store.ConflictError
		if !errors.As(err, &conflict) {
			if err != nil && ctx.Err() == nil {
				r.Logger.Warn("the status of an APIService was not written", "name", r.name, "err", err)
			}
			return
		}
	}
}
