package plan

import (
	"fmt"
	"path/filepath"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/utils/ptr"

	"github.com/sampan-batch/sampan/internal/manifest"
)

// claim takes note of a PersistentVolumeClaim: here it is a directory.
func (p *planner) claim(in manifest.Object) {
	ns := in.GetNamespace()
	if ns == "" {
		ns = p.Namespace
	}
	for _, part := range []struct{ path, value string }{{"metadata.name", in.GetName()}, {"metadata.namespace", ns}} {
		if wrong := notAName(part.value); wrong != "" {
			p.errs = append(p.errs, fmt.Errorf("%s: %s: %s: %s", in.At(part.path), nameOf(in.GetKind(), in.GetName(), ""), part.path, wrong))
			return
		}
	}
	p.claims = append(p.claims, p.claimDir(ns, in.GetName()))
}

// notAName says why a text is no name of an object, which is one step of a path.
func notAName(text string) string {
	if wrong := validation.IsDNS1123Subdomain(text); len(wrong) > 0 {
		return fmt.Sprintf("Invalid value: %q: %s", text, wrong[0])
	}
	return ""
}

// claimDir is the directory that a claim is. No two claims share one, and none is
// outside, for both are names of objects.
func (p *planner) claimDir(namespace, name string) string {
	return filepath.Join(p.Volumes, namespace, name)
}

// mountClaims makes directories of this machine of the volumes that are claims, and
// empty ones of those whose claims would be made for the pod alone.
func (p *planner) mountClaims(it *item) {
	spec := &it.pod.Spec
	for i := range spec.Volumes {
		v := &spec.Volumes[i]
		if v.Ephemeral != nil {
			v.VolumeSource = corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}
			continue
		}
		claim := v.PersistentVolumeClaim
		if claim == nil {
			continue
		}
		path := it.spec("volumes[%d].persistentVolumeClaim.claimName", i)
		if wrong := notAName(claim.ClaimName); wrong != "" {
			it.refuse(path, "%s", wrong)
			continue
		}
		if claim.ReadOnly {
			readOnly(spec, v.Name)
		}
		it.claims = append(it.claims, claimed{claim.ClaimName, path})
		v.VolumeSource = corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{
			Path: p.claimDir(it.obj.GetNamespace(), claim.ClaimName), Type: ptr.To(corev1.HostPathDirectory),
		}}
	}
}

// claimed is a claim that a pod uses, and where it says so.
type claimed struct{ name, path string }

// readOnly takes the right to write a volume from every container.
func readOnly(spec *corev1.PodSpec, volume string) {
	for _, list := range [][]corev1.Container{spec.InitContainers, spec.Containers} {
		for i := range list {
			for j := range list[i].VolumeMounts {
				if m := &list[i].VolumeMounts[j]; m.Name == volume {
					m.ReadOnly = true
				}
			}
		}
	}
}

// referClaims refuses claims that nobody has made; a directory that is kept has those
// that are in it.
func (p *planner) referClaims(it *item) {
	for _, c := range it.claims {
		dir := p.claimDir(it.obj.GetNamespace(), c.name)
		switch {
		case p.Kept:
			p.claims = append(p.claims, dir)
		case !slices.Contains(p.claims, dir):
			it.refuse(c.path, "the PersistentVolumeClaim %q is not in the input; --volumes DIR makes directories of claims that are kept", c.name)
		}
	}
}
