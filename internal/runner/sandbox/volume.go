package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/sampan-batch/sampan/internal/runner"
	"github.com/sampan-batch/sampan/internal/runner/hostpath"
	"github.com/sampan-batch/sampan/internal/tree"
)

// volumes are those of all pods. One on disk is the directory
// env.Dir/volumes/<pod>/<name>, and there as long as its pod is. One in memory
// is a tmpfs, and one of an image an overlay of its layers: mounts that the supervisor
// holds, and that go with it.
type volumes struct {
	dir   string // env.Dir/volumes
	scout *hostpath.Scout
	// mountDir is where a tmpfs has to be mounted of which a copy is wanted,
	// before Linux 6.15; "" since then.
	mountDir string
	// images is where images are mounted, if only until they are held; empty is a
	// directory without anything in it.
	images, empty string
	userNS        bool
	uids, gids    idMap

	mu   sync.Mutex
	pods map[string]*podVolumes
}

// podVolumes are those of a pod that this supervisor knows.
type podVolumes struct {
	mu    sync.Mutex // held while a volume is made, filled, opened or removed
	held  map[string]*heldVolume
	shown map[string]digest // of the files that a volume shows
}

// heldVolume is a mount that the supervisor holds.
type heldVolume struct {
	fd  int    // its root
	dir string // where it is mounted, or ""
}

func newVolumes(dir string, h *host, scout *hostpath.Scout) *volumes {
	v := &volumes{
		dir: filepath.Join(dir, "volumes"), scout: scout, images: filepath.Join(dir, "memory", "images"),
		empty: filepath.Join(dir, "kit", "empty"), userNS: h.userNS, uids: h.uids, gids: h.gids, pods: make(map[string]*podVolumes),
	}
	if !h.copiesDetached {
		v.mountDir = filepath.Join(dir, "memory", "volumes") // itself gone with the supervisor
	}
	return v
}

// of returns a pod's volumes.
func (v *volumes) of(pod string) *podVolumes {
	v.mu.Lock()
	defer v.mu.Unlock()
	p := v.pods[pod]
	if p == nil {
		p = &podVolumes{held: make(map[string]*heldVolume), shown: make(map[string]digest)}
		v.pods[pod] = p
	}
	return p
}

// path is the directory of a volume on disk.
func (v *volumes) path(pod, name string) string { return filepath.Join(v.dir, pod, name) }

// set makes a volume, or brings the files that it shows up to date.
func (v *volumes) set(vol *runner.Volume) error {
	if vol.Source != "" {
		return v.give(vol)
	}
	p := v.of(vol.PodUID)
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := v.make(p, vol); err != nil {
		return err
	}
	if vol.Files == nil {
		return nil
	}
	want := digestOf(vol)
	if p.shown[vol.Name] == want {
		return nil
	}
	fd, err := v.openRoot(p, vol.PodUID, vol.Name)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	w := fileWriter{dir: hostpath.FDPath(fd), uid: v.owner, gid: v.group(vol.Group)}
	if err := w.write(vol.Files); err != nil {
		return err
	}
	p.shown[vol.Name] = want
	return nil
}

// make makes a volume, unless it is there; p is locked.
func (v *volumes) make(p *podVolumes, vol *runner.Volume) (err error) {
	var m *heldVolume
	switch {
	case p.held[vol.Name] != nil:
		return nil
	case vol.Layers != nil:
		m, err = v.newImage(vol)
	case vol.Memory:
		m, err = v.newMemory(vol)
	default:
		return v.makeDir(vol)
	}
	if err == nil {
		p.held[vol.Name] = m
	}
	return err
}

// makeDir makes the directory of a volume on disk, unless it is there. It gets
// its name when it has its owner and mode.
func (v *volumes) makeDir(vol *runner.Volume) error {
	path := v.path(vol.PodUID, vol.Name)
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != unix.ENOENT {
		return os.NewSyscallError("lstat", err)
	}
	pod, fresh := filepath.Dir(path), v.path(vol.PodUID, ".new")
	// What is in a volume is for its pod only.
	if err := os.MkdirAll(pod, 0o700); err != nil {
		return err
	}
	if err := os.Mkdir(fresh, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := os.Lchown(fresh, -1, v.group(vol.Group)); err != nil {
		return err
	}
	if err := unix.Chmod(fresh, vol.Mode&0o7777); err != nil {
		return &os.PathError{Op: "chmod", Path: fresh, Err: err}
	}
	return os.Rename(fresh, path)
}

// localFS are the file systems that answer as long as this machine does.
var localFS = []int64{
	unix.EXT4_SUPER_MAGIC, unix.XFS_SUPER_MAGIC, unix.BTRFS_SUPER_MAGIC, unix.TMPFS_MAGIC, unix.OVERLAYFS_SUPER_MAGIC,
	unix.F2FS_SUPER_MAGIC, 0x2fc12fc1 /* zfs */, 0xca451a4e, /* bcachefs */
}

// give gives a directory of this machine to the group of a volume. That may take as long as a look at
// every file in it, so no lock is held.
func (v *volumes) give(vol *runner.Volume) error {
	gid := v.group(vol.Group)
	if gid < 0 {
		return nil // containers run as this very user
	}
	fd, dir, err := v.scout.Open(context.Background(), vol.Source, "")
	if err != nil {
		return &os.PathError{Op: "open", Path: vol.Source, Err: err}
	}
	defer unix.Close(fd)
	var fs unix.Statfs_t
	switch err := unix.Fstatfs(fd, &fs); {
	case err != nil:
		return &os.PathError{Op: "statfs", Path: vol.Source, Err: err}
	case !dir:
		return &os.PathError{Op: "open", Path: vol.Source, Err: unix.ENOTDIR}
	case !slices.Contains(localFS, int64(fs.Type)):
		return fmt.Errorf("%s is on a file system that may stop to answer: fsGroup is not applied there", vol.Source)
	}
	return tree.Give(fd, gid, vol.Matching)
}

// newMemory makes a tmpfs.
func (v *volumes) newMemory(vol *runner.Volume) (*heldVolume, error) {
	fd, err := newMemory(vol.Size, vol.Mode&0o7777, v.group(vol.Group))
	if err != nil {
		return nil, err
	}
	m := &heldVolume{fd: fd}
	if v.mountDir == "" {
		return m, nil
	}
	m.dir = filepath.Join(v.mountDir, vol.PodUID, vol.Name)
	if err = os.MkdirAll(m.dir, 0o700); err == nil {
		err = unix.MoveMount(fd, "", unix.AT_FDCWD, m.dir, unix.MOVE_MOUNT_F_EMPTY_PATH)
	}
	if err != nil {
		m.dir = ""
		return nil, errors.Join(err, m.release())
	}
	return m, nil
}

// newMemory returns the root of a tmpfs of size bytes (0: half of the memory)
// that is mounted nowhere. What is in it reaches no disk, not even by being
// swapped out, where this user may ask for that.
func newMemory(size int64, mode uint32, gid int) (int, error) {
	tmpfs, err := unix.Fsopen("tmpfs", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return -1, os.NewSyscallError("fsopen", err)
	}
	defer unix.Close(tmpfs)
	options := map[string]string{"source": "tmpfs", "mode": strconv.FormatUint(uint64(mode), 8)}
	if size > 0 {
		options["size"] = strconv.FormatInt(size, 10)
	}
	if gid >= 0 {
		options["gid"] = strconv.Itoa(gid)
	}
	for key, value := range options {
		if err := unix.FsconfigSetString(tmpfs, key, value); err != nil {
			return -1, fmt.Errorf("fsconfig %s=%s: %w", key, value, err)
		}
	}
	_ = unix.FsconfigSetFlag(tmpfs, "noswap") // since Linux 6.4, and not in user namespaces
	if err := unix.FsconfigCreate(tmpfs); err != nil {
		return -1, os.NewSyscallError("fsconfig", err)
	}
	fd, err := unix.Fsmount(tmpfs, unix.FSMOUNT_CLOEXEC, unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOSUID)
	return fd, os.NewSyscallError("fsmount", err)
}

func (m *heldVolume) release() error {
	var err error
	if m.fd >= 0 {
		err = unix.Close(m.fd)
	}
	if m.dir == "" {
		return err
	}
	if err := unix.Unmount(m.dir, unix.MNT_DETACH); err != nil {
		return &os.PathError{Op: "unmount", Path: m.dir, Err: err}
	}
	_ = os.Remove(m.dir)
	_ = os.Remove(filepath.Dir(m.dir)) // that of the pod, if this was the last
	return nil
}

// group is the group that a volume gets: -1, this user's own, where there is
// none or only ids that this user has no part in. In the latter case containers
// run as this very user, whatever id they see, and need no group.
func (v *volumes) group(gid *uint32) int { return mapped(v.gids, gid) }
func (v *volumes) owner(uid *uint32) int { return mapped(v.uids, uid) }

func mapped(ids idMap, id *uint32) int {
	if id == nil || !ids.has(*id) {
		return -1
	}
	return int(*id)
}

// openRoot opens the root of a volume; p is locked.
func (v *volumes) openRoot(p *podVolumes, pod, name string) (int, error) {
	if m := p.held[name]; m != nil {
		fd, err := unix.FcntlInt(uintptr(m.fd), unix.F_DUPFD_CLOEXEC, 3)
		return fd, os.NewSyscallError("fcntl", err)
	}
	path := v.path(pod, name)
	fd, err := unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	switch err {
	case nil:
		return fd, nil
	case unix.ENOENT:
		return -1, fmt.Errorf("%w: %q", runner.ErrNoVolume, name)
	}
	return -1, &os.PathError{Op: "open", Path: path, Err: err}
}

// open opens what of a pod's volume, or of a path of this machine, m mounts, and
// tells whether it is a directory. It is opened as a path only: whatever it is,
// nothing waits for it.
func (v *volumes) open(ctx context.Context, pod string, m *runner.Mount) (fd int, dir bool, err error) {
	if m.Source != "" && m.Volume != "" {
		return v.scout.Open(ctx, m.Source, m.SubPath)
	}
	if fd, err = v.openSource(pod, m); err != nil {
		return -1, false, err
	}
	if m.SubPath != "" {
		root := fd
		fd, err = hostpath.OpenSub(root, m.SubPath)
		unix.Close(root)
		if err != nil {
			return -1, false, err
		}
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		unix.Close(fd)
		return -1, false, os.NewSyscallError("fstat", err)
	}
	return fd, st.Mode&unix.S_IFMT == unix.S_IFDIR, nil
}

// openSource opens a volume of the pod, or a file of the engine's own.
func (v *volumes) openSource(pod string, m *runner.Mount) (int, error) {
	if m.Source != "" {
		fd, err := unix.Open(m.Source, unix.O_PATH|unix.O_CLOEXEC, 0)
		return fd, os.NewSyscallError("open", err)
	}
	if m.Volume == "" || m.Volume[0] == '.' || filepath.Base(m.Volume) != m.Volume {
		return -1, fmt.Errorf("%w: %q", runner.ErrNoVolume, m.Volume)
	}
	p := v.of(pod)
	p.mu.Lock()
	defer p.mu.Unlock()
	return v.openRoot(p, pod, m.Volume)
}

// usage measures a pod's volumes on disk.
func (v *volumes) usage(pod string) (map[string]runner.DiskUsage, error) {
	entries, err := os.ReadDir(filepath.Join(v.dir, pod))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	usage := make(map[string]runner.DiskUsage, len(entries))
	for _, e := range entries {
		if e.Name()[0] != '.' {
			usage[e.Name()] = diskUsage(v.path(pod, e.Name()))
		}
	}
	return usage, err
}

// list returns the pods that have volumes on disk.
func (v *volumes) list() ([]string, error) {
	entries, err := os.ReadDir(v.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	uids := make([]string, 0, len(entries))
	for _, e := range entries {
		uids = append(uids, e.Name())
	}
	return uids, err
}

// release gives up a pod's volumes that are held. Those on disk stay.
func (v *volumes) release(pod string) error {
	v.mu.Lock()
	p := v.pods[pod]
	delete(v.pods, pod)
	v.mu.Unlock()
	if p == nil {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	var errs []error
	for _, m := range p.held {
		errs = append(errs, m.release())
	}
	clear(p.held)
	return errors.Join(errs...)
}

// SetVolume implements runner.Launcher.
func (l *Launcher) SetVolume(v *runner.Volume) error {
	if l.env.NoNamespaces != "" {
		return errors.New("sandbox: " + l.env.NoNamespaces)
	}
	return l.volumes.set(v)
}

// Usage implements runner.Launcher.
func (l *Launcher) Usage(podUID string, containers []*runner.Spec) (runner.PodUsage, error) {
	if l.env.NoNamespaces != "" {
		return runner.PodUsage{}, nil
	}
	usage := runner.PodUsage{Containers: make(map[string]runner.DiskUsage, len(containers))}
	for _, spec := range containers {
		usage.Containers[spec.ID] = l.layerUsage(spec)
	}
	var err error
	usage.Volumes, err = l.volumes.usage(podUID)
	return usage, err
}

// Pods implements runner.Launcher.
func (l *Launcher) Pods() ([]string, error) {
	if l.env.NoNamespaces != "" {
		return nil, nil
	}
	return l.volumes.list()
}

// Finish implements runner.Launcher.
func (l *Launcher) Finish(ctx context.Context) error {
	if l.env.NoNamespaces != "" {
		return nil
	}
	return errors.Join(l.networks.close(), l.bin.Finish(ctx))
}
