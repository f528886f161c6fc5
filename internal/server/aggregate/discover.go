package aggregate

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"

	apidiscoveryv2 "k8s.io/api/apidiscovery/v2"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/endpoints"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/transport"
	"k8s.io/kube-openapi/pkg/handler3"

	"github.com/sampan-batch/sampan/internal/store"
)

// maxDocument is how much a server may tell of what it serves.
const maxDocument = 16 << 20

// resources are what a server has in its version.
type resources = []apidiscoveryv2.APIResourceDiscovery

// aggregatorUser is who asks servers for what they have.
var aggregatorUser = &user.DefaultInfo{Name: "system:kube-aggregator", Groups: []string{user.SystemPrivilegedGroup}}

// ask asks the server for a path, as one that may ask for anything. read is given the answer;
// nil: it is enough that there is one.
func (r *remote) ask(ctx context.Context, path string, read func(contentType string, body []byte) error, accept ...string) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	at, err := r.locate(&r.spec, path)
	if err != nil {
		return err
	}
	through, err := r.transport(&r.spec)
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, at.String(), nil)
	if err != nil {
		return err
	}
	request.Header["Accept"] = accept
	transport.SetAuthProxyHeaders(request, aggregatorUser.Name, "", aggregatorUser.Groups, nil)
	client := &http.Client{Transport: through, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	answer, err := client.Do(request)
	if err != nil {
		client.CloseIdleConnections()
		return fmt.Errorf("failing or missing response from %v: %w", at, err)
	}
	defer answer.Body.Close()
	if answer.StatusCode < http.StatusOK || answer.StatusCode >= http.StatusMultipleChoices {
		return fmt.Errorf("failing or missing response from %v: bad status from %v: %d", at, at, answer.StatusCode)
	}
	if read == nil {
		return nil
	}
	body, err := io.ReadAll(io.LimitReader(answer.Body, maxDocument+1))
	if err == nil && len(body) > maxDocument {
		err = fmt.Errorf("the answer from %v is larger than %d MiB", at, maxDocument>>20)
	}
	if err != nil {
		return err
	}
	if err := r.Bounds(body); err != nil {
		return fmt.Errorf("the answer from %v has too much in it: %w", at, err)
	}
	return read(answer.Header.Get("Content-Type"), body)
}

// discover asks the server what it serves, and tells it to who discovers.
func (r *remote) discover(ctx context.Context) error {
	known, err := r.resources(ctx)
	if err != nil {
		r.stale()
		return err
	}
	r.publish(known)
	var index handler3.OpenAPIV3DiscoveryGroupVersion
	err = r.ask(ctx, strings.TrimSuffix(documents, "/"), func(_ string, body []byte) error {
		var all handler3.OpenAPIV3Discovery
		if err := json.Unmarshal(body, &all); err != nil {
			return err
		}
		path := strings.TrimPrefix(r.root(), "/")
		if d := all.Paths[path]; strings.HasPrefix(d.ServerRelativeURL, documents+path) {
			index = d
		}
		return nil
	}, "application/json")
	if err != nil {
		r.Logger.Debug("an API describes itself in no OpenAPI of version 3", "name", r.name, "err", err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.document = index
	return nil
}

// resources are those of the version: by aggregated discovery, else by what there was before.
func (r *remote) resources(ctx context.Context) (found resources, err error) {
	var list apidiscoveryv2.APIGroupDiscoveryList
	aggregated := false
	err = r.ask(ctx, "/apis", func(contentType string, body []byte) error {
		media, parameters, _ := mime.ParseMediaType(contentType)
		aggregated = media == "application/json" && parameters["g"] == "apidiscovery.k8s.io" && parameters["v"] == "v2" && parameters["as"] == "APIGroupDiscoveryList"
		if !aggregated {
			return nil
		}
		return json.NewDecoder(bytes.NewReader(body)).Decode(&list)
	}, discovery.AcceptV2)
	if err == nil && aggregated {
		for _, g := range list.Items {
			for _, v := range g.Versions {
				if g.Name == r.spec.Group && v.Version == r.spec.Version {
					return v.Resources, nil
				}
			}
		}
		return nil, nil
	}
	err = r.ask(ctx, r.root(), func(_ string, body []byte) error {
		var list metav1.APIResourceList
		if err := json.Unmarshal(body, &list); err != nil {
			return err
		}
		found, err = endpoints.ConvertGroupVersionIntoToDiscovery(list.APIResources)
		return err
	}, "application/json")
	return found, err
}

// publish tells what the server serves.
func (r *remote) publish(known resources) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.known = known
	r.tellDiscovery(true)
}

// stale says that what is told of the server is what was last known.
func (r *remote) stale() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tellDiscovery(false)
}

// tellDiscovery is called with mu held.
func (r *remote) tellDiscovery(fresh bool) {
	if r.remotes[r.name] != r {
		return // it was stopped
	}
	r.fresh = fresh
	freshness := apidiscoveryv2.DiscoveryFreshnessStale
	if fresh {
		freshness = apidiscoveryv2.DiscoveryFreshnessCurrent
	}
	for i := range r.known { // clients have crashed without (kubernetes/kubernetes#118361)
		resource := &r.known[i]
		if resource.ResponseKind == nil {
			resource.ResponseKind = &metav1.GroupVersionKind{}
		}
		for j := range resource.Subresources {
			if resource.Subresources[j].ResponseKind == nil {
				resource.Subresources[j].ResponseKind = &metav1.GroupVersionKind{}
			}
		}
	}
	r.Discovery.AddGroupVersion(r.spec.Group, apidiscoveryv2.APIVersionDiscovery{Version: r.spec.Version, Freshness: freshness, Resources: r.known})
	r.Discovery.SetGroupVersionPriority(r.groupVersion(), int(r.spec.GroupPriorityMinimum), int(r.spec.VersionPriority))
}

func (r *remote) groupVersion() metav1.GroupVersion {
	return metav1.GroupVersion{Group: r.spec.Group, Version: r.spec.Version}
}

// list lets clients discover that there is a version, before its server was asked. It is
// called with mu held, as is forget.
func (s *Server) list(view *store.View, r *remote) {
	r.tellDiscovery(false)
	if g := groupOf(view, r.spec.Group); g != nil && !s.Own(g.Name) {
		s.Groups.AddGroup(*g)
	}
}

// forget ends what list began.
func (s *Server) forget(view *store.View, r *remote) {
	s.Discovery.RemoveGroupVersion(r.groupVersion())
	switch g := groupOf(view, r.spec.Group); {
	case s.Own(r.spec.Group):
	case g != nil:
		s.Groups.AddGroup(*g)
	default:
		s.Groups.RemoveGroup(r.spec.Group)
	}
}
