// Package volume says what the volumes of one pod are, out of what is in the
// API: emptyDir, hostPath, configMap, secret, downwardAPI, projected and image, and of
// claims those whose PersistentVolume is a path of this machine. It
// decides which files a volume has, with which modes and owners, and what is to
// be mounted where. To make, fill, measure and remove volumes is the runner's
// business, whose user in a container's eyes is root; only what is at a hostPath
// is looked at from here, by a process of its own: it may not answer.
//
// Volumes that need a cluster (network storage, CSI) and block devices are refused with
// an error. A pod's identity is a token, which whoever looks after the pod has.
package volume

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/sampan-batch/sampan/internal/agent/network"
	"github.com/sampan-batch/sampan/internal/agent/runspec"
	"github.com/sampan-batch/sampan/internal/kind"
	"github.com/sampan-batch/sampan/internal/runner"
	"github.com/sampan-batch/sampan/internal/runner/hostpath"
)

// Pod knows the volumes of one pod.
type Pod struct {
	// Object is the pod in its latest state, Class the isolation of its containers.
	Object *corev1.Pod
	Class  runner.Class
	// Objects are the ConfigMaps, Secrets and claims of its namespace, and the volumes of the
	// latter.
	Objects Objects
	// Token returns the token for a volume.
	Token func(src *corev1.ServiceAccountTokenProjection) (string, error)
	// Certificate returns a key of the pod's and the certificates for it, PEM, for a source of a volume.
	Certificate func(volume string, source int, src *corev1.PodCertificateProjection) (key, chain []byte, err error)
	// Paths is who looks at hostPaths.
	Paths *hostpath.Scout
	// Addresses and Allocatable are what downward API files may ask for, and the
	// latter bounds volumes in memory.
	Addresses   network.Addresses
	Allocatable corev1.ResourceList
}

// Objects finds what volumes are made of.
type Objects interface {
	runspec.Objects
	Claim(name string) (*corev1.PersistentVolumeClaim, error)
	Volume(name string) (*corev1.PersistentVolume, error)
	// TrustBundle returns a ClusterTrustBundle, TrustBundles those of a signer, in a list that is the
	// caller's.
	TrustBundle(name string) (*certificatesv1.ClusterTrustBundle, error)
	TrustBundles(signer string) ([]*certificatesv1.ClusterTrustBundle, error)
}

// Setter makes volumes; a runner.Runner is one.
type Setter interface {
	SetVolume(ctx context.Context, v *runner.Volume) error
}

// Error says which volume could not be made.
type Error struct {
	Volume string
	Err    error
}

func (e *Error) Error() string {
	var absent *absentError
	if errors.As(e.Err, &absent) {
		return fmt.Sprintf("MountVolume.NewMounter initialization failed for volume %q : %v", absent.volume, e.Err)
	}
	return fmt.Sprintf("MountVolume.SetUp failed for volume %q : %v", e.Volume, e.Err)
}

func (e *Error) Unwrap() error { return e.Err }

// Setup has all volumes made, or brings those that show API objects up to date.
// The errors are joined; each is an *Error.
func (p *Pod) Setup(ctx context.Context, runner Setter) error {
	var errs []error
	for i := range p.Object.Spec.Volumes {
		v := &p.Object.Spec.Volumes[i]
		if !needed(v, p.Class) {
			continue
		}
		if err := p.setup(ctx, v, runner); err != nil {
			errs = append(errs, &Error{v.Name, err})
		}
	}
	return errors.Join(errs...)
}

func (p *Pod) setup(ctx context.Context, v *corev1.Volume, runner Setter) error {
	switch {
	case v.HostPath != nil:
		return p.hostPath(ctx, v.HostPath)
	case v.Image != nil:
		return nil // whoever starts a container that mounts it gets it
	case v.PersistentVolumeClaim != nil, v.Ephemeral != nil:
		return p.setClaim(ctx, v, runner)
	}
	want, err := p.Volume(v)
	if err != nil {
		return err
	}
	return runner.SetVolume(ctx, want)
}

// Any reports whether the pod has volumes that are to be set up.
func Any(pod *corev1.Pod, class runner.Class) bool {
	return slices.ContainsFunc(pod.Spec.Volumes, func(v corev1.Volume) bool { return needed(&v, class) })
}

// HasToken reports whether a volume of the pod shows a token.
func HasToken(pod *corev1.Pod) bool {
	return slices.ContainsFunc(pod.Spec.Volumes, func(v corev1.Volume) bool {
		return v.Projected != nil && slices.ContainsFunc(v.Projected.Sources, func(s corev1.VolumeProjection) bool { return s.ServiceAccountToken != nil })
	})
}

// needed: not even the volume that admission gives to every pod has a place in a process of the
// machine, which sees the machine's files. It is no error, as nobody has asked for it.
func needed(v *corev1.Volume, class runner.Class) bool {
	return class != runner.Host || !kind.TokenVolume(v)
}

// Live reports whether the pod has volumes that change with the API, so that
// Setup is to be called from time to time.
func Live(pod *corev1.Pod, class runner.Class) bool {
	for i := range pod.Spec.Volumes {
		v := &pod.Spec.Volumes[i]
		if needed(v, class) && (v.ConfigMap != nil || v.Secret != nil || v.DownwardAPI != nil || v.Projected != nil) {
			return true
		}
	}
	return false
}

// Volume returns what a volume of the pod is to be. It is an error for a
// hostPath, which is there already, for an image, and for what this node does not have.
func (p *Pod) Volume(v *corev1.Volume) (*runner.Volume, error) {
	out := &runner.Volume{Class: p.Class, PodUID: string(p.Object.UID), Name: v.Name, Group: p.fsGroup()}
	switch {
	case v.EmptyDir != nil:
		return out, p.emptyDir(out, v.EmptyDir)
	case v.ConfigMap != nil, v.Secret != nil, v.DownwardAPI != nil, v.Projected != nil:
		out.Memory = secret(v)
		return out, p.show(out, v)
	}
	return nil, fmt.Errorf("volumes of type %s are not supported by this node", nameOfSource(v.VolumeSource))
}

// secret reports whether the volume shows what must not reach a disk.
func secret(v *corev1.Volume) bool {
	if v.Secret != nil {
		return true
	}
	if v.Projected != nil {
		for _, s := range v.Projected.Sources {
			if s.Secret != nil || s.ServiceAccountToken != nil || s.PodCertificate != nil {
				return true
			}
		}
	}
	return false
}

// nameOfSource returns the name of a volume's source as a manifest writes it.
func nameOfSource(source any) string {
	src := reflect.ValueOf(source)
	for i := range src.NumField() {
		if !src.Field(i).IsZero() {
			name, _ := src.Type().Field(i).Tag.Lookup("json")
			for j := range len(name) {
				if name[j] == ',' {
					return name[:j]
				}
			}
		}
	}
	return "unknown"
}

func (p *Pod) emptyDir(out *runner.Volume, src *corev1.EmptyDirVolumeSource) error {
	switch src.Medium {
	case corev1.StorageMediumDefault:
	case corev1.StorageMediumMemory:
		out.Memory, out.Size = true, p.memorySize(src)
	default:
		return fmt.Errorf("emptyDir medium %q is not supported by this node", src.Medium)
	}
	out.Mode = 0o777
	if src.Mode != nil {
		out.Mode = uint32(*src.Mode)
	}
	if out.Group != nil {
		out.Mode |= 0o2770
	}
	return nil
}

// show gives a volume the files that it shows. Those of a group may be read by
// it, whatever else their modes say.
func (p *Pod) show(out *runner.Volume, v *corev1.Volume) error {
	files, err := p.files(v)
	if err != nil {
		return err
	}
	out.Mode = 0o755
	if out.Group != nil {
		out.Mode |= 0o2550
	}
	for path, f := range files {
		if !filepath.IsLocal(path) || strings.HasPrefix(path, "..") {
			return fmt.Errorf("invalid path %q in a volume", path)
		}
		if out.Group != nil {
			f.Mode |= 0o440
			files[path] = f
		}
	}
	out.Files = files
	return nil
}

// fsGroup returns the group that the pod's volumes belong to. The
// fsGroupChangePolicy is about content that a volume brings along: that of a claim.
func (p *Pod) fsGroup() *uint32 {
	sc := p.Object.Spec.SecurityContext
	if sc == nil || sc.FSGroup == nil {
		return nil
	}
	gid := uint32(*sc.FSGroup)
	return &gid
}

// absent reports whether err says that an object does not exist.
func absent(err error) bool { return apierrors.IsNotFound(err) }
