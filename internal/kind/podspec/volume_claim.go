package podspec

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metavalidation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"
)

// ephemeral checks a volume that comes with a claim of its own.
func (c *checker) ephemeral(path *field.Path, s *corev1.EphemeralVolumeSource) {
	path = path.Child("volumeClaimTemplate")
	if s.VolumeClaimTemplate == nil {
		c.required(path, "")
		return
	}
	meta, at := &s.VolumeClaimTemplate.ObjectMeta, path.Child("metadata")
	c.add(apivalidation.ValidateAnnotations(meta.Annotations, at.Child("annotations"))...)
	c.add(metavalidation.ValidateLabels(meta.Labels, at.Child("labels"))...)
	c.onlyFields(at, *meta, sets.New("Annotations", "Labels"), "cannot be set")
	c.claimSpec(path.Child("spec"), &s.VolumeClaimTemplate.Spec)
}

func (c *checker) claimSpec(path *field.Path, s *corev1.PersistentVolumeClaimSpec) {
	if len(s.AccessModes) == 0 {
		c.required(path.Child("accessModes"), "at least 1 access mode is required")
	}
	if s.Selector != nil {
		c.add(metavalidation.ValidateLabelSelector(s.Selector,
			metavalidation.LabelSelectorValidationOptions{}, path.Child("selector"))...)
	}
	c.accessModes(path.Child("accessModes"), s.AccessModes)
	c.claimStorage(path.Child("resources").Key(string(corev1.ResourceStorage)), s.Resources.Requests)
	if name := ptr.Deref(s.StorageClassName, ""); name != "" {
		c.dnsSubdomain(path.Child("storageClassName"), name)
	}
	if s.VolumeMode != nil {
		oneOf(c, path.Child("volumeMode"), *s.VolumeMode, corev1.PersistentVolumeBlock, corev1.PersistentVolumeFilesystem)
	}
	c.dataSources(path, s)
	if name := ptr.Deref(s.VolumeAttributesClassName, ""); name != "" {
		c.dnsSubdomain(path.Child("volumeAttributesClassName"), name)
	}
}

func (c *checker) accessModes(path *field.Path, modes []corev1.PersistentVolumeAccessMode) {
	known := []corev1.PersistentVolumeAccessMode{
		corev1.ReadOnlyMany, corev1.ReadWriteMany, corev1.ReadWriteOnce, corev1.ReadWriteOncePod,
	}
	single, shared := false, false
	for _, mode := range modes {
		oneOf(c, path, mode, known...)
		if mode == corev1.ReadWriteOncePod {
			single = true
		} else if slices.Contains(known, mode) {
			shared = true
		}
	}
	if single && shared {
		c.forbidden(path, "may not use ReadWriteOncePod with other access modes")
	}
}

func (c *checker) claimStorage(path *field.Path, requests corev1.ResourceList) {
	size, ok := requests[corev1.ResourceStorage]
	if !ok {
		c.required(path, "")
	} else if size.Sign() <= 0 {
		c.invalid(path, size.String(), "must be greater than zero")
	}
}

// dataSources checks what a claim is filled from. dataSource and dataSourceRef
// are two generations of the same field and must agree.
func (c *checker) dataSources(path *field.Path, s *corev1.PersistentVolumeClaimSpec) {
	if ds := s.DataSource; ds != nil {
		c.dataSource(path.Child("dataSource"), ptr.Deref(ds.APIGroup, ""), ds.Kind, ds.Name)
	}
	ref := s.DataSourceRef
	if ref == nil {
		return
	}
	c.dataSource(path.Child("dataSourceRef"), ptr.Deref(ref.APIGroup, ""), ref.Kind, ref.Name)
	ns := ptr.Deref(ref.Namespace, "")
	if ns != "" {
		c.invalidEach(path.Child("dataSourceRef", "namespace"), ns, apivalidation.ValidateNamespaceName(ns, false))
	}
	if s.DataSource == nil {
		return
	}
	if ns != "" {
		c.invalid(path, path.Child("dataSource"), "may not be specified when dataSourceRef.namespace is specified")
	} else if !equality.Semantic.DeepEqual(s.DataSource.APIGroup, ref.APIGroup) ||
		s.DataSource.Kind != ref.Kind || s.DataSource.Name != ref.Name {
		c.invalid(path, path.Child("dataSource"), "must match dataSourceRef")
	}
}

func (c *checker) dataSource(path *field.Path, group, kind, name string) {
	if name == "" {
		c.required(path.Child("name"), "")
	}
	if kind == "" {
		c.required(path.Child("kind"), "")
	}
	if group == "" && kind != "PersistentVolumeClaim" {
		c.invalid(path, kind, "must be 'PersistentVolumeClaim' when referencing the default apiGroup")
	}
	if group != "" {
		c.dnsSubdomain(path.Child("apiGroup"), group)
	}
}
