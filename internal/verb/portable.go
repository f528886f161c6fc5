package verb

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// exporter decides what of a cluster's objects means something on another one. It reads
// objects that anybody has written: a field may have any type.
type exporter struct {
	left    map[string]int  // how many were left out that a user has made, by what they are
	classes map[string]bool // the StorageClasses that are the default here
	sets    map[string]bool // how the claims that StatefulSets make begin, with their namespace
	warn    []string
}

// look learns from an object how others have to be changed.
func (e *exporter) look(u *unstructured.Unstructured) {
	if u.GetKind() == "StorageClass" && u.GetAnnotations()["storageclass.kubernetes.io/is-default-class"] == "true" {
		e.classes[u.GetName()] = true
	}
	if u.GetKind() == "StatefulSet" {
		templates, _, _ := unstructured.NestedFieldNoCopy(u.Object, "spec", "volumeClaimTemplates")
		for _, t := range list(templates) {
			e.sets[u.GetNamespace()+"/"+(&unstructured.Unstructured{Object: t}).GetName()+"-"+u.GetName()] = true
		}
	}
}

// takes reports whether an object is one that a user has made, and would make again.
func (e *exporter) takes(u *unstructured.Unstructured) bool {
	switch name, ns := u.GetName(), u.GetNamespace(); {
	case len(u.GetOwnerReferences()) > 0, u.GetDeletionTimestamp() != nil:
		return false // its owner makes it; it is going
	case ns == "kube-system" || ns == "kube-public" || ns == "kube-node-lease":
		return false
	case u.GetLabels()["kubernetes.io/bootstrapping"] != "" || u.GetAnnotations()["apf.kubernetes.io/autoupdate-spec"] != "":
		return false
	case u.GetLabels()["endpoints.kubernetes.io/managed-by"] != "" || u.GetLabels()["kube-aggregator.kubernetes.io/automanaged"] != "":
		return false
	default:
		return !everywhere(u.GetKind(), name) && !e.made(u) && !e.ended(u)
	}
}

// everywhere: each cluster has it.
func everywhere(kind, name string) bool {
	switch kind {
	case "Namespace":
		return name == "default" || strings.HasPrefix(name, "kube-")
	case "ServiceAccount":
		return name == "default"
	case "ConfigMap":
		return name == "kube-root-ca.crt"
	case "Service", "Endpoints", "EndpointSlice":
		return name == "kubernetes"
	case "PriorityClass":
		return strings.HasPrefix(name, "system-")
	case "RuntimeClass":
		return name == "sandbox" || name == "host"
	case "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding", "FlowSchema", "PriorityLevelConfiguration":
		return strings.HasPrefix(name, "system:")
	}
	return false
}

// made: something of this cluster has made it, and would not work elsewhere.
func (e *exporter) made(u *unstructured.Unstructured) bool {
	switch u.GetKind() {
	case "Secret":
		return text(u, "type") == "kubernetes.io/service-account-token"
	case "StorageClass":
		return text(u, "provisioner") == "rancher.io/local-path"
	case "PersistentVolume":
		return u.GetAnnotations()["pv.kubernetes.io/provisioned-by"] != ""
	case "PersistentVolumeClaim":
		if i := strings.LastIndex(u.GetName(), "-"); i >= 0 && e.sets[u.GetNamespace()+"/"+u.GetName()[:i]] {
			e.remark(u)
			return true // the set makes it
		}
	}
	return false
}

// ended: a Job or a pod that has ended would run again.
func (e *exporter) ended(u *unstructured.Unstructured) bool {
	switch u.GetKind() {
	case "Job":
		conditions, _, _ := unstructured.NestedSlice(u.Object, "status", "conditions")
		for _, c := range conditions {
			c, _ := c.(map[string]any)
			if (c["type"] == "Complete" || c["type"] == "Failed") && c["status"] == "True" {
				e.left["Jobs that have ended"]++
				return true
			}
		}
	case "Pod":
		if phase := text(u, "status", "phase"); phase == "Succeeded" || phase == "Failed" {
			e.left["pods that have ended"]++
			return true
		}
	}
	return false
}

func text(u *unstructured.Unstructured, path ...string) string {
	s, _, _ := unstructured.NestedString(u.Object, path...)
	return s
}

// clean takes off what only this cluster knows.
func (e *exporter) clean(u *unstructured.Unstructured) {
	drop(u.Object, "status")
	managed := u.GetManagedFields()
	for _, field := range []string{"uid", "resourceVersion", "generation", "creationTimestamp", "managedFields", "selfLink", "generateName", "deletionGracePeriodSeconds"} {
		drop(u.Object, "metadata", field)
	}
	keep(u, "annotations", func(key string) bool {
		return !ours(key, "sampan.dev") && !ours(key, "pv.kubernetes.io") && !ours(key, "volume.kubernetes.io") && !ours(key, "volume.beta.kubernetes.io") &&
			key != "kubectl.kubernetes.io/last-applied-configuration" && key != "deployment.kubernetes.io/revision" && key != "deprecated.daemonset.template.generation"
	})
	keep(u, "labels", func(key string) bool { return key != "kubernetes.io/metadata.name" })
	finalizers := slices.DeleteFunc(u.GetFinalizers(), func(f string) bool {
		return ours(f, "kubernetes.io") || f == metav1.FinalizerDeleteDependents || f == metav1.FinalizerOrphanDependents
	})
	if u.SetFinalizers(finalizers); len(finalizers) == 0 {
		drop(u.Object, "metadata", "finalizers")
	}
	switch u.GetKind() {
	case "Namespace":
		drop(u.Object, "spec")
	case "Service":
		cleanService(u, managed)
	case "Job":
		cleanJob(u)
	case "Pod":
		cleanPod(u)
	case "PersistentVolume":
		drop(u.Object, "spec", "claimRef")
	case "PersistentVolumeClaim":
		e.cleanClaim(u)
	case "StatefulSet":
		templates, _, _ := unstructured.NestedFieldNoCopy(u.Object, "spec", "volumeClaimTemplates")
		for _, t := range list(templates) {
			e.cleanClaim(&unstructured.Unstructured{Object: t})
			drop(t, "status")
		}
	}
	e.remark(u)
}

// ours: a key is of a domain or of one below it.
func ours(key, domain string) bool {
	prefix, _, found := strings.Cut(key, "/")
	return found && (prefix == domain || strings.HasSuffix(prefix, "."+domain))
}

// keep keeps some entries of labels or annotations.
func keep(u *unstructured.Unstructured, field string, want func(key string) bool) {
	entries, _, _ := unstructured.NestedFieldNoCopy(u.Object, "metadata", field)
	all, _ := entries.(map[string]any)
	for key := range all {
		if !want(key) {
			delete(all, key)
		}
	}
	if len(all) == 0 {
		drop(u.Object, "metadata", field)
	}
}

func drop(object map[string]any, path ...string) { unstructured.RemoveNestedField(object, path...) }

// list are the objects of a list.
func list(field any) (all []map[string]any) {
	items, _ := field.([]any)
	for _, item := range items {
		if m, ok := item.(map[string]any); ok {
			all = append(all, m)
		}
	}
	return all
}

// cleanService takes off addresses, which are those of this cluster, and node ports that
// nobody has asked for.
func cleanService(u *unstructured.Unstructured, managed []metav1.ManagedFieldsEntry) {
	if text(u, "spec", "clusterIP") != "None" {
		drop(u.Object, "spec", "clusterIP")
	}
	for _, field := range []string{"clusterIPs", "ipFamilies", "ipFamilyPolicy", "healthCheckNodePort"} {
		drop(u.Object, "spec", field)
	}
	asked := slices.ContainsFunc(managed, func(m metav1.ManagedFieldsEntry) bool {
		return m.FieldsV1 != nil && json.Valid(m.FieldsV1.GetRawBytes()) && strings.Contains(string(m.FieldsV1.GetRawBytes()), `"f:nodePort"`)
	})
	ports, _, _ := unstructured.NestedFieldNoCopy(u.Object, "spec", "ports")
	for _, port := range list(ports) {
		if !asked {
			delete(port, "nodePort")
		}
	}
}

// cleanJob takes off the selector that a Job is given, and the labels by which it works.
func cleanJob(u *unstructured.Unstructured) {
	if manual, _, _ := unstructured.NestedBool(u.Object, "spec", "manualSelector"); manual {
		return
	}
	drop(u.Object, "spec", "selector")
	for _, path := range [][]string{{"metadata", "labels"}, {"spec", "template", "metadata", "labels"}} {
		for _, label := range []string{"controller-uid", "job-name", "batch.kubernetes.io/controller-uid", "batch.kubernetes.io/job-name"} {
			drop(u.Object, append(slices.Clone(path), label)...)
		}
		if labels, _, _ := unstructured.NestedMap(u.Object, path...); len(labels) == 0 {
			drop(u.Object, path...)
		}
	}
	drop(u.Object, "spec", "template", "metadata", "creationTimestamp")
}

// cleanPod takes off what admission and the scheduler have put on a pod.
func cleanPod(u *unstructured.Unstructured) {
	for _, field := range []string{"nodeName", "serviceAccount", "priority", "preemptionPolicy"} {
		drop(u.Object, "spec", field)
	}
	spec, _, _ := unstructured.NestedFieldNoCopy(u.Object, "spec")
	pod, _ := spec.(map[string]any)
	without(pod, "tolerations", func(t map[string]any) bool {
		key, _ := t["key"].(string)
		return t["effect"] == "NoExecute" && fmt.Sprint(t["tolerationSeconds"]) == "300" && (key == "node.kubernetes.io/not-ready" || key == "node.kubernetes.io/unreachable")
	})
	token := func(m map[string]any) bool {
		name, _ := m["name"].(string)
		return strings.HasPrefix(name, "kube-api-access-")
	}
	without(pod, "volumes", token)
	for _, kind := range []string{"containers", "initContainers"} {
		for _, c := range list(pod[kind]) {
			without(c, "volumeMounts", token)
		}
	}
	drop(u.Object, "spec", "ephemeralContainers")
}

// without takes some entries off a list.
func without(object map[string]any, field string, goes func(map[string]any) bool) {
	all, ok := object[field].([]any)
	if !ok {
		return
	}
	all = slices.DeleteFunc(all, func(item any) bool {
		m, ok := item.(map[string]any)
		return ok && goes(m)
	})
	if object[field] = all; len(all) == 0 {
		delete(object, field)
	}
}

// cleanClaim takes off the volume of a claim, and the class that it has because it is the
// default here: there is another one elsewhere.
func (e *exporter) cleanClaim(u *unstructured.Unstructured) {
	drop(u.Object, "spec", "volumeName")
	if class := text(u, "spec", "storageClassName"); e.classes[class] || class == "standard" || class == "local-path" {
		drop(u.Object, "spec", "storageClassName")
	}
}

// remark notes what another cluster may not have.
func (e *exporter) remark(u *unstructured.Unstructured) {
	what := strings.ToLower(u.GetKind()) + "/" + u.GetName()
	raw, err := json.Marshal(u.Object)
	if err != nil {
		return
	}
	for _, c := range []struct{ has, says string }{
		{`"runtimeClassName":"host"`, "has the runtime class host, a process of this machine: give it an image"},
		{`"runtimeClassName":"sandbox"`, "names the runtime class sandbox, which is Sampan's: leave it out"},
		{`"hostPath":{`, "has a hostPath, a directory of this machine: other nodes have others"},
	} {
		if strings.Contains(string(raw), c.has) {
			e.warn = append(e.warn, what+" "+c.says)
		}
	}
	if u.GetKind() == "PersistentVolumeClaim" {
		e.warn = append(e.warn, what+" has its data here: copy it")
	}
}

func (e *exporter) notes() []string {
	notes := slices.Clone(e.warn)
	for _, what := range []string{"Jobs that have ended", "pods that have ended"} {
		if n := e.left[what]; n > 0 {
			notes = append(notes, fmt.Sprintf("left out: %d %s", n, what))
		}
	}
	return notes
}
