package podspec

import (
	"reflect"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// containers checks the app containers.
func (c *checker) containers(path *field.Path) {
	containers := c.spec.Containers
	if len(containers) == 0 {
		c.required(path, "")
		return
	}
	names := sets.New[string]()
	for i := range containers {
		ctr, at := &containers[i], path.Index(i)
		c.container(at, ctr)
		if names.Has(ctr.Name) {
			c.add(field.Duplicate(at.Child("name"), ctr.Name))
		}
		names.Insert(ctr.Name)
		c.running(at, ctr)
		c.restartPolicy(at, ctr)
		c.restartRules(at, ctr)
	}
	c.hostPortConflicts(path, containers)
}

// initContainers checks the init containers. Their names must differ from
// those of the app containers too.
func (c *checker) initContainers(path *field.Path) {
	names := sets.New[string]()
	for _, ctr := range c.spec.Containers {
		names.Insert(ctr.Name)
	}
	for i := range c.spec.InitContainers {
		ctr, at := &c.spec.InitContainers[i], path.Index(i)
		c.container(at, ctr)
		c.restartPolicy(at, ctr)
		if ctr.RestartPolicy != nil {
			c.restartRules(at, ctr)
		}
		if names.Has(ctr.Name) {
			c.add(field.Duplicate(at.Child("name"), ctr.Name))
		} else if ctr.Name != "" {
			names.Insert(ctr.Name)
		}
		// Init containers run one after another: each for itself.
		c.hostPortConflicts(path, []corev1.Container{*ctr})
		if IsSidecar(ctr) {
			c.running(at, ctr)
		} else {
			c.notRunning(at, ctr)
			for j, p := range ctr.ResizePolicy {
				if p.RestartPolicy == corev1.RestartContainer {
					c.addRule(ruleInitResizeRestart, field.Invalid(at.Child("resizePolicy").Index(j).Child("restartPolicy"),
						p.RestartPolicy, "must not be set to 'RestartContainer' for non-sidecar initContainers"))
				}
			}
		}
	}
}

// running checks the fields of a container that runs while the pod does.
func (c *checker) running(path *field.Path, ctr *corev1.Container) {
	if ctr.Lifecycle != nil {
		c.lifecycle(path.Child("lifecycle"), ctr.Lifecycle)
	}
	c.livenessProbe(path.Child("livenessProbe"), ctr.LivenessProbe)
	c.readinessProbe(path.Child("readinessProbe"), ctr.ReadinessProbe)
	c.startupProbe(path.Child("startupProbe"), ctr.StartupProbe)
}

// notRunning refuses those fields in an init container that runs to its end.
func (c *checker) notRunning(path *field.Path, ctr *corev1.Container) {
	const detail = "may not be set for init containers without restartPolicy=Always"
	if ctr.Lifecycle != nil {
		c.forbidden(path.Child("lifecycle"), detail)
	}
	if ctr.LivenessProbe != nil {
		c.forbidden(path.Child("livenessProbe"), detail)
	}
	if ctr.ReadinessProbe != nil {
		c.forbidden(path.Child("readinessProbe"), detail)
	}
	if ctr.StartupProbe != nil {
		c.forbidden(path.Child("startupProbe"), detail)
	}
}

// ephemeralFields are the fields that an ephemeral container may set.
func ephemeralFields() sets.Set[string] {
	return sets.New("Name", "Image", "Command", "Args", "WorkingDir", "EnvFrom", "Env", "VolumeMounts",
		"VolumeDevices", "TerminationMessagePath", "TerminationMessagePolicy", "ImagePullPolicy",
		"SecurityContext", "Stdin", "StdinOnce", "TTY")
}

// ephemeralContainers checks containers that were added to a running pod.
func (c *checker) ephemeralContainers(path *field.Path) {
	if len(c.spec.EphemeralContainers) == 0 {
		return
	}
	const detail = "cannot be set for an Ephemeral Container"
	targets := sets.New[string]()
	for _, list := range [][]corev1.Container{c.spec.Containers, c.spec.InitContainers} {
		for _, ctr := range list {
			targets.Insert(ctr.Name)
		}
	}
	names := targets.Clone()
	for i := range c.spec.EphemeralContainers {
		e, at := &c.spec.EphemeralContainers[i], path.Index(i)
		c.container(at, asContainer(e))
		c.imageSpaces(at, asContainer(e))
		if names.Has(e.Name) {
			c.add(field.Duplicate(at.Child("name"), e.Name))
		}
		names.Insert(e.Name)
		if e.TargetContainerName != "" && !targets.Has(e.TargetContainerName) {
			c.add(field.NotFound(at.Child("targetContainerName"), e.TargetContainerName))
		}
		c.onlyFields(at, e.EphemeralContainerCommon, ephemeralFields(), detail)
		for j, m := range e.VolumeMounts {
			mount := at.Child("volumeMounts").Index(j)
			if m.SubPath != "" {
				c.forbidden(mount.Child("subPath"), detail)
			}
			if m.SubPathExpr != "" {
				c.forbidden(mount.Child("subPathExpr"), detail)
			}
		}
	}
}

// onlyFields refuses every field of the struct value that is set and not in
// allowed.
func (c *checker) onlyFields(path *field.Path, value any, allowed sets.Set[string], detail string) {
	v := reflect.ValueOf(value)
	for i := range v.NumField() {
		f := v.Type().Field(i)
		if allowed.Has(f.Name) || reflect.DeepEqual(v.Field(i).Interface(), reflect.Zero(f.Type).Interface()) {
			continue
		}
		c.forbidden(path.Child(strings.ToLower(f.Name[:1])+f.Name[1:]), detail)
	}
}

// container checks what all sorts of containers have in common.
func (c *checker) container(path *field.Path, ctr *corev1.Container) {
	if ctr.Name == "" {
		c.required(path.Child("name"), "")
	} else {
		c.dnsLabel(path.Child("name"), ctr.Name)
	}
	if ctr.Image == "" {
		c.required(path.Child("image"), "")
	}
	requiredOneOf(c, path.Child("terminationMessagePolicy"), ctr.TerminationMessagePolicy,
		corev1.TerminationMessageReadFile, corev1.TerminationMessageFallbackToLogsOnError)
	c.ports(path.Child("ports"), ctr.Ports)
	c.env(path.Child("env"), ctr.Env)
	c.envFrom(path.Child("envFrom"), ctr.EnvFrom)
	c.mounts(path.Child("volumeMounts"), ctr)
	c.devices(path.Child("volumeDevices"), ctr)
	c.pullPolicy(path.Child("imagePullPolicy"), ctr.ImagePullPolicy)
	c.containerResources(path.Child("resources"), &ctr.Resources)
	c.resizePolicy(path.Child("resizePolicy"), ctr.ResizePolicy)
	c.securityContext(path.Child("securityContext"), ctr.SecurityContext)
}

func (c *checker) pullPolicy(path *field.Path, policy corev1.PullPolicy) {
	requiredOneOf(c, path, policy, corev1.PullAlways, corev1.PullIfNotPresent, corev1.PullNever)
}

// imageSpaces refuses spaces around an image's name, which templates may have.
func (c *checker) imageSpaces(path *field.Path, ctr *corev1.Container) {
	if strings.TrimSpace(ctr.Image) != ctr.Image {
		c.invalid(path.Child("image"), ctr.Image, "must not have leading or trailing whitespace")
	}
}

// restartPolicy checks a container's own restart policy.
func (c *checker) restartPolicy(path *field.Path, ctr *corev1.Container) {
	switch {
	case ctr.RestartPolicy != nil:
		oneOf(c, path.Child("restartPolicy"), *ctr.RestartPolicy, corev1.ContainerRestartPolicyAlways,
			corev1.ContainerRestartPolicyNever, corev1.ContainerRestartPolicyOnFailure)
	case len(ctr.RestartPolicyRules) > 0:
		c.required(path.Child("restartPolicy"), "must specify restartPolicy when restart rules are used")
	}
}

// restartRules checks the exceptions from a container's own restart policy.
func (c *checker) restartRules(path *field.Path, ctr *corev1.Container) {
	const maxRules, maxCodes = 20, 255
	rules := path.Child("restartPolicyRules")
	if n := len(ctr.RestartPolicyRules); n > maxRules {
		c.add(field.TooMany(rules, n, maxRules))
	}
	for i, r := range ctr.RestartPolicyRules {
		at := rules.Index(i)
		oneOf(c, at.Child("action"), r.Action,
			corev1.ContainerRestartRuleActionRestart, corev1.ContainerRestartRuleActionRestartAllContainers)
		if r.ExitCodes == nil {
			c.required(at.Child("exitCodes"), "must be specified")
			continue
		}
		oneOf(c, at.Child("exitCodes", "operator"), r.ExitCodes.Operator,
			corev1.ContainerRestartRuleOnExitCodesOpIn, corev1.ContainerRestartRuleOnExitCodesOpNotIn)
		if n := len(r.ExitCodes.Values); n > maxCodes {
			c.add(field.TooMany(at.Child("exitCodes", "values"), n, maxCodes))
		}
	}
}
