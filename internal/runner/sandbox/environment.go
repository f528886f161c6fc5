package sandbox

import "strings"

// defaultPath is what containerd gives an image that sets no PATH.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// environment returns the container's, with what containerd and runc add to
// every container. HOME is the user's, whom the caller has looked up in the image.
func (c *container) environment() []string {
	env := append([]string(nil), c.spec.Env...)
	add := func(name, value string) {
		if value != "" && !has(env, name) {
			env = append(env, name+"="+value)
		}
	}
	add("PATH", defaultPath)
	add("HOSTNAME", c.spec.Hostname)
	if c.spec.TTY {
		add("TERM", "xterm")
	}
	add("HOME", "/")
	return env
}

func has(env []string, name string) bool {
	_, ok := lookup(env, name)
	return ok
}

// lookup returns the value of a variable; the first one wins, as in libc.
func lookup(env []string, name string) (string, bool) {
	for _, kv := range env {
		if value, ok := strings.CutPrefix(kv, name+"="); ok {
			return value, true
		}
	}
	return "", false
}
