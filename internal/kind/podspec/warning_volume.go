package podspec

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"
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
			w.overlaps(keyPaths(s.Items), fmt.Sprintf("volume %q (ConfigMap %q): overlapping paths", v.Name, s.Name))
		}
		if s := v.Secret; s != nil {
			w.overlaps(keyPaths(s.Items), fmt.Sprintf("volume %q (Secret %q): overlapping paths", v.Name, s.SecretName))
		}
		if s := v.DownwardAPI; s != nil {
			w.overlaps(filePaths(s.Items), fmt.Sprintf("volume %q (DownwardAPI): overlapping paths", v.Name))
		}
		if v.Projected != nil {
			w.projected(v.Name, v.Projected.Sources)
		}
	}
}

// projected looks for overlaps inside each source, and with all before it.
func (w *warner) projected(volume string, sources []corev1.VolumeProjection) {
	all := sets.New[string]()
	for _, s := range sources {
		if s == (corev1.VolumeProjection{}) {
			w.list = append(w.list, fmt.Sprintf("volume %q (Projected) has no sources provided", volume))
			continue
		}
		paths, source := projectedPaths(&s)
		if len(paths) == 0 {
			continue
		}
		message := fmt.Sprintf("volume %q (Projected %s): overlapping paths", volume, source)
		w.overlaps(paths, message)
		own := sets.New(paths...)
		both := append(own.UnsortedList(), all.UnsortedList()...)
		slices.Sort(both)
		w.overlaps(both, message)
		all = all.Union(own)
	}
}

// projectedPaths returns the files of a source and what to call it.
func projectedPaths(s *corev1.VolumeProjection) (paths []string, source string) {
	switch {
	case s.ConfigMap != nil:
		return keyPaths(s.ConfigMap.Items), fmt.Sprintf("ConfigMap %q", s.ConfigMap.Name)
	case s.Secret != nil:
		return keyPaths(s.Secret.Items), fmt.Sprintf("Secret %q", s.Secret.Name)
	case s.DownwardAPI != nil:
		return filePaths(s.DownwardAPI.Items), "DownwardAPI"
	case s.ServiceAccountToken != nil:
		return []string{s.ServiceAccountToken.Path}, "ServiceAccountToken"
	case s.ClusterTrustBundle != nil:
		name := s.ClusterTrustBundle.Name
		if name == nil {
			name = s.ClusterTrustBundle.SignerName
		}
		if name != nil {
			return []string{s.ClusterTrustBundle.Path}, fmt.Sprintf("ClusterTrustBundle %q", *name)
		}
	}
	return nil, ""
}

// overlaps warns about each path that equals one before it, or is a directory
// of it, or the other way round.
func (w *warner) overlaps(paths []string, message string) {
	var before []string
	for _, path := range paths {
		path = strings.TrimRight(path, "/")
		for _, other := range before {
			if path == "" || other == "" {
				continue
			}
			if strings.HasPrefix(other+"/", path+"/") || strings.HasPrefix(path+"/", other+"/") {
				w.list = append(w.list, fmt.Sprintf("%s: %q with %q", message, path, other))
				break
			}
		}
		before = append(before, path)
	}
}

func keyPaths(items []corev1.KeyToPath) []string {
	var paths []string
	for _, item := range items {
		paths = append(paths, item.Path)
	}
	return paths
}

func filePaths(items []corev1.DownwardAPIVolumeFile) []string {
	var paths []string
	for _, item := range items {
		paths = append(paths, item.Path)
	}
	return paths
}
