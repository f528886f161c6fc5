package sandbox

import (
	"bufio"
	"io"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// defaultPath is what containerd gives an image that sets no PATH.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// environment returns the container's, with what containerd and runc add to
// every container.
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
	if !has(env, "HOME") {
		add("HOME", c.home())
	}
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

// home is the user's home directory by the image's /etc/passwd.
func (c *container) home() string {
	for i := len(c.spec.Layers) - 1; i >= 0; i-- {
		f, err := openInLayer(c.spec.Layers[i], "etc/passwd")
		if err != nil {
			continue
		}
		defer f.Close()
		if st, err := f.Stat(); err == nil && st.Mode().IsRegular() {
			return homeOf(f, c.ids.uid)
		}
		break // deleted by this layer
	}
	return "/"
}

// maxPasswd is how much of an image's /etc/passwd is read.
const maxPasswd = 1 << 20

func homeOf(passwd io.Reader, uid uint32) string {
	lines := bufio.NewScanner(io.LimitReader(passwd, maxPasswd))
	for lines.Scan() {
		fields := strings.Split(lines.Text(), ":")
		if len(fields) < 6 || fields[5] == "" || strings.IndexByte(fields[5], 0) >= 0 {
			continue
		}
		if n, err := strconv.ParseUint(fields[2], 10, 32); err == nil && uint32(n) == uid {
			return fields[5]
		}
	}
	return "/"
}

// openInLayer opens a file of an image's layer, whose links lead nowhere but
// into the layer.
func openInLayer(layer, name string) (*os.File, error) {
	dir, err := unix.Open(layer, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: layer, Err: err}
	}
	defer unix.Close(dir)
	fd, err := unix.Openat2(dir, name, &unix.OpenHow{
		Flags:   unix.O_RDONLY | unix.O_NONBLOCK | unix.O_NOCTTY | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	})
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: name, Err: err}
	}
	return os.NewFile(uintptr(fd), name), nil
}
