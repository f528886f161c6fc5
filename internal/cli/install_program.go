package cli

import (
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sampan-batch/sampan/internal/engine"
)

// program is the absolute path of this program, which has to be there to stay, and to be
// nobody else's to change.
func program() (string, error) {
	path, err := os.Executable()
	if err != nil {
		return "", err
	}
	info, err := os.Stat(path)
	if err != nil {
		return "", fmt.Errorf("this program is not there any more: %w", err)
	}
	switch {
	case strings.Contains(path, "/go-build"):
		return "", fmt.Errorf("%s is gone when this ends: build the program (scripts/build), and put it in a place of its own, as /usr/local/bin/sampan", path)
	case info.Mode()&0o022 != 0:
		return "", fmt.Errorf("%s can be written by others (mode %04o), who could replace what systemd starts: chmod go-w %[1]s", path, info.Mode().Perm())
	}
	if err := engine.Trusted(filepath.Dir(path)); err != nil {
		return "", fmt.Errorf("the program must be nobody else's to replace: %w", err)
	}
	return path, nil
}

// runnableBy refuses a user who is not there, or who cannot execute a program.
func runnableBy(path, name string) error {
	u, err := user.Lookup(name)
	if err != nil {
		return fmt.Errorf("--as %s: there is no such user; `useradd --system --create-home %[1]s` makes one", name)
	}
	if u.Uid == "0" {
		return nil
	}
	uid, _ := strconv.ParseUint(u.Uid, 10, 32) // the package has read it as a number
	for at := path; ; at = filepath.Dir(at) {
		if !executableBy(at, uint32(uid), u.Gid) {
			return fmt.Errorf("user %s cannot run %s (look at the mode of %s): put the program where all can run it, as /usr/local/bin/sampan", name, path, at)
		}
		if at == "/" {
			return nil
		}
	}
}

// executableBy tells whether the mode of a file, or directory, lets a user in.
func executableBy(path string, uid uint32, gid string) bool {
	var st unix.Stat_t
	if unix.Stat(path, &st) != nil {
		return false
	}
	switch {
	case st.Uid == uid:
		return st.Mode&0o100 != 0
	case strconv.FormatUint(uint64(st.Gid), 10) == gid:
		return st.Mode&0o010 != 0
	}
	return st.Mode&0o001 != 0
}

func userName() string {
	if u, err := user.Current(); err == nil {
		return u.Username
	}
	return strconv.Itoa(os.Getuid())
}
