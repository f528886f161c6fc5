// Package stdio has what a client brings to a process of a pod: the standard streams,
// and the size of its terminal. Those who speak with clients and those who start
// processes know nothing of each other; this they have in common.
package stdio

import "io"

// Streams are what a client brings to a process. They are the client's: who is handed
// them closes none. A Read of Stdin, or a Write, that hangs is not waited for, and may
// still be under way when the process has ended.
type Streams struct {
	// Stdin is read until its end; nil: the process has no input.
	Stdin io.Reader
	// Stdout and Stderr are written to as the output comes; nil: it is dropped. When
	// both are the same, it comes in the order in which it was written.
	Stdout, Stderr io.Writer
	// Resize says what size the terminal is to have, if there is one.
	Resize <-chan Size
}

// Size is the size of a terminal, in characters.
type Size struct {
	Width, Height uint16
}
