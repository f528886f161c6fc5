package podspec

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	netutils "k8s.io/utils/net"
)

// Warnings returns what the API warns about when a pod is created.
func Warnings(pod *corev1.Pod) []string {
	w := warner{spec: &pod.Spec, meta: &pod.ObjectMeta, root: nil}
	return w.all()
}

// TemplateWarnings returns what the API warns about in a pod template at path.
func TemplateWarnings(tpl *corev1.PodTemplateSpec, path *field.Path) []string {
	w := warner{spec: &tpl.Spec, meta: &tpl.ObjectMeta, root: path}
	return w.all()
}

// warner walks a spec like checker does. root is nil for a pod.
type warner struct {
	spec *corev1.PodSpec
	meta *metav1.ObjectMeta
	root *field.Path
	list []string
}

func (w *warner) all() []string {
	spec := w.root.Child("spec")
	w.nodeLabels(spec)
	w.annotations()
	w.volumes(spec.Child("volumes"))
	w.paths()
	w.hostAliases(spec.Child("hostAliases"))
	w.pullSecrets(spec.Child("imagePullSecrets"))
	w.wholeBytes(spec.Child("overhead"), w.spec.Overhead)
	w.podSeccomp()
	visitContainers(w.spec, spec, w.container)
	w.ports(spec)
	if s := w.spec.TerminationGracePeriodSeconds; s != nil && *s < 0 {
		w.addf(spec.Child("terminationGracePeriodSeconds"), "must be >= 0; negative values are invalid and will be treated as 1")
	}
	w.affinity(spec.Child("affinity"))
	w.addresses(spec)
	return w.list
}

// addf adds "path: message".
func (w *warner) addf(path *field.Path, format string, args ...any) {
	w.list = append(w.list, path.String()+": "+fmt.Sprintf(format, args...))
}

// deprecatedLabel says what is to be used instead of a label of nodes.
func deprecatedLabel(key string) (message string, ok bool) {
	switch key {
	case "beta.kubernetes.io/arch":
		return `deprecated since v1.14; use "kubernetes.io/arch" instead`, true
	case "beta.kubernetes.io/os":
		return `deprecated since v1.14; use "kubernetes.io/os" instead`, true
	case corev1.LabelFailureDomainBetaRegion:
		return `deprecated since v1.17; use "topology.kubernetes.io/region" instead`, true
	case corev1.LabelFailureDomainBetaZone:
		return `deprecated since v1.17; use "topology.kubernetes.io/zone" instead`, true
	case corev1.LabelInstanceType:
		return `deprecated since v1.17; use "node.kubernetes.io/instance-type" instead`, true
	case "app.kubernetes.io/created-by":
		return `deprecated since v1.9`, true
	case "scheduler.alpha.kubernetes.io/preferAvoidPods":
		return `deprecated since v1.22; use Taints and Tolerations instead`, true
	case "node-role.kubernetes.io/master":
		return `use "node-role.kubernetes.io/control-plane" instead`, true
	}
	return "", false
}

func (w *warner) nodeLabels(path *field.Path) {
	for _, key := range sortedKeys(w.spec.NodeSelector) {
		if msg, ok := deprecatedLabel(key); ok {
			w.addf(path.Child("nodeSelector").Key(key), "%s", msg)
		}
	}
	if a := w.spec.Affinity; a != nil && a.NodeAffinity != nil {
		at := path.Child("affinity", "nodeAffinity")
		if sel := a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution; sel != nil {
			for i, term := range sel.NodeSelectorTerms {
				w.nodeTerm(at.Child(requiredTerms, "nodeSelectorTerms").Index(i), term, false)
			}
		}
		for i, term := range a.NodeAffinity.PreferredDuringSchedulingIgnoredDuringExecution {
			w.nodeTerm(at.Child(preferredTerms).Index(i).Child("preference"), term.Preference, true)
		}
	}
	for i, t := range w.spec.TopologySpreadConstraints {
		at := path.Child("topologySpreadConstraints").Index(i)
		if msg, ok := deprecatedLabel(t.TopologyKey); ok {
			w.addf(at.Child("topologyKey"), "%s is %s", t.TopologyKey, msg)
		}
		w.nullSelector(at.Child("labelSelector"), t.LabelSelector)
	}
}

// nodeTerm warns about values too where Validate lets them pass.
func (w *warner) nodeTerm(path *field.Path, term corev1.NodeSelectorTerm, values bool) {
	for i, req := range term.MatchExpressions {
		at := path.Child("matchExpressions").Index(i)
		if msg, ok := deprecatedLabel(req.Key); ok {
			w.addf(at.Child("key"), "%s is %s", req.Key, msg)
		}
		if !values {
			continue
		}
		for j, value := range req.Values {
			for _, msg := range validation.IsValidLabelValue(value) {
				w.addf(at.Child("values").Index(j), "%s is invalid, %s", value, msg)
			}
		}
	}
}

func (w *warner) nullSelector(path *field.Path, sel *metav1.LabelSelector) {
	if sel == nil {
		w.addf(path, "a null labelSelector results in matching no pod")
	}
}

func (w *warner) affinity(path *field.Path) {
	a := w.spec.Affinity
	if a == nil {
		return
	}
	terms := func(path *field.Path, required []corev1.PodAffinityTerm, preferred []corev1.WeightedPodAffinityTerm) {
		for i, t := range required {
			w.nullSelector(path.Child(requiredTerms).Index(i).Child("labelSelector"), t.LabelSelector)
		}
		for i, t := range preferred {
			w.nullSelector(path.Child(preferredTerms).Index(i).Child("podAffinityTerm", "labelSelector"), t.PodAffinityTerm.LabelSelector)
		}
	}
	if p := a.PodAffinity; p != nil {
		terms(path.Child("podAffinity"), p.RequiredDuringSchedulingIgnoredDuringExecution, p.PreferredDuringSchedulingIgnoredDuringExecution)
	}
	if p := a.PodAntiAffinity; p != nil {
		terms(path.Child("podAntiAffinity"), p.RequiredDuringSchedulingIgnoredDuringExecution, p.PreferredDuringSchedulingIgnoredDuringExecution)
	}
}

func (w *warner) annotation(key string) *field.Path {
	return w.root.Child("metadata", "annotations").Key(key)
}

func (w *warner) annotations() {
	for _, a := range []struct{ key, message string }{
		{"scheduler.alpha.kubernetes.io/critical-pod", `non-functional in v1.16+; use the "priorityClassName" field instead`},
		{"security.alpha.kubernetes.io/sysctls", `non-functional in v1.11+; use the "sysctls" field instead`},
		{"security.alpha.kubernetes.io/unsafe-sysctls", `non-functional in v1.11+; use the "sysctls" field instead`},
	} {
		if _, ok := w.meta.Annotations[a.key]; ok {
			w.addf(w.annotation(a.key), "%s", a.message)
		}
	}
}

const seccompWarning = `non-functional in v1.27+; use the "seccompProfile" field instead`

func (w *warner) podSeccomp() {
	if sc := w.spec.SecurityContext; sc != nil && sc.SeccompProfile != nil {
		return
	}
	if _, ok := w.meta.Annotations[seccompPodAnnotation]; ok {
		w.addf(w.annotation(seccompPodAnnotation), seccompWarning)
	}
}

func (w *warner) container(c *corev1.Container, path *field.Path) {
	sc := c.SecurityContext
	if sc == nil || sc.SeccompProfile == nil {
		if _, ok := w.meta.Annotations[seccompContainerAnnotation+c.Name]; ok {
			w.addf(w.annotation(seccompContainerAnnotation+c.Name), seccompWarning)
		}
	}
	pod := w.spec.SecurityContext
	if (pod == nil || pod.AppArmorProfile == nil) && (sc == nil || sc.AppArmorProfile == nil) {
		if _, ok := w.meta.Annotations[appArmorAnnotation+c.Name]; ok {
			w.addf(w.annotation(appArmorAnnotation+c.Name), `deprecated since v1.30; use the "appArmorProfile" field instead`)
		}
	}
	for _, name := range []corev1.ResourceName{corev1.ResourceMemory, corev1.ResourceEphemeralStorage} {
		w.wholeByte(path.Child("resources", "limits"), c.Resources.Limits, name)
		w.wholeByte(path.Child("resources", "requests"), c.Resources.Requests, name)
	}
	w.env(path.Child("env"), c.Env)
}

// wholeBytes warns about fractions of bytes.
func (w *warner) wholeBytes(path *field.Path, list corev1.ResourceList) {
	w.wholeByte(path, list, corev1.ResourceMemory)
	w.wholeByte(path, list, corev1.ResourceEphemeralStorage)
}

func (w *warner) wholeByte(path *field.Path, list corev1.ResourceList, name corev1.ResourceName) {
	if q, ok := list[name]; ok {
		w.fraction(path.Key(string(name)), q)
	}
}

func (w *warner) fraction(path *field.Path, q resource.Quantity) {
	if q.MilliValue()%1000 != 0 {
		w.addf(path, "fractional byte value %q is invalid, must be an integer", q.String())
	}
}

// env warns about a variable that is defined again without using what it was
// before: server-side apply and patches merge the list by name.
func (w *warner) env(path *field.Path, vars []corev1.EnvVar) {
	seen := map[string]bool{}
	for i, v := range vars {
		ref := "$(" + v.Name + ")"
		if seen[v.Name] && (v.ValueFrom != nil || v.Value == ref || !strings.Contains(v.Value, ref)) {
			w.addf(path.Index(i), "hides previous definition of %q, which may be dropped when using apply", v.Name)
		}
		seen[v.Name] = true
	}
}

// ports warns about ports that are the same for a Service, or for a merge.
func (w *warner) ports(spec *field.Path) {
	type block struct {
		path *field.Path
		port corev1.ContainerPort
	}
	all := map[string][]block{}
	visitContainers(w.spec, spec, func(c *corev1.Container, path *field.Path) {
		for i, p := range c.Ports {
			at := path.Child("ports").Index(i)
			if p.HostIP != "" && p.HostPort == 0 {
				w.addf(at, "hostIP set without hostPort: %+v", p)
			}
			key := fmt.Sprintf("%d/%s", p.ContainerPort, p.Protocol)
			for _, other := range all[key] {
				o := other.port
				switch {
				case p.HostIP == o.HostIP && p.HostPort == o.HostPort:
					w.addf(at, "duplicate port definition with %s", other.path)
				case p.HostPort == 0 || o.HostPort == 0:
					w.addf(at, "overlapping port definition with %s", other.path)
				case p.HostPort == o.HostPort && (p.HostIP == "") != (o.HostIP == ""):
					w.addf(at, "dangerously ambiguous port definition with %s", other.path)
				}
			}
			all[key] = append(all[key], block{at, p})
		}
	})
	w.portNames(spec)
}

// portNames warns about ports that nothing finds by their names.
func (w *warner) portNames(spec *field.Path) {
	first := map[string]*field.Path{}
	visitContainers(w.spec, spec, func(c *corev1.Container, path *field.Path) {
		for i, p := range c.Ports {
			at := path.Child("ports").Index(i)
			switch other, found := first[p.Name]; {
			case found:
				w.addf(at, "duplicate port name %q with %s, services and probes that select ports by name will use %s", p.Name, other, other)
			case p.Name != "":
				first[p.Name] = at
			}
		}
	})
}

func (w *warner) hostAliases(path *field.Path) {
	seen := map[string]bool{}
	for i, a := range w.spec.HostAliases {
		if seen[a.IP] {
			w.addf(path.Index(i).Child("ip"), "duplicate ip %q", a.IP)
		}
		seen[a.IP] = true
	}
}

func (w *warner) pullSecrets(path *field.Path) {
	seen := map[string]bool{}
	for i, s := range w.spec.ImagePullSecrets {
		if seen[s.Name] {
			w.addf(path.Index(i).Child("name"), "duplicate name %q", s.Name)
		}
		seen[s.Name] = true
	}
	for i, s := range w.spec.ImagePullSecrets {
		if s.Name == "" {
			w.addf(path.Index(i).Child("name"), "invalid empty name %q", s.Name)
		}
	}
}

// addresses warns about addresses that are not in their usual form.
func (w *warner) addresses(spec *field.Path) {
	check := func(path *field.Path, ip string) {
		if netutils.ParseIPSloppy(ip) != nil {
			w.list = append(w.list, validation.GetWarningsForIP(path, ip)...)
		}
	}
	if w.spec.DNSConfig != nil {
		for i, ip := range w.spec.DNSConfig.Nameservers {
			check(spec.Child("dnsConfig", "nameservers").Index(i), ip)
		}
	}
	for i, a := range w.spec.HostAliases {
		check(spec.Child("hostAliases").Index(i).Child("ip"), a.IP)
	}
}
