package podfiles

import (
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/sampan-batch/sampan/internal/runner"
)

// LogUsage returns what the logs of a container take of the disk: a few files, which
// are rotated.
func (f *Files) LogUsage(pod runner.PodRef, container string) (sum runner.DiskUsage) {
	dir := filepath.Join(f.LogDir(pod), container)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return sum
	}
	addFile(&sum, dir)
	for _, e := range entries {
		addFile(&sum, filepath.Join(dir, e.Name()))
	}
	return sum
}

// EtcUsage returns what the pod's own files in /etc take.
func (f *Files) EtcUsage(uid string) (sum runner.DiskUsage) {
	addFile(&sum, f.etcFile(uid, hostsPath))
	addFile(&sum, f.etcFile(uid, resolvPath))
	return sum
}

// TerminationUsage returns what the termination message of a container takes.
func (f *Files) TerminationUsage(id string) (sum runner.DiskUsage) {
	addFile(&sum, f.TerminationLog(id))
	return sum
}

// addFile adds what a file takes, if it is there.
func addFile(sum *runner.DiskUsage, path string) {
	var st unix.Stat_t
	if unix.Lstat(path, &st) == nil {
		sum.Bytes += st.Blocks * 512
		sum.Inodes++
	}
}
