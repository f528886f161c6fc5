package podspec

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// env checks the variables of one container.
func (c *checker) env(path *field.Path, vars []corev1.EnvVar) {
	for i := range vars {
		v, at := &vars[i], path.Index(i)
		if v.Name == "" {
			c.required(at.Child("name"), "")
		} else {
			c.invalidEach(at.Child("name"), v.Name, validation.IsRelaxedEnvVarName(v.Name))
		}
		if v.ValueFrom != nil {
			c.valueFrom(at.Child("valueFrom"), v)
		}
	}
}

func (c *checker) valueFrom(path *field.Path, v *corev1.EnvVar) {
	from, sources := v.ValueFrom, 0
	if from.FieldRef != nil {
		sources++
		c.fieldRef(path.Child("fieldRef"), from.FieldRef, envFieldPaths())
	}
	if from.ResourceFieldRef != nil {
		sources++
		c.resourceFieldRef(path.Child("resourceFieldRef"), from.ResourceFieldRef, false)
	}
	if ref := from.ConfigMapKeyRef; ref != nil {
		sources++
		c.keyRef(path.Child("configMapKeyRef"), ref.Name, ref.Key)
	}
	if ref := from.SecretKeyRef; ref != nil {
		sources++
		c.keyRef(path.Child("secretKeyRef"), ref.Name, ref.Key)
	}
	if from.FileKeyRef != nil {
		sources++
		c.fileKeyRef(path.Child("fileKeyRef"), from.FileKeyRef)
	}
	switch {
	case sources == 0:
		c.invalid(path, "", "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`")
	case v.Value != "":
		c.invalid(path, "", "may not be specified when `value` is not empty")
	case sources > 1:
		c.invalid(path, "", "may not have more than one field specified at a time")
	}
}

// keyRef checks a reference to a key of a ConfigMap or Secret.
func (c *checker) keyRef(path *field.Path, name, key string) {
	c.dnsSubdomain(path.Child("name"), name)
	if key == "" {
		c.required(path.Child("key"), "")
	} else {
		c.invalidEach(path.Child("key"), key, validation.IsConfigMapKey(key))
	}
}

func (c *checker) fileKeyRef(path *field.Path, ref *corev1.FileKeySelector) {
	if ref.Key == "" {
		c.required(path.Child("key"), "")
	} else {
		c.invalidEach(path.Child("key"), ref.Key, validation.IsRelaxedEnvVarName(ref.Key))
	}
	if ref.VolumeName == "" {
		c.required(path.Child("volumeName"), "")
	} else {
		c.dnsLabel(path.Child("volumeName"), ref.VolumeName)
	}
	if ref.Path == "" {
		c.required(path.Child("path"), "")
	} else {
		c.noBacksteps(path.Child("path"), ref.Path)
	}
}

// fileKeyVolumes demands that variables come from files in emptyDir volumes.
func (c *checker) fileKeyVolumes(path *field.Path) {
	sources := make(map[string]*corev1.VolumeSource) // of two of a name, which are refused, the last
	for i := range c.spec.Volumes {
		sources[c.spec.Volumes[i].Name] = &c.spec.Volumes[i].VolumeSource
	}
	visitContainers(c.spec, path, func(ctr *corev1.Container, at *field.Path) {
		for i, v := range ctr.Env {
			if v.ValueFrom == nil || v.ValueFrom.FileKeyRef == nil {
				continue
			}
			name := v.ValueFrom.FileKeyRef.VolumeName
			namePath := at.Child("env").Index(i).Child("valueFrom", "fileKeyRef", "volumeName")
			if source, found := sources[name]; !found {
				c.add(field.NotFound(namePath, name))
			} else if source.EmptyDir == nil {
				c.invalid(namePath, name, "referenced volume must be of type emptyDir")
			}
		}
	})
}

// envFrom checks the sources of whole sets of variables.
func (c *checker) envFrom(path *field.Path, list []corev1.EnvFromSource) {
	for i, from := range list {
		at := path.Index(i)
		if from.Prefix != "" {
			c.invalidEach(at.Child("prefix"), from.Prefix, validation.IsRelaxedEnvVarName(from.Prefix))
		}
		sources := 0
		if from.ConfigMapRef != nil {
			sources++
			c.envFromName(at.Child("configMapRef", "name"), from.ConfigMapRef.Name)
		}
		if from.SecretRef != nil {
			sources++
			c.envFromName(at.Child("secretRef", "name"), from.SecretRef.Name)
		}
		// Both complaints are about the list, not about its element.
		if sources == 0 {
			c.invalid(path, "", "must specify one of: `configMapRef` or `secretRef`")
		} else if sources > 1 {
			c.invalid(path, "", "may not have more than one field specified at a time")
		}
	}
}

func (c *checker) envFromName(path *field.Path, name string) {
	if name == "" {
		c.required(path, "")
		return
	}
	// A name is taken as a prefix here: it may end in a dash.
	c.invalidEach(path, name, apivalidation.NameIsDNSSubdomain(name, true))
}

// envFieldPaths are the fields of the pod that a variable can show.
func envFieldPaths() []string {
	return []string{
		"metadata.name", "metadata.namespace", "metadata.uid", "spec.nodeName", "spec.serviceAccountName",
		"status.hostIP", "status.hostIPs", "status.podIP", "status.podIPs",
	}
}

// volumeFieldPaths are the fields of the pod that a file can show.
func volumeFieldPaths() []string {
	return []string{"metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid"}
}

// fieldRef checks a reference to a field of the pod; allowed is sorted.
func (c *checker) fieldRef(path *field.Path, ref *corev1.ObjectFieldSelector, allowed []string) {
	if ref.APIVersion == "" {
		c.required(path.Child("apiVersion"), "")
		return
	}
	if ref.FieldPath == "" {
		c.required(path.Child("fieldPath"), "")
		return
	}
	label, err := podFieldLabel(ref.APIVersion, ref.FieldPath)
	if err != nil {
		c.invalid(path.Child("fieldPath"), ref.FieldPath, fmt.Sprintf("error converting fieldPath: %v", err))
		return
	}
	name, key, ok := splitSubscript(label)
	switch {
	case ok && name == "metadata.annotations":
		c.qualifiedName(path, strings.ToLower(key))
	case ok: // podFieldLabel lets labels pass, besides annotations
		c.qualifiedName(path, key)
	case !slices.Contains(allowed, label):
		c.add(field.NotSupported(path.Child("fieldPath"), label, allowed))
	}
}

// podFieldLabel returns the present name of a field of v1 pods.
func podFieldLabel(version, label string) (string, error) {
	if version != "v1" {
		return "", fmt.Errorf("unsupported pod version: %s", version)
	}
	if name, _, ok := splitSubscript(label); ok {
		if name == "metadata.annotations" || name == "metadata.labels" {
			return label, nil
		}
		return "", fmt.Errorf("field label does not support subscript: %s", label)
	}
	switch label {
	case "metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid",
		"spec.nodeName", "spec.restartPolicy", "spec.serviceAccountName", "spec.schedulerName",
		"status.phase", "status.hostIP", "status.hostIPs", "status.podIP", "status.podIPs":
		return label, nil
	case "spec.host":
		return "spec.nodeName", nil
	}
	return "", fmt.Errorf("field label not supported: %s", label)
}

// splitSubscript splits name['key'].
func splitSubscript(s string) (name, key string, ok bool) {
	s, ok = strings.CutSuffix(s, "']")
	if !ok {
		return "", "", false
	}
	name, key, ok = strings.Cut(s, "['")
	return name, key, ok && name != ""
}

// resourceFieldRef checks a reference to a container's request or limit; in a
// volume it must say of which container.
func (c *checker) resourceFieldRef(path *field.Path, ref *corev1.ResourceFieldSelector, volume bool) {
	allowed := []string{
		"limits.cpu", "limits.ephemeral-storage", "limits.memory",
		"requests.cpu", "requests.ephemeral-storage", "requests.memory",
	}
	huge := strings.HasPrefix(ref.Resource, "limits.hugepages-") || strings.HasPrefix(ref.Resource, "requests.hugepages-")
	switch {
	case volume && ref.ContainerName == "":
		c.required(path.Child("containerName"), "")
	case ref.Resource == "":
		c.required(path.Child("resource"), "")
	case !huge:
		oneOf(c, path.Child("resource"), ref.Resource, allowed...)
	}
	c.divisor(path.Child("divisor"), ref.Resource, ref.Divisor)
}

// divisor checks the unit in which a resource is shown; zero means its own.
func (c *checker) divisor(path *field.Path, name string, divisor resource.Quantity) {
	if divisor.IsZero() {
		return
	}
	of, ok := strings.CutPrefix(name, "limits.")
	if !ok {
		if of, ok = strings.CutPrefix(name, "requests."); !ok {
			return
		}
	}
	units, listed := strings.Split("1 1k 1M 1G 1T 1P 1E 1Ki 1Mi 1Gi 1Ti 1Pi 1Ei", " "), ""
	switch {
	case of == "cpu":
		units, listed = []string{"1m", "1"}, "1m and 1"
	case of == "memory":
	case of == "ephemeral-storage":
		of = "local ephemeral storage"
	case strings.HasPrefix(of, corev1.ResourceHugePagesPrefix):
		of = "hugepages"
	default:
		return
	}
	if slices.Contains(units, divisor.String()) {
		return
	}
	if listed == "" {
		listed = strings.Join(units, ", ")
	}
	c.invalid(path, name, fmt.Sprintf("only divisor's values %s are supported with the %s resource", listed, of))
}
