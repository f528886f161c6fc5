// Package volume makes the volumes of one pod out of what is on this machine
// and in the API: emptyDir, hostPath, configMap, secret, downwardAPI and
// projected. It mounts nothing itself; it prepares directories and says what is
// to be mounted where.
//
// The files of API objects are replaced as in Kubernetes, all or none: they
// live in a directory with a time for its name, which ..data points to.
//
// Volumes that need a cluster (claims, network storage, CSI) are refused with
// an error, and so is everything that gives a pod an identity.
package volume

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/sampan-batch/sampan/internal/agent/recipe"
)

// Pod makes the volumes of one pod.
type Pod struct {
	// Dir is the pod's directory; it is created when something goes into it.
	Dir string
	// Object is the pod in its latest state.
	Object *corev1.Pod
	// Objects are the ConfigMaps and Secrets of its namespace.
	Objects recipe.Objects
	// IPs and Allocatable are what downward API files may ask for.
	IPs         []string
	Allocatable corev1.ResourceList
	// Now is the time after which a generation of files is named.
	Now func() time.Time
}

// Error says which volume could not be made.
type Error struct {
	Volume string
	Err    error
}

func (e *Error) Error() string {
	return fmt.Sprintf("MountVolume.SetUp failed for volume %q : %v", e.Volume, e.Err)
}

func (e *Error) Unwrap() error { return e.Err }

// Setup makes all volumes, or brings those that show API objects up to date.
// The errors are joined; each is an *Error.
func (p *Pod) Setup() error {
	var errs []error
	for i := range p.Object.Spec.Volumes {
		v := &p.Object.Spec.Volumes[i]
		if err := p.setup(v); err != nil {
			errs = append(errs, &Error{v.Name, err})
		}
	}
	return errors.Join(errs...)
}

// Live reports whether the pod has volumes that change with the API, so that
// Setup is to be called from time to time.
func Live(pod *corev1.Pod) bool {
	for i := range pod.Spec.Volumes {
		if v := &pod.Spec.Volumes[i]; v.ConfigMap != nil || v.Secret != nil || v.DownwardAPI != nil || v.Projected != nil {
			return true
		}
	}
	return false
}

func (p *Pod) setup(v *corev1.Volume) error {
	switch {
	case v.EmptyDir != nil:
		return p.emptyDir(v)
	case v.HostPath != nil:
		return hostPath(v.HostPath)
	case v.ConfigMap != nil, v.Secret != nil, v.DownwardAPI != nil, v.Projected != nil:
		files, err := p.files(v)
		if err != nil {
			return err
		}
		return p.write(p.path(v), files)
	}
	return fmt.Errorf("volumes of type %s are not supported by this node", typeOf(v))
}

// typeOf returns the name of the volume's source as a manifest writes it.
func typeOf(v *corev1.Volume) string {
	src := reflect.ValueOf(v.VolumeSource)
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

// path is the directory of the volume, laid out as a kubelet does.
func (p *Pod) path(v *corev1.Volume) string {
	kind := "empty-dir"
	switch {
	case v.ConfigMap != nil:
		kind = "configmap"
	case v.Secret != nil:
		kind = "secret"
	case v.DownwardAPI != nil:
		kind = "downward-api"
	case v.Projected != nil:
		kind = "projected"
	}
	return filepath.Join(p.Dir, "volumes", "kubernetes.io~"+kind, v.Name)
}

// makeDir makes a volume's directory. What is above it is closed to others:
// a volume may hold secrets.
func (p *Pod) makeDir(dir string, mode os.FileMode) (created bool, err error) {
	if err := os.MkdirAll(filepath.Dir(dir), 0o700); err != nil {
		return false, err
	}
	switch err := os.Mkdir(dir, mode); {
	case errors.Is(err, fs.ErrExist):
		return false, nil
	case err != nil:
		return false, err
	}
	return true, os.Chmod(dir, mode) // the umask does not count
}

func (p *Pod) emptyDir(v *corev1.Volume) error {
	switch v.EmptyDir.Medium {
	case corev1.StorageMediumDefault, corev1.StorageMediumMemory:
	default:
		return fmt.Errorf("emptyDir medium %q is not supported by this node", v.EmptyDir.Medium)
	}
	mode := os.FileMode(0o777)
	if m := v.EmptyDir.Mode; m != nil {
		mode = fileMode(*m)
	}
	dir := p.path(v)
	created, err := p.makeDir(dir, mode)
	if err != nil || !created {
		return err
	}
	if gid, ok := p.fsGroup(); ok {
		return own(dir, -1, gid, mode|0o770|os.ModeSetgid)
	}
	return nil
}

// fsGroup returns the group that the pod's volumes belong to.
func (p *Pod) fsGroup() (gid int, ok bool) {
	if sc := p.Object.Spec.SecurityContext; sc != nil && sc.FSGroup != nil {
		return int(*sc.FSGroup), true
	}
	return 0, false
}

// own gives path to a user and a group, -1 for nobody, and sets its mode. An
// ordinary user cannot give files away: there, containers run as what the user
// is mapped to, and the mode has to do.
func own(path string, uid, gid int, mode os.FileMode) error {
	if err := os.Lchown(path, uid, gid); err != nil && os.Geteuid() == 0 {
		return err
	}
	return os.Chmod(path, mode)
}

// fileMode turns the mode of a manifest into Go's.
func fileMode(mode int32) os.FileMode {
	out := os.FileMode(mode) & os.ModePerm
	if mode&0o4000 != 0 {
		out |= os.ModeSetuid
	}
	if mode&0o2000 != 0 {
		out |= os.ModeSetgid
	}
	if mode&0o1000 != 0 {
		out |= os.ModeSticky
	}
	return out
}

// hostPath checks, or makes, what is at a path of this machine.
func hostPath(src *corev1.HostPathVolumeSource) error {
	kind := corev1.HostPathUnset
	if src.Type != nil {
		kind = *src.Type
	}
	switch kind {
	case corev1.HostPathDirectoryOrCreate:
		if err := os.MkdirAll(src.Path, 0o755); err != nil {
			return err
		}
	case corev1.HostPathFileOrCreate:
		f, err := os.OpenFile(src.Path, os.O_CREATE|os.O_RDONLY, 0o644)
		if err != nil && !isDir(src.Path) {
			return err
		}
		f.Close()
	}
	info, err := os.Stat(src.Path)
	if err != nil {
		if kind == corev1.HostPathUnset && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if kind == corev1.HostPathUnset {
			return os.MkdirAll(src.Path, 0o755) // as container runtimes do
		}
	}
	is := func(ok bool, what string) error {
		if err == nil && ok {
			return nil
		}
		return fmt.Errorf("hostPath type check failed: %s is not %s", src.Path, what)
	}
	switch kind {
	case corev1.HostPathDirectory, corev1.HostPathDirectoryOrCreate:
		return is(err == nil && info.IsDir(), "a directory")
	case corev1.HostPathFile, corev1.HostPathFileOrCreate:
		return is(err == nil && info.Mode().IsRegular(), "a file")
	case corev1.HostPathSocket:
		return is(err == nil && info.Mode().Type() == os.ModeSocket, "a socket file")
	case corev1.HostPathCharDev:
		return is(err == nil && info.Mode().Type() == os.ModeDevice|os.ModeCharDevice, "a character device")
	case corev1.HostPathBlockDev:
		return is(err == nil && info.Mode().Type() == os.ModeDevice, "a block device")
	case corev1.HostPathUnset:
		return nil
	}
	return fmt.Errorf("%s is an invalid hostPath type", kind)
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

// absent reports whether err says that an object does not exist.
func absent(err error) bool { return apierrors.IsNotFound(err) }
