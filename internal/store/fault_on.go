//go:build faulty

package store

import (
	"fmt"
	"os"
	"strings"
	"syscall"
)

// A program that is built with the tag faulty refuses itself disk calls, for
// package torture, which builds it for itself; nobody else may.

// builtFault refuses the next disk call that has the label which stands in the file
// that SAMPAN_FAULT names, and removes that file.
func builtFault() func(label string) error {
	file := os.Getenv("SAMPAN_FAULT")
	return func(label string) error {
		wanted, err := os.ReadFile(file)
		if err != nil || strings.TrimSpace(string(wanted)) != label || os.Remove(file) != nil {
			return nil
		}
		return fmt.Errorf("refused for the torture: %w", syscall.EIO)
	}
}
