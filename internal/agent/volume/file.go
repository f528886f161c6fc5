package volume

import (
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"

	"github.com/sampan-batch/sampan/internal/agent/runspec"
	"github.com/sampan-batch/sampan/internal/runner"
)

// defaultMode is the mode of files of which the manifest says nothing.
const defaultMode int32 = 0o644

func modeOr(mode *int32, fallback int32) int32 {
	if mode != nil {
		return *mode
	}
	return fallback
}

// maxFiles is how many bytes the files of a volume may have together: what a runner can
// be told at once. A manifest can ask for the same megabyte any number of times.
const maxFiles = 11 << 20

var errTooLarge = fmt.Errorf("the files of the volume have more than %d MiB", maxFiles>>20)

// files are the files of a volume.
type files struct {
	files map[string]runner.File // by their paths
	bytes int
}

// add adds a file, which may take the place of another.
func (f *files) add(path string, data []byte, mode int32) error {
	if f.bytes += len(path) + len(data) - len(f.files[path].Data); f.bytes > maxFiles {
		return errTooLarge
	}
	f.files[path] = runner.File{Data: data, Mode: uint32(mode)}
	return nil
}

// files returns the files of a volume, by their paths.
func (p *Pod) files(v *corev1.Volume) (map[string]runner.File, error) {
	out := &files{files: map[string]runner.File{}}
	var err error
	switch src := v.VolumeSource; {
	case src.ConfigMap != nil:
		s := src.ConfigMap
		err = p.configMap(out, s.Name, s.Items, s.Optional, modeOr(s.DefaultMode, defaultMode))
	case src.Secret != nil:
		s := src.Secret
		err = p.secret(out, s.SecretName, s.Items, s.Optional, modeOr(s.DefaultMode, defaultMode))
	case src.DownwardAPI != nil:
		err = p.downward(out, src.DownwardAPI.Items, modeOr(src.DownwardAPI.DefaultMode, defaultMode))
	case src.Projected != nil:
		err = p.projected(out, v)
	}
	return out.files, err
}

func (p *Pod) projected(out *files, v *corev1.Volume) error {
	src := v.Projected
	mode := modeOr(src.DefaultMode, defaultMode)
	var errs []error
	for i, s := range src.Sources {
		if out.bytes > maxFiles {
			return errTooLarge
		}
		switch {
		case s.ConfigMap != nil:
			errs = append(errs, p.configMap(out, s.ConfigMap.Name, s.ConfigMap.Items, s.ConfigMap.Optional, mode))
		case s.Secret != nil:
			errs = append(errs, p.secret(out, s.Secret.Name, s.Secret.Items, s.Secret.Optional, mode))
		case s.DownwardAPI != nil:
			errs = append(errs, p.downward(out, s.DownwardAPI.Items, mode))
		case s.ServiceAccountToken != nil:
			errs = append(errs, p.token(out, s.ServiceAccountToken, mode))
		case s.ClusterTrustBundle != nil:
			errs = append(errs, p.trustBundle(out, s.ClusterTrustBundle, mode))
		case s.PodCertificate != nil:
			errs = append(errs, p.podCertificate(out, v.Name, i, s.PodCertificate, mode))
		}
	}
	return errors.Join(errs...)
}

// token shows a token.
func (p *Pod) token(out *files, src *corev1.ServiceAccountTokenProjection, mode int32) error {
	token, err := p.Token(src)
	if err != nil {
		return err
	}
	return p.addPrivate(out, src.Path, []byte(token), mode)
}

// oneUser returns the user whom all containers of the pod are said to run as, nil if that is not
// said of each, or not of each the same.
func oneUser(pod *corev1.Pod) *uint32 {
	var common *int64
	for _, list := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range list {
			var user *int64
			if sc := pod.Spec.SecurityContext; sc != nil {
				user = sc.RunAsUser
			}
			if sc := list[i].SecurityContext; sc != nil && sc.RunAsUser != nil {
				user = sc.RunAsUser
			}
			if user == nil || common != nil && *common != *user {
				return nil
			}
			common = user
		}
	}
	if common == nil {
		return nil
	}
	uid := uint32(*common)
	return &uid
}

func (p *Pod) configMap(out *files, name string, items []corev1.KeyToPath, optional *bool, mode int32) error {
	isOptional := optional != nil && *optional
	cm, err := p.Objects.ConfigMap(name)
	if err != nil {
		if absent(err) && isOptional {
			return nil
		}
		return err
	}
	data := make(map[string][]byte, len(cm.Data)+len(cm.BinaryData))
	for k, v := range cm.Data {
		data[k] = []byte(v)
	}
	for k, v := range cm.BinaryData {
		data[k] = v
	}
	return choose(out, data, items, isOptional, mode, "config")
}

func (p *Pod) secret(out *files, name string, items []corev1.KeyToPath, optional *bool, mode int32) error {
	isOptional := optional != nil && *optional
	secret, err := p.Objects.Secret(name)
	if err != nil {
		if absent(err) && isOptional {
			return nil
		}
		return err
	}
	return choose(out, secret.Data, items, isOptional, mode, "secret")
}

// choose adds the files that items name, or all.
func choose(out *files, data map[string][]byte, items []corev1.KeyToPath, optional bool, mode int32, what string) error {
	if len(items) == 0 {
		for k, v := range data {
			if err := out.add(k, v, mode); err != nil {
				return err
			}
		}
		return nil
	}
	for _, item := range items {
		v, ok := data[item.Key]
		if !ok {
			if optional {
				continue
			}
			return fmt.Errorf("references non-existent %s key: %s", what, item.Key)
		}
		if err := out.add(item.Path, v, modeOr(item.Mode, mode)); err != nil {
			return err
		}
	}
	return nil
}

func (p *Pod) downward(out *files, items []corev1.DownwardAPIVolumeFile, mode int32) error {
	var errs []error
	for _, item := range items {
		var text string
		var err error
		switch {
		case item.FieldRef != nil:
			text, err = runspec.PodField(p.Object, p.Addresses, item.FieldRef.FieldPath)
		case item.ResourceFieldRef != nil:
			text, err = runspec.ResourceField(p.Object, nil, p.Allocatable, item.ResourceFieldRef)
		}
		if err == nil {
			err = out.add(item.Path, []byte(text), modeOr(item.Mode, mode))
		}
		if errors.Is(err, errTooLarge) {
			return err // there is no end of it
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
