package sandbox

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/sampan-batch/sampan/internal/runner"
	"github.com/sampan-batch/sampan/internal/runner/hostpath"
)

// mountError puts the reason why m cannot be mounted into Kubernetes' words.
func (c *container) mountError(m runner.Mount, err error) error {
	var sub *hostpath.SubError
	var errno unix.Errno
	switch {
	case errors.Is(err, runner.ErrNoVolume):
		return err // nothing is wrong with the container
	case errors.As(err, &sub):
		return &runner.StartError{
			Reason:  "CreateContainerConfigError",
			Message: fmt.Sprintf("failed to prepare subPath for volumeMount %q of container %q: %v", m.Volume, c.spec.Container, sub.Err),
		}
	case errors.As(err, &errno):
		err = errno
	}
	source := m.Source
	if source == "" {
		source = m.Volume
	}
	return &runner.StartError{
		Reason:  "CreateContainerError",
		Message: fmt.Sprintf("failed to mount %q to %q: %v", source, m.Target, err),
	}
}
