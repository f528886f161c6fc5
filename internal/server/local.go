package server

import (
	"context"
	"fmt"

	"k8s.io/apimachinery/pkg/apis/meta/internalversion"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/sampan-batch/sampan/internal/change"
)

// Watch is a watch of a resource for who is in this process, in all namespaces: with the options,
// the events and the errors of one through the API, but nothing is encoded, sent and decoded.
// Only the outermost struct of an object may be changed, its metadata included: all
// below it is the store's.
func (s *Server) Watch(ctx context.Context, of change.Resource, o metav1.ListOptions) (watch.Interface, error) {
	k := s.o.Kinds.ByResource(of)
	if k == nil {
		return nil, fmt.Errorf("%s: there is no such resource", of)
	}
	var options internalversion.ListOptions
	if err := internalversion.Convert_v1_ListOptions_To_internalversion_ListOptions(&o, &options, nil); err != nil {
		return nil, err
	}
	// Its encodings are its own: nobody shares what nobody encodes.
	r := &resource{shared: &shared{store: s.o.Store, encodings: newEncodings()}, kind: k}
	return r.Watch(ctx, &options)
}
