package supervisor

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/sampan-batch/sampan/internal/network"
	"github.com/sampan-batch/sampan/internal/runner"
)

// errStopping: the supervisor takes no more requests; soon there is another.
var errStopping = errors.New("supervisor: it is stopping")

// kinds are the errors that keep their identity across the wire.
func kinds() map[string]error {
	return map[string]error{
		"notFound":    runner.ErrNotFound,
		"exists":      runner.ErrExists,
		"running":     runner.ErrRunning,
		"ended":       runner.ErrEnded,
		"noVolume":    runner.ErrNoVolume,
		"noNetwork":   runner.ErrNoNetwork,
		"door":        network.ErrDoor,
		"unsupported": errors.ErrUnsupported,
		"noFile":      fs.ErrNotExist,
		"remains":     runner.ErrRemains,
		"slow":        runner.ErrSlow,
		"busy":        runner.ErrBusy,
		"stopping":    errStopping,
	}
}

func toWire(err error) wireError {
	var start *runner.StartError
	if errors.As(err, &start) {
		return wireError{Kind: "start", Message: start.Message, Reason: start.Reason, Code: start.Code}
	}
	for kind, known := range kinds() {
		if errors.Is(err, known) {
			return wireError{Kind: kind, Message: err.Error()}
		}
	}
	return wireError{Message: err.Error()}
}

func (e wireError) toError() error {
	if e.Kind == "start" {
		return &runner.StartError{Reason: e.Reason, Code: e.Code, Message: e.Message}
	}
	known, ok := kinds()[e.Kind]
	switch {
	case !ok:
		return errors.New(e.Message)
	case known.Error() == e.Message:
		return known
	default:
		return &remoteError{message: e.Message, known: known}
	}
}

// remoteError is an error that the supervisor wrapped, with its own words.
type remoteError struct {
	message string
	known   error
}

func (e *remoteError) Error() string { return e.message }
func (e *remoteError) Unwrap() error { return e.known }

func errorf(id string, err error) error { return fmt.Errorf("container %s: %w", id, err) }
