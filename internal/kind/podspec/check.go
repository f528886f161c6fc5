package podspec

import (
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metavalidation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// rule names a rule that Kubernetes began to enforce when objects that break it
// already existed. Such a rule is not held against an update of an object that
// broke it before.
type rule int

const (
	always rule = iota
	ruleAffinitySelectorValue
	ruleNodeAffinityValue
	ruleTopologySelector
	ruleTopologyMatchKeys
	ruleTokenPath
	ruleHostSysctl
	ruleHugePagesMultiple
	ruleSysAdmin
	ruleImageReference
	ruleHostUsersDevices
	ruleInitResizeRestart
	ruleDeletionCost
)

// checker walks one spec. It carries what rules far apart in the tree need
// from each other, and collects what they find, in the order of the walk.
type checker struct {
	spec *corev1.PodSpec
	// meta is the pod's own metadata; nil for a template.
	meta *metav1.ObjectMeta
	// volumes holds the valid volumes, by name.
	volumes map[string]*corev1.VolumeSource
	// claims are the names of the pod's resource claims.
	claims sets.Set[string]

	errs  field.ErrorList
	rules []rule // of the error at the same index
}

func newChecker(spec *corev1.PodSpec, meta *metav1.ObjectMeta) *checker {
	return &checker{spec: spec, meta: meta}
}

// result returns what was found, without what the old state already broke.
// old repeats the walk over that state. It only runs when there is something
// to forgive.
func (c *checker) result(old func() *checker) field.ErrorList {
	if !slices.ContainsFunc(c.rules, func(r rule) bool { return r != always }) {
		return c.errs
	}
	broken := sets.New(old().rules...)
	var out field.ErrorList
	for i, err := range c.errs {
		if c.rules[i] == always || !broken.Has(c.rules[i]) {
			out = append(out, err)
		}
	}
	return out
}

func (c *checker) add(errs ...*field.Error) { c.addRule(always, errs...) }

func (c *checker) addRule(r rule, errs ...*field.Error) {
	for _, err := range errs {
		c.errs = append(c.errs, err)
		c.rules = append(c.rules, r)
	}
}

func (c *checker) invalid(path *field.Path, value any, detail string) {
	c.add(field.Invalid(path, value, detail))
}

func (c *checker) required(path *field.Path, detail string) {
	c.add(field.Required(path, detail))
}

func (c *checker) forbidden(path *field.Path, detail string) {
	c.add(field.Forbidden(path, detail))
}

// invalidEach adds one error for each of msgs, which the validators of names
// return.
func (c *checker) invalidEach(path *field.Path, value any, msgs []string) {
	for _, msg := range msgs {
		c.invalid(path, value, msg)
	}
}

func (c *checker) dnsLabel(path *field.Path, value string) {
	c.invalidEach(path, value, validation.IsDNS1123Label(value))
}

func (c *checker) dnsSubdomain(path *field.Path, value string) {
	c.invalidEach(path, value, validation.IsDNS1123Subdomain(value))
}

func (c *checker) qualifiedName(path *field.Path, value string) {
	c.invalidEach(path, value, validation.IsQualifiedName(value))
}

func (c *checker) nonNegative(path *field.Path, value int64) {
	c.add(apivalidation.ValidateNonnegativeField(value, path)...)
}

// labelSelector checks a selector; values that are no label values fall under r.
func (c *checker) labelSelector(path *field.Path, sel *metav1.LabelSelector, r rule) {
	lenient := sets.New[string]()
	for _, err := range metavalidation.ValidateLabelSelector(sel, metavalidation.LabelSelectorValidationOptions{
		AllowInvalidLabelValueInSelector: true,
	}, path) {
		lenient.Insert(err.Error())
	}
	for _, err := range metavalidation.ValidateLabelSelector(sel, metavalidation.LabelSelectorValidationOptions{}, path) {
		if lenient.Has(err.Error()) {
			c.add(err)
		} else {
			c.addRule(r, err)
		}
	}
}

// oneOf demands one of allowed, and says so in the order that they have here.
// The zero value is not excepted.
func oneOf[T ~string](c *checker, path *field.Path, value T, allowed ...T) {
	if !slices.Contains(allowed, value) {
		c.add(field.NotSupported(path, value, allowed))
	}
}

// requiredOneOf is oneOf, with its own complaint about the zero value.
func requiredOneOf[T ~string](c *checker, path *field.Path, value T, allowed ...T) {
	if value == "" {
		c.required(path, "")
		return
	}
	oneOf(c, path, value, allowed...)
}

// sortedKeys returns the keys of m in order, so that causes come in the same
// order every time.
func sortedKeys[K ~string, V any](m map[K]V) []K {
	return slices.Sorted(maps.Keys(m))
}

// visitContainers calls f with every container of spec and its path: init
// containers first, ephemeral ones last.
func visitContainers(spec *corev1.PodSpec, path *field.Path, f func(*corev1.Container, *field.Path)) {
	for i := range spec.InitContainers {
		f(&spec.InitContainers[i], path.Child("initContainers").Index(i))
	}
	for i := range spec.Containers {
		f(&spec.Containers[i], path.Child("containers").Index(i))
	}
	for i := range spec.EphemeralContainers {
		f(asContainer(&spec.EphemeralContainers[i]), path.Child("ephemeralContainers").Index(i))
	}
}

// asContainer shows an ephemeral container as an ordinary one.
func asContainer(e *corev1.EphemeralContainer) *corev1.Container {
	return (*corev1.Container)(&e.EphemeralContainerCommon)
}

// IsSidecar reports whether an init container keeps running beside the others.
func IsSidecar(c *corev1.Container) bool {
	return c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways
}

// noBacksteps refuses a path with an element "..".
func (c *checker) noBacksteps(path *field.Path, value string) {
	if slices.Contains(strings.Split(value, "/"), "..") {
		c.invalid(path, value, "must not contain '..'")
	}
}

// descendingPath demands a relative path without an element "..".
func (c *checker) descendingPath(path *field.Path, value string) {
	if strings.HasPrefix(value, "/") {
		c.invalid(path, value, "must be a relative path")
	}
	c.noBacksteps(path, value)
}

// filePath is descendingPath that does not begin with "..", which kubelets
// reserve inside a volume.
func (c *checker) filePath(path *field.Path, value string) {
	c.descendingPath(path, value)
	if strings.HasPrefix(value, "..") && !strings.HasPrefix(value, "../") {
		c.invalid(path, value, "must not start with '..'")
	}
}
