//go:build !weak

package sandbox

// builtWeakness is what this build lacks of a launcher's defences: nothing.
func builtWeakness() *weakness { return nil }
