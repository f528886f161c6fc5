package sandbox

import (
	"context"
	"errors"

	"github.com/sampan-batch/sampan/internal/runner"
)

// SetVolume implements runner.Launcher.
func (l *Launcher) SetVolume(*runner.Volume) error { return errors.ErrUnsupported }

// Usage implements runner.Launcher.
func (l *Launcher) Usage(string, []*runner.Spec) (runner.PodUsage, error) {
	return runner.PodUsage{}, nil
}

// Pods implements runner.Launcher.
func (l *Launcher) Pods() ([]string, error) { return nil, nil }

// ReleasePod implements runner.Launcher.
func (l *Launcher) ReleasePod(podUID string) error { return l.RemovePod(podUID) }

// Finish implements runner.Launcher.
func (l *Launcher) Finish(context.Context) error { return nil }
