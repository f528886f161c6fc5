package host

import (
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/sampan-batch/sampan/internal/runner/trash"
)

// workDirs gives each pod a working directory for those of its containers
// that name none. To make and remove a directory costs as much as a fifth of
// starting a process; one that a pod left empty is given to the next.
type workDirs struct {
	root string
	bin  *trash.Bin

	mu    sync.Mutex
	next  int
	pods  map[string]string // uid → path
	spare []string          // empty, and the supervisor's own

	outside outside
	other   map[string]bool // uids of pods whose directory is there
}

// maxSpare bounds what is kept of a burst of pods.
const maxSpare = 64

// openWorkDirs makes the root and empties it: no process of a former
// supervisor is left that could work there.
func openWorkDirs(root string, bin *trash.Bin) (*workDirs, error) {
	if err := bin.Empty(root); err != nil {
		return nil, err
	}
	outside, err := openOutside(root + "-outside")
	if err != nil {
		return nil, err
	}
	w := &workDirs{root: root, bin: bin, pods: make(map[string]string), outside: outside, other: make(map[string]bool)}
	// Processes of other users are in it, and find their way by its name.
	return w, os.Chmod(root, 0o711)
}

// get returns the pod's directory, which belongs to the first who asks.
func (w *workDirs) get(pod string, as *syscall.Credential) (string, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if path, ok := w.pods[pod]; ok {
		return path, nil
	}
	var path string
	if n := len(w.spare); n > 0 && as == nil {
		path, w.spare = w.spare[n-1], w.spare[:n-1]
	} else {
		var err error
		if path, err = w.makeLocked(pod, as); err != nil {
			return "", err
		}
	}
	w.pods[pod] = path
	return path, nil
}

// makeLocked makes a directory, that of another user where it can be reached.
func (w *workDirs) makeLocked(pod string, as *syscall.Credential) (path string, err error) {
	if isOther(as) {
		if path, err = w.outside.name(); err != nil {
			return "", err
		}
		w.other[pod] = true
	} else {
		w.next++
		path = filepath.Join(w.root, strconv.Itoa(w.next))
	}
	if err = os.Mkdir(path, 0o755); err == nil && as != nil {
		err = os.Chown(path, int(as.Uid), int(as.Gid))
	}
	if err != nil && w.other[pod] {
		_ = os.Remove(path)
		delete(w.other, pod)
		w.outside.free()
	}
	return path, err
}

// remove takes the pod's directory away, with all that is in it.
func (w *workDirs) remove(pod string) {
	w.mu.Lock()
	path, ok := w.pods[pod]
	delete(w.pods, pod)
	w.mu.Unlock()
	if !ok {
		return
	}
	if w.takeOther(pod) {
		w.bin.Remove(path)
		w.mu.Lock()
		defer w.mu.Unlock()
		w.outside.free()
		return
	}
	if untouched(path) {
		w.mu.Lock()
		defer w.mu.Unlock()
		if len(w.spare) < maxSpare {
			w.spare = append(w.spare, path)
			return
		}
	}
	w.bin.Remove(path)
}

// of returns the pod's directory, "" if it has none.
func (w *workDirs) of(pod string) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.pods[pod]
}

// takeOther tells, once, whether the pod's directory is that of another user.
func (w *workDirs) takeOther(pod string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	is := w.other[pod]
	delete(w.other, pod)
	return is
}

// untouched tells whether a directory is as it was made: empty, with the mode
// and the owner that it had.
func untouched(path string) bool {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Mode != unix.S_IFDIR|0o755 || st.Uid != uint32(os.Geteuid()) {
		return false
	}
	var buf [512]byte
	n, err := unix.ReadDirent(fd, buf[:])
	if err != nil {
		return false
	}
	_, count, _ := unix.ParseDirent(buf[:n], 1, nil) // "." and ".." do not count
	return count == 0
}
