// Package plan decides what becomes of an input that is to be run to its end on one
// machine, where nothing else is and nobody will come and change anything: what runs,
// what it needs, what is left out, and what could never start, which is refused before
// anything does.
//
// It is pure: from objects and a World it makes a Plan. What an object has to be, it asks
// the rows of the kinds, as the API will; whether a pod fits the machine, the core that
// places pods.
//
// In the order of events: select.go takes, leaves out or refuses each object by its kind,
// decode.go reads it strictly, clean.go takes off what another API has put on,
// cronjob.go, workload.go and claim.go make of CronJobs, of Deployments and their like, and
// of claims what can run here, override.go changes what the user wants otherwise this time,
// check.go asks the kind's row, and refer.go and fit.go find out what could never start.
package plan

import (
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/sampan-batch/sampan/internal/cron"
	"github.com/sampan-batch/sampan/internal/kind"
	"github.com/sampan-batch/sampan/internal/manifest"
)

// World is what there is besides the input.
type World struct {
	Now   time.Time
	Zones cron.Zones
	// ImageName says why a text is no name of an image.
	ImageName func(string) error
	// Namespace is that of objects that name none.
	Namespace string
	// Node is this machine, with its labels and what it has to give.
	Node *corev1.Node
	// IPv6: Services may have addresses of IPv6, too.
	IPv6 bool
	// Runtime is the class of pods that name none.
	Runtime string
	// Volumes is the directory in which claims are directories. Kept: it stays, so that
	// it may have claims that the input has not.
	Volumes string
	Kept    bool
	// Partial: something of the input could not be read, so that what seems to be missing
	// may be there.
	Partial bool
	// Strict refuses what is otherwise left out with a warning.
	Strict bool
	// OnlyJobs leaves out what never ends.
	OnlyJobs bool
	// Overrides are for what the run is about.
	Overrides Overrides
}

// Role is what an object is to a run.
type Role uint8

const (
	Support   Role = iota // is there for others
	Companion             // never ends by itself: it runs as long as there is work
	Work                  // is followed to its end
)

// Object is one that is to be created.
type Object struct {
	kind.Object
	Kind *kind.Kind
	Role Role
	// Pods is how many a companion has.
	Pods int32
	// Where it stands in the input.
	Where string
}

// Name is how it is called in messages: "job/import".
func (o Object) Name() string { return nameOf(o.Kind.GVK.Kind, o.GetName(), o.GetGenerateName()) }

// Plan is what a run does.
type Plan struct {
	// Objects are to be created in this order.
	Objects []Object
	// Namespaces are those that the objects are in and the input does not have.
	Namespaces []string
	// Claims are the directories that are to be there, empty or as they are.
	Claims []string
	// Notes are what the user should know in any case; NoEffect is what the input asks
	// for and gets nothing of here.
	Notes, NoEffect []string
}

// Make returns the plan for an input. The error joins all that keeps it from being run,
// each with its place; there is no plan then.
func Make(w World, input []manifest.Object) (*Plan, error) {
	p := &planner{World: w, kinds: kind.Cluster{DualStack: w.IPv6}.Kinds(), ineffect: map[string]*ineffective{}}
	var err error
	if p.scheme, err = kind.NewVersionedScheme(p.kinds.All()); err != nil {
		return nil, err
	}
	p.sets = newSets(input)
	items := p.unique(p.takeAll(input))
	p.companions(items)
	p.override(items)
	refs := newReferences(items)
	beside := 0 // of what is wrong
	for _, it := range items {
		p.check(it)
		switch {
		case it.pod == nil:
		case p.elsewhere(it):
			it.pods = 0
			p.note("%s has no pod here: it is for other nodes than this one", it.origin)
		default:
			p.refer(it, refs)
			p.fit(it)
			p.idle(it)
			p.noEffect(it)
		}
		p.errs = append(p.errs, it.errs...)
		if it.role == Companion {
			beside += len(it.errs)
		}
	}
	if p.work > 0 && beside > 0 && beside == len(p.errs) {
		p.errs = append(p.errs, errors.New("all of this is about what never ends, and --only-jobs leaves that out"))
	}
	p.leftOut(len(items))
	p.powerless(input, items)
	if len(p.errs) > 0 {
		return nil, errors.Join(p.errs...)
	}
	return p.plan(items), nil
}

// planner is a plan in the making.
type planner struct {
	World
	kinds  *kind.Kinds
	scheme *runtime.Scheme
	sets   sets

	errs      []error
	skipped   []string
	later     []string // what is for another time than an installation
	notes     []string
	ineffect  map[string]*ineffective // by field and reason
	ineffects []*ineffective          // the same, in the order of the input
	claims    []string
	work      int
}

// item is an object on its way into the plan.
type item struct {
	in   manifest.Object
	kind *kind.Kind
	role Role
	obj  kind.Object
	// origin is what the object is called in the input; path is the way from it there to
	// the fields of obj, "" if it is the object itself.
	origin, path string
	// pod is what it makes pods from, or is: at podPath in the input.
	pod     *corev1.PodTemplateSpec
	podPath string
	pods    int32 // how many a companion has
	claims  []claimed
	errs    []error
}

// refuse says what is wrong with a field, by its path in the input.
func (it *item) refuse(path, format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if path != "" {
		text = path + ": " + text
	}
	it.errs = append(it.errs, fmt.Errorf("%s: %s: %s", it.in.At(path), it.origin, text))
}

// spec is the path of a field of the pod's spec.
func (it *item) spec(format string, args ...any) string {
	return strings.TrimPrefix(it.podPath+".spec."+fmt.Sprintf(format, args...), ".")
}

// containers calls do with every container of the pods, and its path.
func (it *item) containers(do func(at string, c *corev1.Container)) {
	for i := range it.pod.Spec.InitContainers {
		do(it.spec("initContainers[%d]", i), &it.pod.Spec.InitContainers[i])
	}
	for i := range it.pod.Spec.Containers {
		do(it.spec("containers[%d]", i), &it.pod.Spec.Containers[i])
	}
}

// nameOf names an object.
func nameOf(kind, name, generate string) string {
	if name == "" {
		name = generate
	}
	return strings.ToLower(kind) + "/" + cmp.Or(name, "?")
}

func (p *planner) note(format string, args ...any) {
	p.notes = append(p.notes, fmt.Sprintf(format, args...))
}

// unique drops what is there twice and the same, and refuses what is there twice.
func (p *planner) unique(items []*item) []*item {
	type key struct{ resource, namespace, name string }
	first := map[key]*item{}
	return slices.DeleteFunc(items, func(it *item) bool {
		if it.obj.GetName() == "" {
			return false // a name is made for it
		}
		k := key{string(it.kind.Resource), it.obj.GetNamespace(), it.obj.GetName()}
		other := first[k]
		switch {
		case other == nil:
			first[k] = it
			return false
		case it.kind.Resource == kind.Namespaces || other.in.GetKind() == it.in.GetKind() && sameContent(it, other):
			return true
		}
		p.errs = append(p.errs, fmt.Errorf("%s: %s: the name is taken: %s has it at %s", it.in.At("metadata.name"), it.origin, other.origin, other.in.At("metadata.name")))
		return true
	})
}

// plan brings the objects into order: what others read comes first.
func (p *planner) plan(items []*item) *Plan {
	plan := &Plan{Claims: p.claims, Notes: p.notes}
	for _, i := range p.ineffects {
		plan.NoEffect = append(plan.NoEffect, i.String())
	}
	rank := func(it *item) int {
		if it.kind.Resource == kind.Namespaces {
			return -1
		}
		return int(it.role)
	}
	slices.SortStableFunc(items, func(a, b *item) int { return cmp.Compare(rank(a), rank(b)) })
	known, generated := map[string]bool{"": true, "default": true}, map[string]int{}
	for _, it := range items {
		if it.kind.Resource == kind.Namespaces {
			known[it.obj.GetName()] = true
		}
		if it.obj.GetName() == "" {
			prefix := it.obj.GetGenerateName()
			it.obj.SetName(named(prefix, generated[prefix]))
			generated[prefix]++
		}
		if ns := it.obj.GetNamespace(); !known[ns] {
			known[ns] = true
			plan.Namespaces = append(plan.Namespaces, ns)
		}
		plan.Objects = append(plan.Objects, Object{Object: it.obj, Kind: it.kind, Role: it.role, Pods: it.pods, Where: it.in.Where()})
	}
	slices.Sort(plan.Claims)
	plan.Claims = slices.Compact(plan.Claims)
	return plan
}

// named is the name of the n-th object, from 0, that asks for one with a prefix. It is the
// same each time that the input is read, so that a run can be gone on with.
func named(prefix string, n int) string {
	const letters, limit = "bcdfghjklmnpqrstvwxz2456789", 58 // as the API has it
	sum := sha256.Sum256(fmt.Appendf(nil, "%s %d", prefix, n))
	suffix := make([]byte, 5)
	for i := range suffix {
		suffix[i] = letters[int(sum[i])%len(letters)]
	}
	return prefix[:min(len(prefix), limit)] + string(suffix)
}
