package store

import (
	"errors"
	"fmt"
	"runtime/debug"
)

// DamagedError says that what is at Path is not what a store has written there. Nothing
// was changed.
type DamagedError struct {
	Path string
	Err  error // what was found
}

func (e *DamagedError) Error() string { return fmt.Sprintf("store: %s is damaged: %v", e.Path, e.Err) }
func (e *DamagedError) Unwrap() error { return e.Err }

// errPanic: bbolt met something in the file that cannot be, after it was found
// to be whole when it was opened.
var errPanic = errors.New("it changed while it was open")

// guard calls do, in which bbolt reads the file as memory. Should it find there
// what it cannot work with, or the disk or another program take the memory away
// from under it, that is an error and not the end of the process. Afterwards bbolt
// is in an unknown state, and is never called again.
func (f *file) guard(do func() error) (err error) {
	if f.lost != nil {
		return f.lost
	}
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			f.lost = &unknownError{&DamagedError{f.path, fmt.Errorf("%w: %v", errPanic, r)}}
			err = f.lost
		}
	}()
	return do()
}
