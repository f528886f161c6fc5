package upstream

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/kubernetes/pkg/apis/resource"
	"k8s.io/kubernetes/pkg/registry/certificates/podcertificaterequest"
	"k8s.io/kubernetes/pkg/registry/resource/resourceclaim"
	"k8s.io/kubernetes/pkg/registry/resource/resourceclaimtemplate"
	"k8s.io/utils/clock"
)

// Request is what the strategies of some kinds have to know of a write: whose it is, and in
// which state it is decided. Kubernetes hands them a client and an authorizer when they are made;
// here they are made once for all servers of the process, and asked with a request.
type Request struct {
	// Context is that of the API request: k8s.io/apiserver keeps in it who asks for what.
	Context context.Context
	// Namespace returns a namespace, false if there is none of that name.
	Namespace func(name string) (*corev1.Namespace, bool)
	// Pods returns those of a namespace.
	Pods func(namespace string) []*corev1.Pod
	// Authorizer knows what users may do.
	Authorizer authorizer.UnconditionalAuthorizer
	// Resource returns the resource that serves the objects of a kind.
	Resource func(schema.GroupVersionKind) (schema.GroupVersionResource, error)
	// Policy returns an admission policy, by resource and name; false if there is none.
	Policy func(resource, name string) (runtime.Object, bool)
}

// requestKey is under which the context of a strategy has the request.
type requestKey struct{}

// ResourceClaim are the strategies of resource.k8s.io claims, and of their status.
func ResourceClaim() (write, status Strategy) {
	of := resourceclaim.NewStrategy(namespaces{}, rights{})
	return of, resourceclaim.NewStatusStrategy(of)
}

// ResourceClaimTemplate is the strategy of resource.k8s.io claim templates.
func ResourceClaimTemplate() Strategy { return resourceclaimtemplate.NewStrategy(namespaces{}) }

// PodCertificateRequest are the strategies of certificates.k8s.io requests of pods, and of their status:
// who writes that has to be allowed to sign, and what it says has to be of the present.
func PodCertificateRequest() (write, status Strategy) {
	of := podcertificaterequest.NewStrategy()
	return of, podcertificaterequest.NewStatusStrategy(of, rights{}, clock.RealClock{})
}

// namespaces is the client for namespaces that a strategy gets. All that is asked of it is Get.
type namespaces struct{ typedcorev1.NamespaceInterface }

// Get returns a namespace as the request sees it. What is checked without a request, a manifest
// say, is in a namespace of which nothing is known: it may be one where all is allowed.
func (namespaces) Get(ctx context.Context, name string, _ metav1.GetOptions) (*corev1.Namespace, error) {
	req, ok := ctx.Value(requestKey{}).(*Request)
	if !ok {
		return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{resource.DRAAdminNamespaceLabelKey: "true"}}}, nil
	}
	if ns, found := req.Namespace(name); found {
		return ns, nil
	}
	return nil, apierrors.NewNotFound(corev1.Resource("namespaces"), name)
}

// rights is the authorizer that a strategy gets.
type rights struct{}

// Authorize asks the authorizer of the request. Without one nobody but this program asks.
func (rights) Authorize(ctx context.Context, a authorizer.Attributes) (authorizer.Decision, string, error) {
	if req, ok := ctx.Value(requestKey{}).(*Request); ok {
		return req.Authorizer.Authorize(ctx, a)
	}
	return authorizer.DecisionAllow, "", nil
}
