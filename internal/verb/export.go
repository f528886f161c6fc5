package verb

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"sigs.k8s.io/yaml"
)

// Export writes objects as manifests that another cluster takes: those of args, which are
// read as Get's, or all of the namespace, or of all namespaces with what belongs to none.
// What the cluster makes by itself is left out, of objects and of what is in them. notes
// is told what is left out of that which users have made, and what the other cluster may
// not have.
func (a *API) Export(ctx context.Context, out, notes io.Writer, args []string, s Selection) error {
	refs, err := a.exported(args, s)
	if err != nil {
		return err
	}
	var items []unstructured.Unstructured
	if err := forEach(ctx, refs, func(r ref) error {
		found, err := a.read(ctx, r, s)
		items = append(items, found...)
		return err
	}); err != nil {
		return err
	}
	e := exporter{left: map[string]int{}, classes: map[string]bool{}, sets: map[string]bool{}}
	for i := range items {
		e.look(&items[i])
	}
	items = slices.DeleteFunc(items, func(u unstructured.Unstructured) bool { return !e.takes(&u) })
	slices.SortFunc(items, func(x, y unstructured.Unstructured) int {
		return cmp.Or(cmp.Compare(before(x.GetKind()), before(y.GetKind())), strings.Compare(x.GetKind(), y.GetKind()),
			strings.Compare(x.GetNamespace(), y.GetNamespace()), strings.Compare(x.GetName(), y.GetName()))
	})
	for i := range items {
		e.clean(&items[i])
		text, err := yaml.Marshal(items[i].Object)
		if err != nil {
			return err
		}
		if i > 0 {
			text = append([]byte("---\n"), text...)
		}
		if _, err := out.Write(text); err != nil {
			return err
		}
	}
	for _, note := range e.notes() {
		fmt.Fprintln(notes, "note:", note)
	}
	return nil
}

// exported are what is read for an export.
func (a *API) exported(args []string, s Selection) ([]ref, error) {
	if len(args) > 0 {
		return a.refs(args)
	}
	lists, err := a.kinds.ServerPreferredResources()
	if err != nil {
		return nil, err
	}
	var refs []ref
	for _, list := range discovery.FilteredBy(discovery.SupportsAllVerbs{Verbs: []string{"list", "create", "delete"}}, lists) {
		gv, err := schema.ParseGroupVersion(list.GroupVersion)
		if err != nil {
			return nil, err
		}
		for _, r := range list.APIResources {
			if unexported[r.Kind] || !r.Namespaced && !s.AllNamespaces {
				continue
			}
			mapping := &meta.RESTMapping{Resource: gv.WithResource(r.Name), GroupVersionKind: gv.WithKind(r.Kind), Scope: meta.RESTScopeRoot}
			if r.Namespaced {
				mapping.Scope = meta.RESTScopeNamespace
			}
			refs = append(refs, ref{RESTMapping: mapping})
		}
	}
	return refs, nil
}

// unexported are the kinds whose objects a cluster makes by itself, or that speak of its
// own machines.
var unexported = map[string]bool{
	"CertificateSigningRequest": true, "ControllerRevision": true, "CSINode": true, "CSIStorageCapacity": true, "Event": true, "IPAddress": true,
	"Lease": true, "Node": true, "ResourceSlice": true, "ServiceCIDR": true, "VolumeAttachment": true,
}

// order is that in which kinds are written: what others refer to comes first, so that
// nothing starts before what it needs is there.
var order = []string{
	"Namespace", "CustomResourceDefinition", "PriorityClass", "StorageClass", "RuntimeClass", "ResourceQuota", "LimitRange", "ServiceAccount", "ClusterRole", "ClusterRoleBinding",
	"Role", "RoleBinding", "Secret", "ConfigMap", "PersistentVolume", "PersistentVolumeClaim", "NetworkPolicy", "Service", "Endpoints", "PodDisruptionBudget",
}

func before(kind string) int {
	if i := slices.Index(order, kind); i >= 0 {
		return i
	}
	return len(order)
}
