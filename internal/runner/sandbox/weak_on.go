//go:build weak

package sandbox

import (
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// A program that is built with the tag weak shows that an attack works where a
// defence is missing. Package attack builds it for itself; nobody else may.

// builtWeakness reads from the environment which defences are missing, separated
// by commas: those that weakness names, and
//
//	descriptors   programs inherit no descriptor of the machine's root
func builtWeakness() *weakness {
	w := &weakness{missing: strings.Split(os.Getenv("SAMPAN_WITHOUT"), ",")}
	if w.without("descriptors") {
		w.begin = leakRoot
	}
	return w
}

// leakRoot gives a program a descriptor of the machine's root, 700 or the next
// one that is free, as a mistake in the supervisor would.
func leakRoot(c *container) error {
	dir, err := unix.Open("/", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(dir)
	root, err := unix.FcntlInt(uintptr(dir), unix.F_DUPFD_CLOEXEC, 700)
	if err != nil {
		return err
	}
	c.opened = append(c.opened, root)
	return c.inherit(root, func(uintptr) {})
}
