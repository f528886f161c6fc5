package image

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

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
		why = said(answer)
		switch answer.StatusCode {
		case http.StatusNotFound:
			why = "not found"
		case http.StatusUnauthorized, http.StatusForbidden:
			why = "the registry refused access: the repository does not exist or needs credentials (imagePullSecrets or `docker login`)"
		case http.StatusTooManyRequests:
			why = "the registry answered: too many requests"
		}
	}
	if head, _, found := strings.Cut(why, noToken); found {
		why = head + noToken // and not what it has answered instead
	}
	if len(why) > mostOfAnswer {
		why = strings.ToValidUTF8(why[:mostOfAnswer], "") + "…"
	}
	return &Error{
		Reason:  ErrImagePull,
		Message: fmt.Sprintf("failed to pull image %q: %s", ref, why),
		Err:     err,
	}
}

// mostOfAnswer is how much of what a registry says is told, in bytes.
const mostOfAnswer = 1000

// noToken is how the library begins to tell of an answer that has no token, before the answer.
const noToken = "no token in bearer response"

// said is what a registry has answered, in the words that are meant for people. Whatever else there
// is in an answer is not told: who writes manifests could read by it what only the engine reaches.
func said(answer *transport.Error) string {
	why := fmt.Sprintf("the registry answered %d %s", answer.StatusCode, http.StatusText(answer.StatusCode))
	for i, d := range answer.Errors {
		sep := "; "
		if i == 0 {
			sep = ": "
		}
		why += sep + string(d.Code)
		if d.Message != "" {
			why += " (" + d.Message + ")"
		}
		if len(why) > mostOfAnswer {
			break
		}
	}
	return why
}

// badImage is an image that must not be used, whoever offers it.
func badImage(format string, args ...any) error {
	return &Error{Reason: ErrImagePull, Message: fmt.Sprintf(format, args...)}
}
