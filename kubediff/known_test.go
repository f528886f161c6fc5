package kubediff

import "regexp"

// known is what differs on purpose: lines of differences, and why.
var known = []struct{ line, why string }{
	{`^Kubernetes panics: `, "Kubernetes panics on an Indexed Job with a podFailurePolicy or successPolicy and without completions; we say what is wrong"},
}

// excuses finds what excuses a line, -1 if nothing does.
func excuses(line string) int {
	for i, k := range known {
		if regexp.MustCompile(k.line).MatchString(line) {
			return i
		}
	}
	return -1
}
