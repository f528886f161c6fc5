// Package aggregate serves the parts of the API that other servers answer: those of which an
// APIService says that a Service does (docs/adr/0017).
//
// It costs nothing as long as nobody asks for APIServices and none names a Service. Then each
// of these has a goroutine, remote.run, which asks its server whether it is there, for the
// status, and what it serves, for discovery. Requests are proxied with the name of their user
// in headers, and the certificate by which a server knows that these can be trusted.
package aggregate

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/endpoints/discovery"
	"k8s.io/apiserver/pkg/endpoints/discovery/aggregated"
	"k8s.io/client-go/transport"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/kind"
	"github.com/sampan-batch/sampan/internal/server/backend"
	"github.com/sampan-batch/sampan/internal/store"
)

// Options are what the API has that this is a part of. All are required.
type Options struct {
	Store    *store.Store
	Services *backend.Services
	Now      func() time.Time
	Logger   *slog.Logger
	// Certificate is by which other servers know this one, PEM.
	Certificate func() (cert, key []byte, err error)
	// Local are the groups that this server answers itself, besides the core's.
	Local func(r *http.Request) ([]metav1.APIGroup, error)
	// Own reports whether a group is of this program, whoever has versions of it.
	Own func(group string) bool
	// Groups are those that /apis lists, Discovery is what aggregated discovery tells.
	Groups    discovery.GroupManager
	Discovery aggregated.ResourceManager
	// Serializer encodes what is told of a group.
	Serializer runtime.NegotiatedSerializer
	// Bounds refuses a document that takes too much to work on.
	Bounds func([]byte) error
}

// Server is the part of the API that others answer.
type Server struct {
	Options
	dial *transport.DialHolder

	mu      sync.Mutex
	remotes map[string]*remote // by the name of their APIService

	merged merged
}

// New returns the server. Nothing of it runs before Run.
func New(o Options) *Server {
	return &Server{Options: o, dial: &transport.DialHolder{Dial: o.Services.Dial}, remotes: map[string]*remote{}}
}

// Run looks after the servers of APIServices until ctx ends.
func (s *Server) Run(ctx context.Context) {
	var running sync.WaitGroup
	defer running.Wait()
	backends := sync.OnceFunc(func() {
		running.Go(func() { s.heed(ctx, kind.Services) })
		running.Go(func() { s.heed(ctx, kind.EndpointSlices) })
	})
	for ctx.Err() == nil {
		view := s.Store.View()
		watch, err := s.Store.Watch(kind.APIServices, view.Rev())
		for err == nil {
			s.adopt(ctx, view, &running, backends)
			_, _, err = watch.Next(ctx)
			view = s.Store.View()
		}
		if !errors.Is(err, store.ErrGone) {
			return
		}
	}
}

// heed has remotes look again when what stands behind their Services changes.
func (s *Server) heed(ctx context.Context, resource change.Resource) {
	for ctx.Err() == nil {
		watch, err := s.Store.Watch(resource, s.Store.View().Rev())
		s.wake(func(corev1.ObjectReference) bool { return true })
		for err == nil {
			var events []store.Event
			events, _, err = watch.Next(ctx)
			for i := range events {
				at := serviceOf(events[i].Object)
				s.wake(func(of corev1.ObjectReference) bool { return of == at })
			}
		}
		if !errors.Is(err, store.ErrGone) {
			return
		}
	}
}

// serviceOf is the Service that an object is, or belongs to.
func serviceOf(obj change.Object) corev1.ObjectReference {
	at := corev1.ObjectReference{Namespace: obj.GetNamespace(), Name: obj.GetName()}
	if slice, ok := obj.(*discoveryv1.EndpointSlice); ok {
		at.Name = slice.Labels[discoveryv1.LabelServiceName]
	}
	return at
}

func (s *Server) wake(of func(corev1.ObjectReference) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.remotes {
		if of(corev1.ObjectReference{Namespace: r.spec.Service.Namespace, Name: r.spec.Service.Name}) {
			select {
			case r.look <- struct{}{}:
			default:
			}
		}
	}
}

// adopt begins to look after the servers that APIServices name, and ends it for those that
// none names any more.
func (s *Server) adopt(ctx context.Context, view *store.View, running *sync.WaitGroup, backends func()) {
	wanted := map[string]*apiregistrationv1.APIService{}
	for obj := range view.List(kind.APIServices, "") {
		if kind.ServedElsewhere(obj) {
			wanted[obj.GetName()] = obj.(*apiregistrationv1.APIService)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, r := range s.remotes {
		if api := wanted[name]; api == nil || !equality.Semantic.DeepEqual(api.Spec, r.spec) {
			r.stop()
			delete(s.remotes, name)
			s.forget(view, r)
		}
	}
	for name, api := range wanted {
		if s.remotes[name] != nil {
			continue
		}
		backends()
		r := &remote{Server: s, name: name, spec: api.Spec, look: make(chan struct{}, 1)}
		life, stop := context.WithCancel(ctx)
		r.stop = stop
		s.remotes[name] = r
		s.list(view, r)
		running.Go(func() { r.run(life) })
	}
}

// named returns the APIService that is about a path of the API; nil: none that names a Service.
func named(view *store.View, path string) *apiregistrationv1.APIService {
	name := nameOf(path)
	if name == "" {
		return nil
	}
	obj, ok := view.Get(kind.APIServices.Key("", name))
	if !ok {
		return nil
	}
	api := obj.(*apiregistrationv1.APIService)
	if api.Spec.Service == nil {
		return nil
	}
	return api
}
