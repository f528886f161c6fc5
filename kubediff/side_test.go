package kubediff

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	genericapirequest "k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/apiserver/pkg/warning"
	"k8s.io/kubernetes/pkg/api/legacyscheme"
	_ "k8s.io/kubernetes/pkg/apis/batch/install"
	_ "k8s.io/kubernetes/pkg/apis/coordination/install"
	_ "k8s.io/kubernetes/pkg/apis/core/install"
	"k8s.io/kubernetes/pkg/capabilities"
	"k8s.io/kubernetes/pkg/registry/batch/cronjob"
	"k8s.io/kubernetes/pkg/registry/batch/job"
	"k8s.io/kubernetes/pkg/registry/coordination/lease"
	"k8s.io/kubernetes/pkg/registry/core/configmap"
	"k8s.io/kubernetes/pkg/registry/core/event"
	"k8s.io/kubernetes/pkg/registry/core/namespace"
	"k8s.io/kubernetes/pkg/registry/core/node"
	"k8s.io/kubernetes/pkg/registry/core/pod"
	"k8s.io/kubernetes/pkg/registry/core/secret"
	"k8s.io/kubernetes/pkg/registry/core/serviceaccount"

	"github.com/sampan-batch/sampan/internal/kind"
	"github.com/sampan-batch/sampan/internal/server/strategy"
)

// verb is what is done with an object.
type verb string

const (
	create verb = "create"
	update verb = "update"
	status verb = "status" // an update through /status
)

// side is one of the two that are compared.
type side struct {
	scheme *runtime.Scheme
	rules  map[request]rules
	// rereads: what is answered is read back from the disk, and gets its defaults anew.
	rereads bool
}

// rules are what k8s.io/apiserver holds a write to.
type rules interface {
	rest.RESTCreateStrategy
	rest.RESTUpdateStrategy
}

// request says which rules apply.
type request struct {
	gvk    schema.GroupVersionKind
	status bool
}

// the resources that are compared.
var (
	jobKind         = batchv1.SchemeGroupVersion.WithKind("Job")
	cronJobKind     = batchv1.SchemeGroupVersion.WithKind("CronJob")
	cronJobBetaKind = schema.GroupVersionKind{Group: batchv1.GroupName, Version: "v1beta1", Kind: "CronJob"}
	podKind         = corev1.SchemeGroupVersion.WithKind("Pod")
	namespaceKind   = corev1.SchemeGroupVersion.WithKind("Namespace")
	nodeKind        = corev1.SchemeGroupVersion.WithKind("Node")
	configMapKind   = corev1.SchemeGroupVersion.WithKind("ConfigMap")
	secretKind      = corev1.SchemeGroupVersion.WithKind("Secret")
	accountKind     = corev1.SchemeGroupVersion.WithKind("ServiceAccount")
	eventKind       = corev1.SchemeGroupVersion.WithKind("Event")
	leaseKind       = coordinationv1.SchemeGroupVersion.WithKind("Lease")
	resources       = map[schema.GroupVersionKind]string{
		jobKind: "jobs", cronJobKind: "cronjobs", cronJobBetaKind: "cronjobs", podKind: "pods",
		namespaceKind: "namespaces", nodeKind: "nodes", configMapKind: "configmaps", secretKind: "secrets", accountKind: "serviceaccounts", eventKind: "events", leaseKind: "leases",
	}
)

// ours is Sampan: the rows, in the form in which the server uses them.
func ours() (*side, error) {
	table := kind.Table()
	scheme, err := kind.NewScheme(table)
	if err != nil {
		return nil, err
	}
	kinds, err := kind.NewKinds(table...)
	if err != nil {
		return nil, err
	}
	s := &side{scheme: scheme, rules: make(map[request]rules)}
	for gvk := range resources {
		row := kinds.ByGVK(gvk)
		write := strategy.Of(s.scheme, row, gvk.GroupVersion())
		s.rules[request{gvk, false}] = write
		if row.Status != nil {
			s.rules[request{gvk, true}] = write.Through(*row.Status)
		}
	}
	return s, nil
}

// theirs is Kubernetes: the strategies of kube-apiserver, as kubeadm starts it.
func theirs() *side {
	capabilities.Setup(true, 0) // --allow-privileged
	s := &side{scheme: legacyscheme.Scheme, rules: make(map[request]rules), rereads: true}
	s.rules[request{jobKind, false}] = job.Strategy
	s.rules[request{jobKind, true}] = job.StatusStrategy
	for _, gvk := range []schema.GroupVersionKind{cronJobKind, cronJobBetaKind} {
		s.rules[request{gvk, false}] = cronjob.Strategy
		s.rules[request{gvk, true}] = cronjob.StatusStrategy
	}
	s.rules[request{podKind, false}] = pod.Strategy
	s.rules[request{podKind, true}] = pod.StatusStrategy
	s.rules[request{namespaceKind, false}] = namespace.Strategy
	s.rules[request{namespaceKind, true}] = namespace.StatusStrategy
	s.rules[request{nodeKind, false}] = node.Strategy
	s.rules[request{nodeKind, true}] = node.StatusStrategy
	s.rules[request{configMapKind, false}] = configmap.Strategy
	s.rules[request{secretKind, false}] = secret.Strategy
	s.rules[request{accountKind, false}] = serviceaccount.Strategy
	s.rules[request{eventKind, false}] = event.Strategy
	s.rules[request{leaseKind, false}] = lease.Strategy
	return s
}

// answer is what a request comes to.
type answer struct {
	// Error is the message of the answer that refuses it, Causes are its details.
	Error    string
	Causes   []string
	Warnings []string
	// Object is what is stored, in the version of the request; nil if it is refused.
	Object runtime.Object
}

// AddWarning implements warning.Recorder. It leaves out the warning of ours that names what was
// changed in a Job that must not be: it comes with each such error (docs/differences.md, Jobs).
func (a *answer) AddWarning(_, text string) {
	if !strings.HasSuffix(text, "use kubectl replace --force -f FILE") {
		a.Warnings = append(a.Warnings, text)
	}
}

// refuse notes why there is no object.
func (a *answer) refuse(err error) {
	a.Error = err.Error()
	var refused apierrors.APIStatus
	if errors.As(err, &refused) && refused.Status().Details != nil {
		for _, c := range refused.Status().Details.Causes {
			a.Causes = append(a.Causes, fmt.Sprintf("%s: %s: %s", c.Field, c.Type, c.Message))
		}
	}
}

// equal reports whether a client could tell the two answers apart.
func (a *answer) equal(b *answer) bool {
	return a.Error == b.Error && slices.Equal(a.Causes, b.Causes) && slices.Equal(a.Warnings, b.Warnings) && sameObject(a.Object, b.Object)
}

// sameObject reports whether two objects are the same as JSON.
func sameObject(a, b runtime.Object) bool {
	return reflect.DeepEqual(a, b) || a != nil && b != nil && bytes.Equal(encode(a), encode(b))
}

func encode(object runtime.Object) []byte {
	text, err := json.Marshal(object)
	if err != nil {
		panic(err)
	}
	return text
}

// creation is when everything is created, and uid what it is given.
var creation = time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)

const uid = "11111111-2222-3333-4444-555555555555"

// do carries out a request. old is what is there; nil for a create. Both are in the
// version of the request, and stay as they are. A panic is an answer, too.
func (s *side) do(v verb, object, old runtime.Object) (a *answer) {
	a = new(answer)
	defer func() {
		if r := recover(); r != nil {
			*a = answer{Error: fmt.Sprint("panic: ", r)}
		}
	}()
	gvk := object.GetObjectKind().GroupVersionKind()
	obj := s.decoded(object)
	apply := s.rules[request{gvk, v == status}]
	ctx := s.context(a, v, gvk)
	var err error
	if v == create {
		err = s.create(ctx, apply, obj)
	} else {
		err = rest.BeforeUpdate(apply, ctx, obj, s.decoded(old))
	}
	if err != nil {
		a.refuse(err)
		return a
	}
	a.Object = s.stored(obj, gvk)
	return a
}

// context is that of the request, whose warnings a notes.
func (s *side) context(a *answer, v verb, gvk schema.GroupVersionKind) context.Context {
	info := &genericapirequest.RequestInfo{
		IsResourceRequest: true, APIGroup: gvk.Group, APIVersion: gvk.Version, Namespace: metav1.NamespaceDefault, Resource: resources[gvk],
	}
	if v == status {
		info.Subresource = "status"
	}
	ctx := genericapirequest.WithNamespace(context.Background(), metav1.NamespaceDefault)
	return warning.WithWarningRecorder(genericapirequest.WithRequestInfo(ctx, info), a)
}

// decoded is what the side makes of an object that it was sent: a copy in its own
// form, with defaults. To read the text, which comes before, is the same code, and the
// same types, on both sides.
func (s *side) decoded(object runtime.Object) runtime.Object {
	copied := object.DeepCopyObject()
	s.scheme.Default(copied)
	group := object.GetObjectKind().GroupVersionKind().Group
	obj, err := s.scheme.UnsafeConvertToVersion(copied, schema.GroupVersion{Group: group, Version: runtime.APIVersionInternal})
	if err != nil {
		panic(err)
	}
	return obj
}

// stored is an object as it is answered.
func (s *side) stored(obj runtime.Object, gvk schema.GroupVersionKind) runtime.Object {
	versioned, err := s.scheme.ConvertToVersion(obj, gvk.GroupVersion())
	if err != nil {
		panic(err)
	}
	if s.rereads {
		s.scheme.Default(versioned)
	}
	versioned.GetObjectKind().SetGroupVersionKind(gvk)
	return versioned
}

func (s *side) create(ctx context.Context, apply rules, obj runtime.Object) error {
	m, err := meta.Accessor(obj)
	if err != nil {
		return err
	}
	// As a storage does it before it asks the strategy.
	rest.FillObjectMetaSystemFields(m)
	m.SetUID(uid)
	m.SetCreationTimestamp(metav1.NewTime(creation))
	if m.GetName() == "" && m.GetGenerateName() != "" {
		m.SetName(m.GetGenerateName() + "x2x4x")
	}
	return rest.BeforeCreate(apply, ctx, obj)
}

// withStatus returns a created object with the status that its manifest says.
func withStatus(made, manifest runtime.Object) runtime.Object {
	from, to := reflect.ValueOf(manifest).Elem().FieldByName("Status"), reflect.ValueOf(made).Elem().FieldByName("Status")
	if from.IsValid() && !from.IsZero() {
		to.Set(from)
	}
	return made
}
