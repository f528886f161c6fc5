package image

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// Reasons, as Kubernetes names them in a container's waiting state.
const (
	InvalidImageName  = "InvalidImageName"
	ErrImagePull      = "ErrImagePull"
	ErrImageNeverPull = "ErrImageNeverPull"
)

// Error says why an image cannot be had.
type Error struct {
	Reason  string
	Message string
	Err     error
}

func (e *Error) Error() string { return e.Message }
func (e *Error) Unwrap() error { return e.Err }

// pullError words what went wrong with ref for the person who wrote it.
func pullError(ref string, err error) error {
	var known *Error
	if errors.As(err, &known) || errors.Is(err, context.Canceled) {
		return err
	}
	why := err.Error()
	var answer *transport.Error
	if errors.As(err, &answer) {
		switch answer.StatusCode {
		case http.StatusNotFound:
			why = "not found"
		case http.StatusUnauthorized, http.StatusForbidden:
			why = "the registry refused access: the repository does not exist or needs credentials (imagePullSecrets or `docker login`)"
		case http.StatusTooManyRequests:
			why = "the registry answered: too many requests"
		}
	}
	return &Error{
		Reason:  ErrImagePull,
		Message: fmt.Sprintf("failed to pull image %q: %s", ref, why),
		Err:     err,
	}
}

// badImage is an image that must not be used, whoever offers it.
func badImage(format string, args ...any) error {
	return &Error{Reason: ErrImagePull, Message: fmt.Sprintf(format, args...)}
}
