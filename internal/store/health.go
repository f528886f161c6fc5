package store

import (
	"errors"
	"fmt"
	"time"
)

// slowWrite is how long a write may take before the disk is said not to answer.
const slowWrite = 10 * time.Second

// Failed is closed at fail-stop: the disk did not say whether it holds the last
// set, and nothing is written any more (see DESIGN.md). Err tells why. What is
// in View stays right.
func (s *Store) Failed() <-chan struct{} { return s.failed }

// Err returns why nothing is written any more, nil while the store goes on. Only
// a restart cures it.
func (s *Store) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.broken
}

// Writable returns why a write could not succeed now, nil if it can: the last one
// was refused, or has not ended, or what is kept of the disk is being used up. It
// asks no disk. A store that somebody writes to, however rarely, hears from the
// disk: a lazy set that was refused is tried again every second.
func (s *Store) Writable() error {
	s.mu.Lock()
	broken, refused, began := s.broken, s.refused, s.began
	s.mu.Unlock()
	switch {
	case broken != nil:
		return broken
	case refused != nil:
		return refused
	case !began.IsZero() && time.Since(began) > slowWrite:
		return fmt.Errorf("store: write %s: the disk has not answered for %s", s.file.path, time.Since(began).Round(time.Second))
	}
	if err := s.file.short(); err != nil {
		return err
	}
	return nil
}

// failedLocked takes note of how the last batch ended.
func (s *Store) failedLocked(err error) {
	s.refused = err
	var unknown *unknownError
	if errors.As(err, &unknown) && s.broken == nil {
		s.broken = err
		close(s.failed)
	}
}
