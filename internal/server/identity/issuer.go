package identity

import (
	"context"
	"crypto/ecdsa"
	"fmt"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/kubernetes/pkg/apis/authentication"
	upstream "k8s.io/kubernetes/pkg/apis/authentication/v1"
	"k8s.io/kubernetes/pkg/apis/authentication/validation"
	"k8s.io/kubernetes/pkg/apis/core"
	"k8s.io/kubernetes/pkg/serviceaccount"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/kind"
)

// IssuerURL is who tokens say that they are from, as on a cluster that kubeadm has made.
const IssuerURL = "https://kubernetes.default.svc.cluster.local"

// Audiences are whom a token has to be for, to be good for the API.
func Audiences() authenticator.Audiences { return authenticator.Audiences{IssuerURL} }

// TokenRequestKind is what is posted to serviceaccounts/token.
var TokenRequestKind = authenticationv1.SchemeGroupVersion.WithKind("TokenRequest")

// Issuer gives tokens to who asks for them.
type Issuer struct {
	sign serviceaccount.TokenGenerator
	// signSecret signs tokens that Secrets keep, which have another issuer.
	signSecret serviceaccount.TokenGenerator
	now        func() time.Time
}

// NewIssuer returns an issuer that signs with key.
func NewIssuer(key *ecdsa.PrivateKey, now func() time.Time) (*Issuer, error) {
	sign, err := serviceaccount.JWTTokenGenerator(IssuerURL, key)
	if err != nil {
		return nil, fmt.Errorf("sign tokens: %w", err)
	}
	signSecret, err := serviceaccount.JWTTokenGenerator(serviceaccount.LegacyIssuer, key)
	if err != nil {
		return nil, fmt.Errorf("sign tokens: %w", err)
	}
	return &Issuer{sign: sign, signSecret: signSecret, now: now}, nil
}

// Issue answers a TokenRequest for an account of a namespace: with a copy of it that has the token in
// its status. Errors are those of the API. objects is the state that the request is judged by;
// validate, which may be nil, is asked before anything is looked up that the token is bound to.
func (i *Issuer) Issue(ctx context.Context, objects kind.Getter, namespace, name string,
	req *authenticationv1.TokenRequest, validate func(*authenticationv1.TokenRequest) error) (*authenticationv1.TokenRequest, error) {
	if err := named(req, namespace, name); err != nil {
		return nil, err
	}
	account, err := find[*corev1.ServiceAccount](objects, kind.ServiceAccounts, namespace, name)
	if err != nil {
		return nil, err
	}
	if req.UID != "" && req.UID != account.UID {
		return nil, apierrors.NewConflict(schema.GroupResource{Group: TokenRequestKind.Group, Resource: TokenRequestKind.Kind}, name,
			fmt.Errorf("the UID in the token request (%s) does not match the UID of the service account (%s)", req.UID, account.UID))
	}
	out := req.DeepCopy()
	i.complete(out, account)
	if errs := validation.ValidateTokenRequest(internal(out)); len(errs) > 0 {
		return nil, apierrors.NewInvalid(TokenRequestKind.GroupKind(), "", errs)
	}
	if validate != nil {
		if err := validate(out); err != nil {
			return nil, err
		}
	}
	to, err := bind(objects, namespace, name, out.Spec.BoundObjectRef)
	if err != nil {
		return nil, err
	}
	return out, i.issue(ctx, out, account, to)
}

// named refuses a request whose body is about another account than its URL.
func named(req *authenticationv1.TokenRequest, namespace, name string) error {
	wrong := func(field1, value, what string) error {
		return apierrors.NewInvalid(TokenRequestKind.GroupKind(), name, field.ErrorList{
			field.Invalid(field.NewPath("metadata").Child(field1), value, "must match the service account "+what+" if specified")})
	}
	switch {
	case req.Name != "" && req.Name != name:
		return wrong("name", req.Name, "name")
	case req.Namespace != "" && req.Namespace != namespace:
		return wrong("namespace", req.Namespace, "namespace")
	}
	return nil
}

func (i *Issuer) complete(req *authenticationv1.TokenRequest, account *corev1.ServiceAccount) {
	upstream.SetDefaults_TokenRequestSpec(&req.Spec)
	if len(req.Spec.Audiences) == 0 {
		req.Spec.Audiences = Audiences()
	}
	req.Name, req.Namespace, req.UID = account.Name, account.Namespace, account.UID
	req.CreationTimestamp = metav1.NewTime(i.now())
	req.Status = authenticationv1.TokenRequestStatus{}
}

// internal returns the type that Kubernetes validates.
func internal(req *authenticationv1.TokenRequest) *authentication.TokenRequest {
	out := &authentication.TokenRequest{}
	if err := upstream.Convert_v1_TokenRequest_To_authentication_TokenRequest(req, out, nil); err != nil {
		panic(fmt.Sprintf("identity: convert a TokenRequest: %v", err)) // their fields are the same
	}
	return out
}

// bound is what a token is bound to: nothing, or one object, and a pod's node beside it.
type bound struct {
	pod    *core.Pod
	secret *core.Secret
	node   *core.Node
}

// bind looks up what a request wants its token bound to.
func bind(objects kind.Getter, namespace, account string, ref *authenticationv1.BoundObjectReference) (bound, error) {
	var to bound
	if ref == nil {
		return to, nil
	}
	gvk := schema.FromAPIVersionAndKind(ref.APIVersion, ref.Kind)
	var uid types.UID
	switch {
	case gvk.Group == "" && gvk.Kind == "Pod":
		pod, err := find[*corev1.Pod](objects, kind.Pods, namespace, ref.Name)
		if err != nil {
			return to, err
		}
		if account != pod.Spec.ServiceAccountName {
			return to, apierrors.NewBadRequest(fmt.Sprintf("cannot bind token for serviceaccount %q to pod running with different serviceaccount name.", account))
		}
		uid, to.pod, to.node = pod.UID, &core.Pod{ObjectMeta: pod.ObjectMeta}, nodeOf(objects, pod)
	case gvk.Group == "" && gvk.Kind == "Node":
		node, err := find[*corev1.Node](objects, kind.Nodes, "", ref.Name)
		if err != nil {
			return to, err
		}
		uid, to.node = node.UID, &core.Node{ObjectMeta: node.ObjectMeta}
	case gvk.Group == "" && gvk.Kind == "Secret":
		secret, err := find[*corev1.Secret](objects, kind.Secrets, namespace, ref.Name)
		if err != nil {
			return to, err
		}
		uid, to.secret = secret.UID, &core.Secret{ObjectMeta: secret.ObjectMeta}
	default:
		return to, unbindable(gvk)
	}
	if ref.UID != "" && uid != ref.UID {
		return to, apierrors.NewConflict(schema.GroupResource{Group: gvk.Group, Resource: gvk.Kind}, ref.Name,
			fmt.Errorf("the UID in the bound object reference (%s) does not match the UID in record. The object might have been deleted and then recreated", ref.UID))
	}
	return to, nil
}

// nodeOf is the node of a pod as its token names it: without a uid if there is no such node any
// more, nil if the pod has none.
func nodeOf(objects kind.Getter, pod *corev1.Pod) *core.Node {
	name := pod.Spec.NodeName
	if name == "" {
		return nil
	}
	node, err := find[*corev1.Node](objects, kind.Nodes, "", name)
	if err != nil {
		return &core.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}
	}
	return &core.Node{ObjectMeta: node.ObjectMeta}
}

func unbindable(gvk schema.GroupVersionKind) error {
	if gvk.GroupVersion().String() == "admissionregistration.k8s.io/v1" &&
		(gvk.Kind == "ValidatingWebhookConfiguration" || gvk.Kind == "MutatingWebhookConfiguration") {
		return apierrors.NewBadRequest(fmt.Sprintf("cannot bind token to object of type %s (feature gate APIServerWebhookAuthenticationToken is disabled)", gvk))
	}
	return apierrors.NewBadRequest(fmt.Sprintf("cannot bind token to object of type %s", gvk))
}

// issue signs the token. One for a pod that asks for what admission asks for lives for a year, as in
// Kubernetes (--service-account-extend-token-expiration): it ends with its pod anyway, and a program
// that reads its file once goes on working. That it should have been renewed is in the token.
func (i *Issuer) issue(ctx context.Context, out *authenticationv1.TokenRequest, account *corev1.ServiceAccount, to bound) error {
	life, warnAfter := *out.Spec.ExpirationSeconds, int64(0)
	if to.pod != nil && life == serviceaccount.WarnOnlyBoundTokenExpirationSeconds && forAPIOnly(out.Spec.Audiences) {
		life, warnAfter = serviceaccount.ExpirationExtensionSeconds, life
	}
	public, private, err := serviceaccount.Claims(core.ServiceAccount{ObjectMeta: account.ObjectMeta}, to.pod, to.secret, to.node, nil, nil,
		life, warnAfter, out.Spec.Audiences, nil)
	if err != nil {
		return apierrors.NewInternalError(err)
	}
	token, err := i.sign.GenerateToken(ctx, public, private)
	if err != nil {
		return apierrors.NewInternalError(fmt.Errorf("failed to generate token: %w", err))
	}
	end := out.CreationTimestamp.Add(time.Duration(*out.Spec.ExpirationSeconds) * time.Second)
	out.Status = authenticationv1.TokenRequestStatus{Token: token, ExpirationTimestamp: metav1.NewTime(end)}
	return nil
}

func forAPIOnly(audiences []string) bool {
	for _, a := range audiences {
		if a != IssuerURL {
			return false
		}
	}
	return true
}

// find returns an object, or the API's error for one that is not there.
func find[T change.Object](objects kind.Getter, resource change.Resource, namespace, name string) (T, error) {
	obj, ok := objects.Get(resource.Key(namespace, name))
	if !ok {
		var none T
		return none, apierrors.NewNotFound(corev1.Resource(string(resource)), name)
	}
	return obj.(T), nil
}
