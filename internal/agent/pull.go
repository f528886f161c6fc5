package agent

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/sampan-batch/sampan/internal/reason"
	"github.com/sampan-batch/sampan/internal/runner"
)

// ensureImage gets the container's image here.
func (a *attempt) ensureImage(ctx context.Context) error {
	ref, policy := a.container.Spec.Image, a.container.Spec.ImagePullPolicy
	if a.class == runner.Host {
		a.note(normal, reason.ImageNotUsed, fmt.Sprintf("Container image %q is not used: the command runs as a process of this machine", ref))
		return nil
	}
	var err error
	a.image, err = a.fetch(ctx, ref, policy)
	return err
}

// fetch gets an image here for the container. The error is an *ImageError.
func (a *attempt) fetch(ctx context.Context, ref string, policy corev1.PullPolicy) (*Image, error) {
	t := pullTeller{attempt: a, ref: ref}
	img, err := a.pod.Images.Ensure(ctx, ImageRequest{
		Ref: ref, Policy: policy, PodUID: a.pod.ref.UID,
		Secrets: a.pullSecrets,
		Pulling: func() {
			a.endTurn() // this takes its time
			a.note(normal, reason.Pulling, fmt.Sprintf("Pulling image %q", ref))
			t.begin()
		},
		Progress: t.progress,
	})
	t.end()
	var image *ImageError
	switch {
	case errors.As(err, &image):
		if ctx.Err() == nil {
			a.noteImageError(ref, image)
		}
		image.Ref = ref
		return nil, image
	case err != nil:
		return nil, &ImageError{Reason: ErrImagePull, Message: err.Error(), Ref: ref}
	}
	a.noteImage(ref, policy, img)
	return img, nil
}

func (a *attempt) noteImage(ref string, policy corev1.PullPolicy, img *Image) {
	switch {
	case img.Pulled:
		a.note(normal, reason.Pulled, fmt.Sprintf("Successfully pulled image %q in %v (%v including waiting). Image size: %v bytes.",
			ref, img.PullTime.Truncate(time.Millisecond), (img.PullTime+img.WaitTime).Truncate(time.Millisecond), img.Size))
	case img.ByHand && policy == corev1.PullAlways:
		a.note(normal, reason.Pulled, fmt.Sprintf("Container image %q was loaded by hand on this machine: no registry was asked", ref))
	default:
		a.note(normal, reason.Pulled, fmt.Sprintf("Container image %q already present on machine and can be accessed by the pod", ref))
	}
}

func (a *attempt) noteImageError(ref string, err *ImageError) {
	switch err.Reason {
	case ErrImageNeverPull:
		a.note(warning, reason.ErrImageNeverPull, err.Message)
	case InvalidImageName, ImageInspectError:
		a.note(warning, reason.InspectFailed, err.Message)
	default:
		a.note(warning, reason.Failed, fmt.Sprintf("Failed to pull image %q: %s", ref, err.Message))
	}
}

// pullSecrets returns the pod's image pull secrets, or those of its service
// account when it names none itself.
func (a *attempt) pullSecrets(ctx context.Context) []*corev1.Secret {
	client := a.pod.Client
	refs := a.object.Spec.ImagePullSecrets
	if len(refs) == 0 {
		name := a.object.Spec.ServiceAccountName
		if name == "" {
			name = "default"
		}
		if sa, err := client.ServiceAccount(ctx, a.object.Namespace, name); err == nil {
			refs = sa.ImagePullSecrets
		}
	}
	var secrets []*corev1.Secret
	var missing string
	for _, ref := range refs {
		secret, err := client.Secret(ctx, a.object.Namespace, ref.Name)
		if err != nil {
			missing += ", " + ref.Name
			continue
		}
		secrets = append(secrets, secret)
	}
	if missing != "" {
		a.note(warning, reason.FailedToRetrieveImagePullSecret, fmt.Sprintf(
			"Unable to retrieve some image pull secrets (%s); attempting to pull the image may not succeed.", missing[2:]))
	}
	return secrets
}
