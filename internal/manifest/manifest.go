// Package manifest makes objects of text: YAML documents and JSON values, any number of
// each. It takes what kubectl takes, and every object remembers where it stands, so that
// whoever refuses it later can name the line.
//
// It knows nothing of kinds, and never stops at the first mistake: what else is wrong
// is worth knowing too. What is silently left out elsewhere (a second JSON value, what
// follows a "...") is read, or is an error.
//
// In the order of events: document.go cuts a text up, decode.go makes objects of it,
// foreign.go recognises what was meant for another program, place.go finds lines again.
package manifest

import (
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// Object is one object of the input.
type Object struct {
	*unstructured.Unstructured
	place
}
