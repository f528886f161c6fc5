package aggregate

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"slices"
	"time"

	apidiscoveryv2 "k8s.io/api/apidiscovery/v2"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/authentication/serviceaccount"
	"k8s.io/apiserver/pkg/authentication/user"
	genericapirequest "k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
	"k8s.io/kube-aggregator/pkg/apis/apiregistration/v1/helper"
	"k8s.io/utils/ptr"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/kind"
	"github.com/sampan-batch/sampan/internal/store"
)

// emptying is how long a server may take to delete, or to list, what it keeps of a namespace.
const emptying = 30 * time.Second

// undertaker is who empties namespaces in Kubernetes; servers ask by what rights. (bootstrappolicy)
var undertaker = func() user.Info {
	who := serviceaccount.UserInfo(metav1.NamespaceSystem, "namespace-controller", "")
	return &user.DefaultInfo{Name: who.GetName(), Groups: append(slices.Clone(who.GetGroups()), user.AllAuthenticated)}
}()

// Undiscovered returns why it is not known of all other servers what they serve, in the words of a
// namespace's condition; "" if it is.
func (s *Server) Undiscovered() string {
	view := s.Store.View()
	failed := map[schema.GroupVersion]error{}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, api := range elsewhere(view) {
		if r := s.remotes[api.Name]; r == nil || !r.fresh {
			gv := schema.GroupVersion{Group: api.Spec.Group, Version: api.Spec.Version}
			failed[gv] = fmt.Errorf("stale GroupVersion discovery: %v", gv)
		}
	}
	if len(failed) == 0 {
		return ""
	}
	return fmt.Sprintf("Discovery failed for some groups, %d failing: %v", len(failed), &discovery.ErrGroupDiscoveryFailed{Groups: failed})
}

// elsewhere are the APIServices that other servers answer for, the preferred version of a group first.
func elsewhere(view *store.View) []*apiregistrationv1.APIService {
	var all []*apiregistrationv1.APIService
	for obj := range view.List(kind.APIServices, "") {
		if kind.ServedElsewhere(obj) {
			all = append(all, obj.(*apiregistrationv1.APIService))
		}
	}
	if len(all) < 2 {
		return all
	}
	return slices.Concat(helper.SortedByGroupAndVersion(all)...)
}

// Empty deletes what other servers keep in a namespace, as Kubernetes' namespace controller does. It
// returns the finalizers of each object that is left, by resource, and why what was not deleted.
func (s *Server) Empty(ctx context.Context, namespace string) (left map[change.Resource][][]string, failures []string) {
	client, err := metadata.NewForConfigAndClient(&rest.Config{Host: "https://localhost", QPS: -1}, &http.Client{Transport: inside{s, undertaker}})
	if err != nil {
		return nil, []string{err.Error()}
	}
	left = map[change.Resource][][]string{}
	for _, c := range s.collections() {
		held, err := c.empty(ctx, client.Resource(c.GroupVersionResource).Namespace(namespace), namespace)
		if len(held) > 0 {
			left[change.Resource(c.GroupResource().String())] = held
		}
		if err != nil {
			failures = append(failures, err.Error())
		}
	}
	return left, failures
}

// collection is a resource of another server, of which there is something in each namespace.
type collection struct {
	schema.GroupVersionResource
	verbs []string
}

// collections are those of all that can be deleted, each in the version that is preferred.
func (s *Server) collections() []collection {
	var all []collection
	known := map[schema.GroupResource]bool{}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, api := range elsewhere(s.Store.View()) {
		r := s.remotes[api.Name]
		if r == nil || !r.fresh {
			continue
		}
		for i := range r.known {
			of := schema.GroupVersionResource{Group: api.Spec.Group, Version: api.Spec.Version, Resource: r.known[i].Resource}
			if r.known[i].Scope == apidiscoveryv2.ScopeNamespace && slices.Contains(r.known[i].Verbs, "delete") && !known[of.GroupResource()] {
				known[of.GroupResource()] = true
				all = append(all, collection{of, r.known[i].Verbs})
			}
		}
	}
	return all
}

// empty deletes what there is of a collection, and returns what is left.
func (c *collection) empty(ctx context.Context, at metadata.ResourceInterface, namespace string) (left [][]string, err error) {
	if err := c.remove(ctx, at); err != nil {
		return nil, err
	}
	items, err := c.list(ctx, at)
	held := false
	for i := range items {
		left = append(left, items[i].Finalizers)
		held = held || len(items[i].Finalizers) > 0
	}
	if err == nil && len(items) > 0 && !held {
		err = fmt.Errorf("unexpected items still remain in namespace: %s for gvr: %v", namespace, c.GroupVersionResource)
	}
	return left, err
}

// remove deletes all at once, or, where the server has no verb for that, one after the other.
func (c *collection) remove(ctx context.Context, at metadata.ResourceInterface) error {
	background := metav1.DeleteOptions{PropagationPolicy: ptr.To(metav1.DeletePropagationBackground)}
	if slices.Contains(c.verbs, "deletecollection") {
		ctx, cancel := context.WithTimeout(ctx, emptying)
		defer cancel()
		if err := at.DeleteCollection(ctx, background, metav1.ListOptions{}); !unsupported(err) {
			return err
		}
	}
	items, err := c.list(ctx, at)
	if err != nil {
		return err
	}
	for i := range items {
		if err := c.removeOne(ctx, at, items[i].Name, background); err != nil && !unsupported(err) {
			return err
		}
	}
	return nil
}

func (c *collection) removeOne(ctx context.Context, at metadata.ResourceInterface, name string, how metav1.DeleteOptions) error {
	ctx, cancel := context.WithTimeout(ctx, emptying)
	defer cancel()
	return at.Delete(ctx, name, how)
}

func (c *collection) list(ctx context.Context, at metadata.ResourceInterface) ([]metav1.PartialObjectMetadata, error) {
	if !slices.Contains(c.verbs, "list") {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, emptying)
	defer cancel()
	list, err := at.List(ctx, metav1.ListOptions{})
	if unsupported(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return list.Items, nil
}

// unsupported reports whether a server says that it has no such verb, or that nothing is there.
func unsupported(err error) bool {
	return apierrors.IsMethodNotSupported(err) || apierrors.IsNotFound(err)
}

// inside is the way of a client in this process to what other servers serve: as that of others, with an
// answer that is no larger than it may be.
type inside struct {
	*Server
	who user.Info
}

// RoundTrip implements http.RoundTripper.
func (i inside) RoundTrip(r *http.Request) (*http.Response, error) {
	api := named(i.Store.View(), r.URL.Path)
	if api == nil {
		return &http.Response{StatusCode: http.StatusNotFound, Header: http.Header{}, Body: http.NoBody, Request: r}, nil
	}
	var w answer
	i.proxy(&w, r.WithContext(genericapirequest.WithUser(r.Context(), i.who)), api)
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	if w.full {
		return nil, fmt.Errorf("the answer is larger than %d MiB", maxDocument>>20)
	}
	if media, _, _ := mime.ParseMediaType(w.Header().Get("Content-Type")); media == "application/json" {
		if err := i.Bounds(w.body.Bytes()); err != nil {
			return nil, fmt.Errorf("the answer has too much in it: %w", err)
		}
	}
	return &http.Response{StatusCode: w.status, Header: w.Header(), Body: io.NopCloser(&w.body), ContentLength: int64(w.body.Len()), Request: r}, nil
}

// answer keeps an answer, as far as it is not too large.
type answer struct {
	header http.Header
	status int
	body   bytes.Buffer
	full   bool
}

// Header implements http.ResponseWriter.
func (a *answer) Header() http.Header {
	if a.header == nil {
		a.header = http.Header{}
	}
	return a.header
}

// WriteHeader implements http.ResponseWriter.
func (a *answer) WriteHeader(status int) {
	if status >= http.StatusOK { // else another one follows
		a.status = status
	}
}

// Write implements http.ResponseWriter.
func (a *answer) Write(p []byte) (int, error) {
	if a.status == 0 {
		a.status = http.StatusOK
	}
	if a.body.Len()+len(p) > maxDocument {
		a.full = true
		return 0, errFull
	}
	return a.body.Write(p)
}

var errFull = errors.New("the answer is too large")
