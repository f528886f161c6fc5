package plan

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// Overrides are what a user wants otherwise than the manifest says, this time.
type Overrides struct {
	// Env are variables; Args, unless nil, takes the place of all args.
	Env   []corev1.EnvVar
	Args  []string
	Image string
	// Container is the one that is meant; "" means the only one, or, for Env, all.
	Container string
}

// none: everything is as it is written.
func (o Overrides) none() bool { return len(o.Env) == 0 && !o.single() && o.Container == "" }

// single: they can be meant for one container only.
func (o Overrides) single() bool { return o.Args != nil || o.Image != "" }

// Apply changes the containers of a pod that are meant. It errs when it cannot tell which
// those are.
func (o Overrides) Apply(spec *corev1.PodSpec) error {
	if o.none() {
		return nil
	}
	meant := o.meant(spec)
	switch {
	case len(meant) == 0:
		return fmt.Errorf("--container: there is no %q; the containers are %s", o.Container, strings.Join(containerNames(spec), ", "))
	case len(meant) > 1 && o.single():
		return fmt.Errorf("%s for which container? Name one by --container: %s", o.which(), strings.Join(containerNames(spec), ", "))
	}
	for _, c := range meant {
		c.Image = cmp.Or(o.Image, c.Image)
		if o.Args != nil {
			c.Args = slices.Clone(o.Args)
		}
		for _, v := range o.Env {
			setVariable(c, v)
		}
	}
	return nil
}

// which begins the question what is meant by what can be for one container only.
func (o Overrides) which() string {
	switch {
	case o.Image == "":
		return "--arg is"
	case o.Args == nil:
		return "--image is"
	}
	return "--arg and --image are"
}

func (o Overrides) meant(spec *corev1.PodSpec) []*corev1.Container {
	var meant []*corev1.Container
	for i := range spec.Containers {
		if c := &spec.Containers[i]; o.Container == "" || o.Container == c.Name {
			meant = append(meant, c)
		}
	}
	return meant
}

func containerNames(spec *corev1.PodSpec) []string {
	var names []string
	for i := range spec.Containers {
		names = append(names, spec.Containers[i].Name)
	}
	return names
}

// setVariable replaces a variable where it stands, for later ones may refer to it.
func setVariable(c *corev1.Container, v corev1.EnvVar) {
	if i := slices.IndexFunc(c.Env, func(old corev1.EnvVar) bool { return old.Name == v.Name }); i >= 0 {
		c.Env[i] = v
		return
	}
	c.Env = append(c.Env, v)
}

// override changes what the run is about: every Job and Pod that has a container that is
// meant. What can be meant for one only is refused where there are several.
func (p *planner) override(items []*item) {
	if p.Overrides.none() {
		return
	}
	var meant []*item
	var names, others []string
	for _, it := range items {
		if it.role != Work {
			continue
		}
		if len(p.Overrides.meant(&it.pod.Spec)) > 0 {
			meant, names = append(meant, it), append(names, it.origin)
		} else {
			others = append(others, containerNames(&it.pod.Spec)...)
		}
	}
	switch {
	case len(meant) == 0 && len(others) > 0:
		slices.Sort(others)
		p.errs = append(p.errs, fmt.Errorf("--container: there is no %q; the containers are %s", p.Overrides.Container, some(slices.Compact(others))))
	case len(meant) > 1 && p.Overrides.single():
		p.errs = append(p.errs, fmt.Errorf("%s for which of %s? Give that one to a run of its own, or name a container by --container that no other has", p.Overrides.which(), some(names)))
	default:
		for _, it := range meant {
			if err := p.Overrides.Apply(&it.pod.Spec); err != nil {
				p.errs = append(p.errs, fmt.Errorf("%s: %w", it.origin, err))
			}
		}
	}
}
