// Package podfiles is the files that the node keeps for its pods, beside their
// volumes: logs, termination messages, and what a sandbox shows as /etc/hosts and
// /etc/resolv.conf.
//
//	DIR/logs/NAMESPACE_NAME_UID/CONTAINER/ATTEMPT.log, or DIR/logs/UID/… where the names are too long
//	RUNDIR/termination/UID_CONTAINER_ATTEMPT
//	RUNDIR/etc/UID.hosts, RUNDIR/etc/UID.resolv.conf
//
// Logs stay until the API has the pod no more, the others until the pod has ended.
// Containers can write to all but their logs, so that nothing here is believed to be
// as it was made.
package podfiles

import (
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sampan-batch/sampan/internal/runner"
	"github.com/sampan-batch/sampan/internal/tree"
)

// Files are the files of one node's pods.
type Files struct {
	dir              string
	termination, etc string // below RUNDIR
	// hasResolv says that the machine has a resolv.conf.
	hasResolv bool
	// former says that a former version has left volumes, which it had below
	// DIR/pods. Its supervisor may still show them to pods that run.
	former bool
	// removing is full when enough goroutines remove files: one that waits for
	// the disk has a thread, which stays, and thousands of pods may go at once.
	removing chan struct{}
	log      *slog.Logger
}

// New returns the files below dir. What is small, what every sandboxed pod needs and
// nobody misses after a reboot is below runDir: in memory it costs a hundredth of
// what it costs on a disk.
func New(dir, runDir string, log *slog.Logger) *Files {
	_, resolv := os.Stat(resolvPath)
	_, former := os.Stat(filepath.Join(dir, "pods"))
	return &Files{
		dir: dir, termination: filepath.Join(runDir, "termination"), etc: filepath.Join(runDir, "etc"),
		hasResolv: resolv == nil, former: former == nil,
		removing: make(chan struct{}, 8), log: log,
	}
}

// Prepare makes the directories.
func (f *Files) Prepare() error {
	logs := filepath.Join(f.dir, "logs")
	for _, dir := range []string{f.termination, f.etc, logs} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	_ = tree.Spread(logs) // a hint
	return nil
}

// LogDir is where the logs of a pod's containers are: a directory that has a kubelet's name, for
// people and for those who gather logs, or the pod's uid where no directory can have that name.
// A kubelet cannot run such pods.
func (f *Files) LogDir(pod runner.PodRef) string {
	name := pod.Namespace + "_" + pod.Name + "_" + pod.UID
	if len(name) > unix.NAME_MAX {
		name = pod.UID
	}
	return filepath.Join(f.dir, "logs", name)
}

// Log is the log file of an attempt to run a container.
func (f *Files) Log(pod runner.PodRef, container string, attempt int) string {
	return filepath.Join(f.LogDir(pod), container, strconv.Itoa(attempt)+".log")
}

// RemoveLogs removes the logs of a pod.
func (f *Files) RemoveLogs(pod runner.PodRef) { f.removeTree(f.LogDir(pod)) }

// RemoveVolumes removes the volumes that a former version has left of a pod.
func (f *Files) RemoveVolumes(uid string) {
	if f.former {
		f.removeTree(filepath.Join(f.dir, "pods", uid))
	}
}

// Sweep removes the files of pods that have ended, or gone, while the node was not
// there to see it. alive are the uids of pods that have not ended, known those that
// the API, or a runner, still has.
func (f *Files) Sweep(alive, known map[string]bool) {
	f.sweep(filepath.Join(f.dir, "pods"), func(name string) bool { return alive[name] })
	f.sweep(f.etc, func(name string) bool {
		uid, _ := etcOwner(name)
		return alive[uid]
	})
	f.sweep(f.termination, func(name string) bool {
		uid, _, _ := strings.Cut(name, "_")
		return alive[uid]
	})
	f.sweep(filepath.Join(f.dir, "logs"), func(name string) bool { return known[name[strings.LastIndexByte(name, '_')+1:]] })
}

// sweep removes what is in a directory and is not to be kept.
func (f *Files) sweep(dir string, keep func(name string) bool) {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		f.log.Warn("cannot look for files of former pods", "err", err)
	}
	for _, e := range entries {
		if !keep(e.Name()) {
			f.removeTree(filepath.Join(dir, e.Name()))
		}
	}
}

func (f *Files) removeTree(dir string) {
	f.removing <- struct{}{}
	defer func() { <-f.removing }()
	if err := tree.Remove(dir); err != nil {
		f.log.Warn("cannot remove a pod's files", "path", dir, "err", err)
	}
}

// remove removes a file that a container may have had its hands on: one with
// CAP_LINUX_IMMUTABLE can have made it immutable. What stays is logged.
func (f *Files) remove(path string) {
	if err := unix.Unlink(path); err == nil || err == unix.ENOENT {
		return
	}
	if err := tree.Remove(path); err != nil {
		f.log.Warn("a file of a former pod cannot be removed", "err", err)
	}
}
