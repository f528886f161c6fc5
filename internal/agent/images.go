package agent

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/sampan-batch/sampan/internal/agent/podstate"
	"github.com/sampan-batch/sampan/internal/agent/runspec"
)

// Images provides the images of containers. All methods are safe for
// concurrent use.
type Images interface {
	// Ensure returns the image, pulled if the policy asks for it, unpacked and
	// ready to be run. An error is an *ImageError. Once Ensure has returned an
	// image, its layers stay until the pod is released.
	Ensure(ctx context.Context, req ImageRequest) (*Image, error)
	// LookupUser finds the user of a container in the image's /etc/passwd and
	// /etc/group. user is what an image's configuration may say: "", "name",
	// "name:group", "uid", "uid:gid" and mixtures.
	LookupUser(ctx context.Context, img *Image, user string) (runspec.User, error)
	// Place returns where an absolute path of the image leads, without links. What is
	// not there counts as directories that could be made.
	Place(img *Image, path string) (string, error)
	// Reclaim removes images that no container uses and that can be pulled again.
	Reclaim(ctx context.Context) error
	// Release says that no container of the pod uses an image any more.
	Release(podUID string)
}

// ImageRequest asks for one image.
type ImageRequest struct {
	Ref    string
	Policy corev1.PullPolicy
	// PodUID is the pod that the image is for; see Images.Release.
	PodUID string
	// Secrets returns the pod's image pull secrets, of the types
	// kubernetes.io/dockerconfigjson and kubernetes.io/dockercfg, in the order in
	// which they are tried. They are shared objects. It is called only when a
	// registry is asked, or the image is here and was pulled by such a secret.
	Secrets func(ctx context.Context) []*corev1.Secret
	// Pulling, if not nil, is called once when a registry is about to be asked.
	Pulling func()
	// Progress, if not nil, is called now and then with how many bytes have come, of how many.
	Progress func(done, total int64)
}

// Image is an image that can be run. It is immutable.
type Image struct {
	// Ref is what was asked for; ID the digest of the image's configuration
	// ("sha256:…"); Digest the name by which Kubernetes reports it
	// ("docker.io/library/perl@sha256:…"), or "" if it never had one.
	Ref, ID, Digest string
	// Layers are the unpacked layers, lowest first.
	Layers []string
	Size   int64 // compressed, in bytes

	Entrypoint, Cmd, Env []string
	WorkingDir           string
	User                 string
	StopSignal           string

	// Pulled says that this call brought the image here; PullTime is how long
	// that took, WaitTime how long it waited for its turn before.
	Pulled             bool
	PullTime, WaitTime time.Duration
	// ByHand says that the image was loaded by hand, so that no registry was
	// asked although the policy says so.
	ByHand bool
}

// ImageError says why there is no image, in Kubernetes' words.
type ImageError struct {
	// Reason is the waiting reason: ErrImagePull, ErrImageNeverPull,
	// InvalidImageName, ImageInspectError.
	Reason  string
	Message string
	// Ref is the image, as it was asked for.
	Ref string
}

func (e *ImageError) Error() string { return e.Message }

// The reasons of an ImageError, and the one that the agent gives while it waits
// to try again.
const (
	ErrImagePull      = podstate.ErrImagePull
	ErrImageNeverPull = "ErrImageNeverPull"
	InvalidImageName  = "InvalidImageName"
	ImageInspectError = "ImageInspectError"
	ImagePullBackOff  = podstate.ImagePullBackOff
)
