package podspec

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"
)

// volumes warns about sources that no kubelet mounts any more.
func (w *warner) volumes(path *field.Path) {
	for i := range w.spec.Volumes {
		v, at := &w.spec.Volumes[i].VolumeSource, path.Index(i)
		warn := func(used bool, name, message string) {
			if used {
				w.addf(at.Child(name), "%s", message)
			}
		}
		warn(v.PhotonPersistentDisk != nil, "photonPersistentDisk", "deprecated in v1.11, non-functional in v1.16+")
		warn(v.GitRepo != nil, "gitRepo", "deprecated in v1.11, and disabled by default in v1.33+")
		warn(v.ScaleIO != nil, "scaleIO", "deprecated in v1.16, non-functional in v1.22+")
		warn(v.Flocker != nil, "flocker", "deprecated in v1.22, non-functional in v1.25+")
		warn(v.StorageOS != nil, "storageOS", "deprecated in v1.22, non-functional in v1.25+")
		warn(v.Quobyte != nil, "quobyte", "deprecated in v1.22, non-functional in v1.25+")
		warn(v.Glusterfs != nil, "glusterfs", "deprecated in v1.25, non-functional in v1.26+")
		if v.Ephemeral != nil && v.Ephemeral.VolumeClaimTemplate != nil {
			if q, ok := v.Ephemeral.VolumeClaimTemplate.Spec.Resources.Requests[corev1.ResourceStorage]; ok {
				w.fraction(at.Child("ephemeral", "volumeClaimTemplate", "spec", "resources", "requests").
					Key(string(corev1.ResourceStorage)), q)
			}
		}
		warn(v.CephFS != nil, "cephfs", "deprecated in v1.28, non-functional in v1.31+")
		warn(v.RBD != nil, "rbd", "deprecated in v1.28, non-functional in v1.31+")
	}
}

// paths warns about files of a volume that are in each other's way.
func (w *warner) paths() {
	for i := range w.spec.Volumes {
		v := &w.spec.Volumes[i]
		if s := v.ConfigMap; s != nil {
			w.filesOf(v.Name, fmt.Sprintf("ConfigMap %q", s.Name)).keys("", s.Items)
		}
		if s := v.Secret; s != nil {
			w.filesOf(v.Name, fmt.Sprintf("Secret %q", s.SecretName)).keys("", s.Items)
		}
		if s := v.DownwardAPI; s != nil {
			w.filesOf(v.Name, "DownwardAPI").fields("", s.Items)
		}
		if v.Projected == nil {
			continue
		}
		files := w.filesOf(v.Name, "Projected")
		for i := range v.Projected.Sources {
			if s := &v.Projected.Sources[i]; *s == (corev1.VolumeProjection{}) {
				w.list = append(w.list, fmt.Sprintf("volume %q (Projected) has no sources provided", v.Name))
			} else {
				files.projected(s)
			}
		}
	}
}

// volumeFiles are the files of one volume so far, in their order.
type volumeFiles struct {
	*warner
	message string
	before  []volumeFile
}

type volumeFile struct{ path, source string }

func (w *warner) filesOf(volume, kind string) *volumeFiles {
	return &volumeFiles{warner: w, message: fmt.Sprintf("volume %q (%s): overlapping paths", volume, kind)}
}

// String shows the file, and where it comes from if there are several sources.
func (f volumeFile) String() string {
	if f.source == "" {
		return fmt.Sprintf("%q", f.path)
	}
	return fmt.Sprintf("%q (%s)", f.path, f.source)
}

// add warns about each file before this one that has its path, or is a directory of it, or
// the other way round.
func (f *volumeFiles) add(source, path string) {
	file := volumeFile{strings.TrimRight(path, "/"), source}
	for _, other := range f.before {
		if file.path == "" || other.path == "" {
			continue
		}
		if strings.HasPrefix(other.path+"/", file.path+"/") || strings.HasPrefix(file.path+"/", other.path+"/") {
			f.list = append(f.list, fmt.Sprintf("%s: %s with %s", f.message, file, other))
		}
	}
	f.before = append(f.before, file)
}

func (f *volumeFiles) keys(source string, items []corev1.KeyToPath) {
	for _, item := range items {
		f.add(source, item.Path)
	}
}

func (f *volumeFiles) fields(source string, items []corev1.DownwardAPIVolumeFile) {
	for _, item := range items {
		f.add(source, item.Path)
	}
}

// projected adds the files of the first source that has some.
func (f *volumeFiles) projected(s *corev1.VolumeProjection) {
	switch {
	case s.ConfigMap != nil && s.ConfigMap.Items != nil:
		f.keys(fmt.Sprintf("ConfigMap %q", s.ConfigMap.Name), s.ConfigMap.Items)
	case s.Secret != nil && s.Secret.Items != nil:
		f.keys(fmt.Sprintf("Secret %q", s.Secret.Name), s.Secret.Items)
	case s.DownwardAPI != nil && s.DownwardAPI.Items != nil:
		f.fields("DownwardAPI", s.DownwardAPI.Items)
	case s.ServiceAccountToken != nil:
		f.add("ServiceAccountToken", s.ServiceAccountToken.Path)
	case s.ClusterTrustBundle != nil:
		name := s.ClusterTrustBundle.Name
		if name == nil {
			name = s.ClusterTrustBundle.SignerName
		}
		f.add(fmt.Sprintf("ClusterTrustBundle %q", ptr.Deref(name, "")), s.ClusterTrustBundle.Path)
	case s.PodCertificate != nil:
		for _, file := range []struct{ what, path string }{
			{"chain", s.PodCertificate.CertificateChainPath},
			{"key", s.PodCertificate.KeyPath},
			{"credential bundle", s.PodCertificate.CredentialBundlePath},
		} {
			if file.path != "" {
				f.add("PodCertificate "+file.what, file.path)
			}
		}
	}
}
