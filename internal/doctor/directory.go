package doctor

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/sampan-batch/sampan/internal/engine"
)

// directories looks at where an engine keeps what it has.
func (o Options) directories() []Finding {
	findings := []Finding{directory("data directory", o.DataDir)}
	if os.Geteuid() != 0 && os.Getenv("HOME") == "" && os.Getenv("XDG_DATA_HOME") == "" {
		findings = append(findings, limited("home", "set HOME, or name the directory by --data-dir", "HOME is not set"))
	}
	return append(findings, directory("image directory", filepath.Join(o.DataDir, "images")))
}

func directory(name, dir string) Finding {
	nearest, err := engine.Keeps(dir)
	var unsafe *engine.UnsafePathError
	switch {
	case errors.As(err, &unsafe):
		return broken(name, "", "%v", err) // what to do is in it
	case err != nil:
		return broken(name, "name another by --data-dir, or set HOME", "%s: %v", dir, err)
	}
	how := dir
	if _, err := os.Lstat(dir); errors.Is(err, fs.ErrNotExist) {
		how += ", to be made"
	}
	var st unix.Statfs_t
	if err := unix.Statfs(nearest, &st); err != nil {
		return limited(name, "", "%s: %v", how, err)
	}
	free, size := st.Bavail*uint64(st.Bsize), st.Blocks*uint64(st.Bsize)
	how += fmt.Sprintf("; %.1f GB free", float64(free)/1e9)
	if st.Files > 0 {
		how += fmt.Sprintf(", %d inodes", st.Ffree)
	}
	switch {
	case free < min(1<<30, size/100*15): // as evictions have it: eviction.Defaults
		return limited(name, "make room, or name another directory: pods are evicted otherwise (--eviction-hard)", "%s", how)
	case st.Files > 0 && st.Ffree < min(50000, st.Files/20):
		return limited(name, "remove files, or name another directory: pods are evicted otherwise (--eviction-hard)", "%s", how)
	}
	return ok(name, "%s", how)
}

// sameDevice tells whether two paths are on one file system.
func sameDevice(a, b string) bool {
	var of [2]unix.Stat_t
	return unix.Stat(a, &of[0]) == nil && unix.Stat(b, &of[1]) == nil && of[0].Dev == of[1].Dev
}
