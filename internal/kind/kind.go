// Package kind is the table of API resources: one row per resource, with its
// names, types, defaults, admission, validation, warnings, table columns, selectable
// fields and deletion rules. It is where Kubernetes' own rules for an object live;
// who stores, serves or reconciles an object is not its business. And the other way
// round: what somebody has to know of one kind, and not of another, is a field of the
// row, so that nobody else asks what kind an object is of.
//
// The versioned types of k8s.io/api are the hub types too: nothing is ever
// converted, except where one object is served in two API groups or versions
// (Events; CronJobs).
//
// Table lists the rows, each in a file of its own name; the rules of pods and
// their templates are in podspec. A Catalogue is a table in use, which may grow.
// NewScheme is how k8s.io/apiserver sees the rows, Codec how the store does, and
// package openapi how clients do.
//
// Field paths, messages and the order of errors are Kubernetes' own. Where it
// walks a map in random order, a row walks it sorted.
package kind

import (
	"iter"
	"strings"
	"time"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/kind/upstream"
)

// Kind is one row: all that is known about one resource. Nil functions mean that
// there is nothing to do. Functions that receive an object to change (Default, Admit,
// Prepare, Canonicalize, Begin) own it; all others must not modify what they are given.
type Kind struct {
	Names
	Types
	// Versions are further versions, of this group or another, over the same objects.
	Versions []Version
	// Elsewhere: another part of the server has the rules, and the row says only what the
	// store and the controllers have to know. (Custom objects)
	Elsewhere bool

	Create Create
	Update Update
	// Status and Finalize are the rules of a write through /status and /finalize; nil
	// means that there is no such subresource. Prepare carries over from old what
	// may not be changed there.
	Status, Finalize *Update
	// Scale is set where there is the subresource of that name.
	Scale *Scale
	// Parts are the subresources through which a part of the object is written that a write
	// of the whole does not change.
	Parts []Part
	// Approval are those of a write through /approval. (CertificateSigningRequests)
	Approval *Update
	// Subresources are the others, which are not writes of the object that they belong to.
	Subresources []Subresource
	// Canonicalize gives an object that was found valid the form in which it is kept.
	Canonicalize func(obj Object)
	// Warn returns the warnings that the API answers with; old is nil on create.
	Warn func(obj, old Object) []string

	Select     Select
	Table      Printer
	Storage    Storage
	Deletion   Deletion
	Dependents Dependents
	// Rights is set where an object lets users do something. (Roles, bindings)
	Rights *Rights
	// Rare: no part of this program asks the API for it. A group of such kinds only is
	// served when a client first asks for one.
	Rare bool
	// NoEffect says why nothing comes of an object here, in the words of a warning that
	// answers its creation: the kind is kept so that manifests apply. "": it has effect.
	NoEffect string
}

// Names are what the resource is called.
type Names struct {
	// Resource is how keys name it: the plural, and the group. "jobs.batch"
	Resource   change.Resource
	Singular   string
	ShortNames []string
	Categories []string
	Namespaced bool
	// GVK is the version that is stored.
	GVK schema.GroupVersionKind
}

// Types are the Go types of the stored version.
type Types struct {
	New     func() Object
	NewList func() runtime.Object
	// Default fills in what a manifest leaves out. The scheme calls it when an
	// object of the stored version is decoded.
	Default func(obj Object)
	// AddToScheme adds what the scheme needs for the resource besides its two types:
	// those that its subresources take and give.
	AddToScheme func(*runtime.Scheme) error
}

// Version is another version in which the resource is served. What it leaves open
// is as in the row.
type Version struct {
	GroupVersion schema.GroupVersion
	// AddToScheme adds its types, and how they are converted to and from the row's.
	AddToScheme func(*runtime.Scheme) error
	// Validate takes the place of the row's rules; old is nil on create. The objects
	// are of the stored version.
	Validate func(obj, old Object) field.ErrorList
	// Propagation takes the place of Dependents.Propagation.
	Propagation metav1.DeletionPropagation
}

// Getter finds other objects, in the state in which something is decided.
type Getter interface {
	Get(key change.Key) (Object, bool)
	// List yields those of a resource: of one namespace, or of all if namespace is "".
	List(resource change.Resource, namespace string) iter.Seq[Object]
}

// None is a Getter where there is nothing.
type None struct{}

// Get implements Getter.
func (None) Get(change.Key) (Object, bool) { return nil, false }

// List implements Getter.
func (None) List(change.Resource, string) iter.Seq[Object] { return func(func(Object) bool) {} }

// Request is the request of a client, as far as rules have to know of it.
type Request = upstream.Request

// Create is what becomes of a new object, in this order.
type Create struct {
	// Admit does what Kubernetes' admission does, whoever creates the object; the
	// error says why it is forbidden.
	Admit func(obj Object, others Getter) error
	// Prepare drops what may not be set (status), begins metadata.generation,
	// generates labels and selectors.
	Prepare func(obj Object)
	// Requester writes into a prepared object who creates it, where it says that.
	Requester func(obj Object, by Requester)
	Validate  func(obj Object) field.ErrorList
	// ValidateFor takes the place of Validate for a client's request: some rules depend on
	// who asks, and on the namespace that he asks in. nil: Validate does.
	ValidateFor func(req *Request, obj Object) field.ErrorList
	// Declared returns all that is wrong with obj: errs, which Validate and k8s.io/apiserver
	// have found, and what the tags of its types say. nil: that is in Validate.
	Declared func(obj Object, errs field.ErrorList) field.ErrorList
	// Limit says why a valid object is forbidden all the same, in view of others.
	Limit func(obj Object, others Getter) error
	// Signer is as in Update. (ClusterTrustBundles)
	Signer func(obj Object) (verb, signer string)
	// FromTemplate: what controllers create comes from a template that was validated
	// with the object that it is part of. To do it once more for each would cost
	// several times what the rest of its creation does. (Pods)
	FromTemplate bool
}

// Requester is who makes a request.
type Requester struct {
	Name, UID string
	Groups    []string
	Extra     map[string][]string
}

// Check returns all that is wrong with a new object that is prepared.
func (c *Create) Check(obj Object) field.ErrorList {
	errs := c.Validate(obj)
	if c.Declared != nil {
		errs = c.Declared(obj, errs)
	}
	return errs
}

// Update is what becomes of a changed object, in this order; metadata included.
type Update struct {
	Admit    func(obj, old Object)
	Prepare  func(obj, old Object)
	Validate func(obj, old Object) field.ErrorList
	// ValidateFor is as in Create.
	ValidateFor func(req *Request, obj, old Object) field.ErrorList
	// Declared is as in Create.
	Declared func(obj, old Object, errs field.ErrorList) field.ErrorList
	// Limit is as in Create.
	Limit func(obj, old Object, others Getter) error
	// Advise returns what a client is told, in warnings, whose update was found invalid. (Jobs)
	Advise func(obj, old Object, errs field.ErrorList) []string
	// ResetFields are the fields that the write does not change, by version, as server-side
	// apply has to know; nil: those that a kind with spec and status has.
	ResetFields func() map[fieldpath.APIVersion]*fieldpath.Set
	// ResetFilter takes the place of ResetFields where it is easier to say which fields the
	// write does change.
	ResetFilter func() map[fieldpath.APIVersion]fieldpath.Filter
	// MayCreate lets a PUT create. (Leases, Events)
	MayCreate bool
	// Signer returns what a user has to be allowed besides: to do what verb says in the name of a
	// signer. No verb, or no signer: nothing. (CertificateSigningRequests, ClusterTrustBundles)
	Signer func(obj, old Object) (verb, signer string)
	// Conditional refuses a PUT without a resourceVersion. (Leases)
	Conditional bool
}

// Part is a subresource that writes a part of the object. Its Prepare carries over from old
// all that is not in the part.
type Part struct {
	Name Subresource
	Update
}

// Subresource is what a URL asks for behind the name of an object. What it does is
// the server's to know; a server that does not is not started.
type Subresource string

// The subresources besides status, finalize and scale.
const (
	Log         Subresource = "log"
	Exec        Subresource = "exec"
	Attach      Subresource = "attach"
	PortForward Subresource = "portforward"
	Binding     Subresource = "binding"
	Eviction    Subresource = "eviction"
	Token       Subresource = "token"
	Proxy       Subresource = "proxy"

	EphemeralContainers Subresource = "ephemeralcontainers"
	Resize              Subresource = "resize"
)

// Select is by what objects are found.
type Select struct {
	// Fields returns the selectable fields beyond metadata.name and
	// metadata.namespace, under their Kubernetes names.
	Fields func(obj Object) fields.Set
	// Aliases are further names of these, and what they stand for.
	Aliases map[string]string
	// Index returns the terms under which the store indexes the object.
	Index func(obj Object) []string
}

// Printer prints the table of the server, with Kubernetes' own columns. Wide-only
// columns have Priority 1. Cells returns one cell per column.
type Printer struct {
	Columns []metav1.TableColumnDefinition
	Cells   func(obj Object, now time.Time) []any
	// List changes what the rows of a list say, in view of each other; may be nil.
	// (StorageClasses)
	List func(rows []metav1.TableRow)
}

// Storage is how the objects are kept.
type Storage struct {
	// BestEffort: they are not worth waiting for the disk. (Events)
	BestEffort bool
	// Erase: nothing of them may stay on the disk when they are deleted or replaced. (Secrets)
	Erase bool
	// Implied says in an object that was read what its stored form leaves out; nil: nothing.
	// (StatefulSets: protobuf has no apiVersion and kind of what lies in an object)
	Implied func(obj Object)
}

// Deletion is what a DELETE does.
type Deletion struct {
	// Refuse says why obj is never deleted; nil if it may be.
	Refuse func(obj Object) error
	// Grace returns the grace period in seconds; nil: 0 always. asked is what the
	// client asked for, nil if nothing.
	Grace func(obj Object, asked *int64) int64
	// Begin makes obj say that its deletion has begun, beyond its metadata.
	Begin func(obj Object)
	// Held reports whether something besides metadata.finalizers keeps obj.
	Held func(obj Object) bool
	// ReturnsObject: the answer is the object as it was, and not only the news that
	// it is gone. (Pods, ServiceAccounts)
	ReturnsObject bool
	// OneByOne: there is no verb deletecollection. (Namespaces)
	OneByOne bool
}

// Dependents is what becomes of the objects that name one of these as their owner,
// and of one of these whose owner is gone.
type Dependents struct {
	// Propagation is what a DELETE without propagationPolicy means; "": Background.
	Propagation metav1.DeletionPropagation
	// Warning is what such a DELETE is answered with, where it orphans.
	Warning string
	// Unsupported: a DELETE takes no propagationPolicy. (Events)
	Unsupported bool
	// None: controllers know that nothing depends on one, and do not wait to see. (Pods)
	None bool
	// Tracked is set where a controller keeps an object until it is counted.
	Tracked *Tracked
}

// Rights is what an object of the resource lets users do. Nobody gives what he does not
// have himself, unless he may "escalate" the resource or "bind" the role.
type Rights struct {
	// Rules are what a role lets do; RoleRef is the role that a binding gives. One of
	// them is set.
	Rules   func(obj Object) []rbacv1.PolicyRule
	RoleRef func(obj Object) rbacv1.RoleRef
	// Aggregates reports whether a role gathers the rules of others, so that it may come to
	// give whatever they do; may be nil.
	Aggregates func(obj Object) bool
}

// Tracked objects carry a finalizer of who controls them. They lose it when they lose
// their owner. (Pods of Jobs)
type Tracked struct {
	Finalizer string
	By        schema.GroupVersionKind
}

// Plural is the resource as it stands in a URL: "jobs".
func (n *Names) Plural() string {
	plural, _, _ := strings.Cut(string(n.Resource), ".")
	return plural
}

// GR is the group and resource, as the API's errors name it.
func (n *Names) GR() schema.GroupResource {
	return schema.GroupResource{Group: n.GVK.Group, Resource: n.Plural()}
}

// Key returns the key of the named object of this kind.
func (n *Names) Key(namespace, name string) change.Key { return n.Resource.Key(namespace, name) }

// KeyOf returns the key of obj.
func (n *Names) KeyOf(obj metav1.Object) change.Key {
	return n.Resource.Key(obj.GetNamespace(), obj.GetName())
}

// GVKs returns every group, version and kind under which the resource is
// served: the stored one first.
func (k *Kind) GVKs() []schema.GroupVersionKind {
	gvks := []schema.GroupVersionKind{k.GVK}
	for i := range k.Versions {
		gvks = append(gvks, k.Versions[i].GroupVersion.WithKind(k.GVK.Kind))
	}
	return gvks
}

// Version returns what is different in a version; nil if nothing is.
func (k *Kind) Version(gv schema.GroupVersion) *Version {
	for i := range k.Versions {
		if k.Versions[i].GroupVersion == gv {
			return &k.Versions[i]
		}
	}
	return nil
}
