package sandbox

import (
	"bufio"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sampan-batch/sampan/internal/runner"
)

// host is what the launcher has found out about the process that it runs in.
// It does not change.
type host struct {
	// userNS: the process is root in a user namespace only.
	userNS     bool
	uids, gids idMap
	setgroups  bool   // supplementary groups may be set
	caps       capSet // what can be passed on
	lastCap    int
	memory     int64 // bytes of this machine
	// openFiles is how many a process of a container may have.
	openFiles uint64
	// copiesDetached: the kernel copies mounts that are mounted nowhere.
	copiesDetached bool

	ownMounts int // namespace
}

// idMap is the extents of a user namespace's uid_map, as seen from inside.
type idMap []struct{ first, count uint64 }

func (m idMap) has(id uint32) bool {
	for _, e := range m {
		if uint64(id) >= e.first && uint64(id)-e.first < e.count {
			return true
		}
	}
	return false
}

func lookAtHost() (host, error) {
	var h host
	var err error
	if h.uids, h.userNS, err = readIDMap("/proc/self/uid_map"); err != nil {
		return h, err
	}
	if h.gids, _, err = readIDMap("/proc/self/gid_map"); err != nil {
		return h, err
	}
	setgroups, err := os.ReadFile("/proc/self/setgroups")
	h.setgroups = err != nil || strings.TrimSpace(string(setgroups)) == "allow"
	if h.caps, h.lastCap, err = ownCapabilities(); err != nil {
		return h, err
	}
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return h, os.NewSyscallError("sysinfo", err)
	}
	h.memory = int64(info.Totalram) * int64(info.Unit)
	var files unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &files); err != nil {
		return h, os.NewSyscallError("getrlimit", err)
	}
	h.openFiles = mayOpen(files.Max)
	// This process's memory has the environments of all containers: no other
	// process of the user, as those of a rootless container are, may look at it.
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return h, os.NewSyscallError("prctl", err)
	}
	if err := h.probeCopy(); err != nil {
		return h, err
	}
	return h, h.open()
}

func (h *host) probeCopy() error {
	fd, err := newTmpfs("4k", "700")
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if tree, err := copyTree(fd); err == nil {
		h.copiesDetached = true
		_ = unix.Close(tree)
	}
	return nil
}

func (h *host) open() error {
	var err error
	h.ownMounts, err = openNamespace("/proc/self/ns/mnt")
	return err
}

func openNamespace(path string) (int, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return fd, nil
}

// readIDMap returns the map, and whether it is another than the machine's.
func readIDMap(path string) (idMap, bool, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, false, err
	}
	defer f.Close()
	var m idMap
	identity := true
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		var inside, outside, count uint64
		if _, err := fmt.Sscan(lines.Text(), &inside, &outside, &count); err != nil {
			return nil, false, fmt.Errorf("%s: %w", path, err)
		}
		m = append(m, struct{ first, count uint64 }{inside, count})
		identity = identity && inside == outside && count == 1<<32-1
	}
	return m, !identity, lines.Err()
}

// ids is who the container's processes are.
type ids struct {
	uid, gid uint32
	groups   []uint32
	// nested: the ids do not exist in our user namespace. The container gets one
	// of its own, in which our only id has that number.
	nested bool
}

func (h *host) resolve(spec *runner.Spec) (ids, error) {
	var i ids
	if spec.UID != nil {
		i.uid = *spec.UID
	}
	if spec.GID != nil {
		i.gid = *spec.GID
	}
	if i.uid == 1<<32-1 || i.gid == 1<<32-1 {
		return i, &runner.StartError{Reason: "CreateContainerConfigError", Message: "user or group id 4294967295 is not valid"}
	}
	if spec.RunAsNonRoot && i.uid == 0 {
		return i, &runner.StartError{Reason: "CreateContainerConfigError", Message: "container has runAsNonRoot and would run as user 0"}
	}
	i.nested = h.userNS && !(h.uids.has(i.uid) && h.gids.has(i.gid))
	if i.nested && spec.Privileged {
		return i, &runner.StartError{Reason: "CreateContainerConfigError", Message: fmt.Sprintf(
			"a privileged container cannot run as user %d here: it has no subordinate ids (see subuid(5))", i.uid)}
	}
	for _, g := range spec.Groups {
		if !i.nested && h.gids.has(g) {
			i.groups = append(i.groups, g)
		}
	}
	return i, nil
}
