package engine

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// keeper sees to it that what an engine keeps is its user's alone. It goes by
// sshd's StrictModes: every directory on the way belongs to root or to the
// user, and nobody else can write it, so that nobody else can put another in
// the place of what was looked at. The way is walked by descriptor, links
// included; afterwards the path that it led to can be relied on.
type keeper struct {
	uid uint32
	log *slog.Logger
	// strangers: users that this user namespace does not know, root among them,
	// all look like this one; -1 where all users are known.
	strangers int64
}

func newKeeper(log *slog.Logger) keeper {
	k := keeper{uid: uint32(os.Geteuid()), log: log, strangers: -1}
	if log == nil {
		k.log = slog.New(slog.DiscardHandler)
	}
	if !allUsersKnown() {
		k.strangers = 65534
		if text, err := os.ReadFile("/proc/sys/fs/overflowuid"); err == nil {
			if uid, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64); err == nil {
				k.strangers = uid
			}
		}
	}
	return k
}

// allUsersKnown: this is the machine's own user namespace, or one like it.
func allUsersKnown() bool {
	f, err := os.Open("/proc/self/uid_map")
	if err != nil {
		return true
	}
	defer f.Close()
	var known uint64
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if fields := strings.Fields(lines.Text()); len(fields) == 3 {
			n, _ := strconv.ParseUint(fields[2], 10, 64)
			known += n
		}
	}
	return known >= 1<<32-1
}

// UnsafePathError says that somebody else could read, or change, what is kept at Path.
type UnsafePathError struct {
	Path string
	// Why, and what to do about it.
	Why string
}

func (e *UnsafePathError) Error() string { return fmt.Sprintf("%s %s", e.Path, e.Why) }

// dir makes a directory, where it is absent, and everything above it, with mode
// 0700, and returns its real path. It refuses one that is not the user's own or
// that others can write, and takes from others the right to read it.
func (k keeper) dir(path string) (string, error) {
	real, st, err := k.walk(path, true)
	if err != nil {
		return "", err
	}
	if err := k.own(real, st); err != nil {
		return "", err
	}
	return real, k.repair(real, st.Mode, 0o700)
}

// within is dir for a directory in which somebody's file shall be: it may be
// root's as well, and like /tmp.
func (k keeper) within(path string) error {
	_, _, err := k.walk(path, true)
	return err
}

// own refuses what is somebody else's, or what somebody else could have changed.
func (k keeper) own(path string, st *unix.Stat_t) error {
	switch {
	case st.Uid != k.uid:
		return &UnsafePathError{path, fmt.Sprintf("belongs to user %d, and this is user %d: run sampan as its owner, or name another place (--data-dir; without it, it is below $HOME)", st.Uid, k.uid)}
	case st.Mode&0o022 != 0:
		return &UnsafePathError{path, fmt.Sprintf("can be written by others (mode %04o): make sure that what is in it is yours, then `chmod go-w %s`", st.Mode&0o7777, path)}
	}
	return nil
}

// repair takes away the rights that mode does not have.
func (k keeper) repair(path string, had, mode uint32) error {
	if had&0o077&^mode == 0 {
		return nil
	}
	k.log.Warn("others could read it; taking that right away", "path", path, "mode", fmt.Sprintf("%04o", had&0o7777))
	return os.Chmod(path, os.FileMode(had&0o700&mode))
}

// files checks files of a directory that dir has returned, those that there
// are, and makes them the user's alone.
func (k keeper) files(dir string, names ...string) error {
	for _, name := range names {
		path := filepath.Join(dir, name)
		fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
		if errors.Is(err, unix.ENOENT) {
			continue
		}
		if err != nil {
			return &fs.PathError{Op: "open", Path: path, Err: err}
		}
		var st unix.Stat_t
		err = unix.Fstat(fd, &st)
		unix.Close(fd)
		switch {
		case err != nil:
			return &fs.PathError{Op: "stat", Path: path, Err: err}
		case st.Mode&unix.S_IFMT != unix.S_IFREG:
			return &UnsafePathError{path, "is not a file"}
		}
		if err := k.own(path, &st); err != nil {
			return err
		}
		if err := k.repair(path, st.Mode, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// mostLinks is how many links a path may go through, as for the kernel.
const mostLinks = 40

// walk follows a path from the root on and returns where it leads. create makes
// the directories that are not there.
func (k keeper) walk(path string, create bool) (real string, st *unix.Stat_t, err error) {
	if path, err = filepath.Abs(path); err != nil {
		return "", nil, err
	}
	at := &spot{fd: -1}
	defer func() { at.close() }()
	if err := at.restart(); err != nil {
		return "", nil, err
	}
	st = &unix.Stat_t{}
	links := 0
	for rest := strings.Split(path, "/"); ; {
		if err := unix.Fstat(at.fd, st); err != nil {
			return "", nil, &fs.PathError{Op: "stat", Path: at.path, Err: err}
		}
		if err := k.trust(at.path, st); err != nil {
			return "", nil, err
		}
		for len(rest) > 0 && (rest[0] == "" || rest[0] == ".") {
			rest = rest[1:]
		}
		if len(rest) == 0 {
			return at.path, st, nil
		}
		link, err := k.step(at, rest[0], create)
		if err != nil {
			return "", nil, err
		}
		if rest = rest[1:]; link == "" {
			continue
		}
		if links++; links > mostLinks {
			return "", nil, &fs.PathError{Op: "open", Path: path, Err: unix.ELOOP}
		}
		if strings.HasPrefix(link, "/") {
			if err := at.restart(); err != nil {
				return "", nil, err
			}
		}
		rest = append(strings.Split(link, "/"), rest...)
	}
}

// spot is where a walk is: an open directory.
type spot struct {
	fd   int
	path string
}

func (s *spot) close() {
	if s.fd >= 0 {
		unix.Close(s.fd)
	}
}

func (s *spot) move(fd int, path string) {
	s.close()
	s.fd, s.path = fd, path
}

func (s *spot) restart() error {
	fd, err := unix.Open("/", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &fs.PathError{Op: "open", Path: "/", Err: err}
	}
	s.move(fd, "/")
	return nil
}

// step goes to an entry of the directory, or, where that is a link, stays and
// returns what it says.
func (k keeper) step(at *spot, name string, create bool) (link string, err error) {
	path := filepath.Join(at.path, name)
	open := func() (int, error) {
		return unix.Openat(at.fd, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	}
	fd, err := open()
	if errors.Is(err, unix.ENOENT) && create {
		if err := unix.Mkdirat(at.fd, name, 0o700); err != nil && !errors.Is(err, unix.EEXIST) {
			return "", &fs.PathError{Op: "mkdir", Path: path, Err: err}
		}
		fd, err = open()
	}
	if err != nil {
		return "", &fs.PathError{Op: "open", Path: path, Err: err}
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		unix.Close(fd)
		return "", &fs.PathError{Op: "stat", Path: path, Err: err}
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		at.move(fd, path)
		return "", nil
	case unix.S_IFLNK:
		defer unix.Close(fd)
		if !k.trusts(st.Uid) {
			return "", &UnsafePathError{path, fmt.Sprintf("is a link of user %d", st.Uid)}
		}
		target := make([]byte, unix.PathMax)
		n, err := unix.Readlinkat(fd, "", target)
		if err != nil || n == 0 {
			return "", &fs.PathError{Op: "readlink", Path: path, Err: err}
		}
		return string(target[:n]), nil
	}
	unix.Close(fd)
	return "", &fs.PathError{Op: "open", Path: path, Err: unix.ENOTDIR}
}

// trusts: the user is root or this one.
func (k keeper) trusts(uid uint32) bool {
	return uid == 0 || uid == k.uid || int64(uid) == k.strangers
}

// trust refuses a directory whose entries somebody else can replace. In one
// with the sticky bit he can only replace his own, and those are refused in
// their turn. A group that is named as its user is, by number, has no other member.
func (k keeper) trust(path string, st *unix.Stat_t) error {
	const advice = "name another place (--data-dir; without it, it is below $HOME)"
	private := st.Mode&0o002 == 0 && st.Gid == st.Uid
	switch {
	case !k.trusts(st.Uid):
		return &UnsafePathError{path, fmt.Sprintf("belongs to user %d, who could replace what is kept in it; %s", st.Uid, advice)}
	case st.Mode&0o022 != 0 && st.Mode&unix.S_ISVTX == 0 && !private:
		return &UnsafePathError{path, fmt.Sprintf("can be written by others (mode %04o), who could replace what is kept in it: `chmod go-w %s`, or %s", st.Mode&0o7777, path, advice)}
	}
	return nil
}

// keepDirs checks and makes the directories of an engine, and the files with
// secrets that are in them already. It replaces the paths by the real ones.
func (c *Config) keepDirs() error {
	k := newKeeper(c.Logger)
	var err error
	if c.DataDir, err = k.dir(c.DataDir); err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	if !c.imageless() {
		if c.ImageDir, err = k.dir(c.ImageDir); err != nil {
			return fmt.Errorf("image directory: %w", err)
		}
	}
	if err := k.within(filepath.Dir(c.Kubeconfig)); err != nil {
		return fmt.Errorf("write kubeconfig: %w", err)
	}
	if err := k.files(c.DataDir, "lock", "store.db", "store.db.new", "kubeconfig"); err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	for _, sub := range []string{"pki", "run"} {
		dir, err := k.dir(filepath.Join(c.DataDir, sub))
		if err != nil {
			return fmt.Errorf("data directory: %w", err)
		}
		if sub == "run" {
			continue // of the supervisors, who keep it
		}
		if err := k.files(dir, pkiFiles...); err != nil {
			return fmt.Errorf("data directory: %w", err)
		}
	}
	return nil
}

// ownDir returns the real path of a data directory that there is, if it is the
// user's alone: whoever can write in it decides which process is ended, or what
// a client runs.
func ownDir(path string) (string, error) {
	k := newKeeper(nil)
	real, st, err := k.walk(path, false)
	if err != nil {
		return "", err
	}
	return real, k.own(real, st)
}

// Kubeconfig returns the administrator's kubeconfig of this user's engine, "" if there
// is none.
func Kubeconfig() string {
	path, err := KubeconfigIn(defaultDataDir())
	if err != nil {
		return ""
	}
	return path
}

// KubeconfigIn returns the administrator's kubeconfig of a data directory. It can name a
// program to run: one that somebody else may have put there is an error.
func KubeconfigIn(dir string) (string, error) {
	dir, err := ownDir(dir)
	if err != nil {
		return "", err
	}
	if err := newKeeper(nil).files(dir, "kubeconfig"); err != nil {
		return "", err
	}
	path := filepath.Join(dir, "kubeconfig")
	_, err = os.Stat(path)
	return path, err
}
