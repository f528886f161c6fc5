// Package audit finds what is left on a machine after an engine and its pods have
// ended: processes, mounts, namespaces, control groups, files.
package audit

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Machine is what a machine had before.
type Machine struct {
	groups map[string]bool
	owners []string // ends of the names of groups, by which their owners are known
}

// Look notes what there is.
func Look() *Machine { return &Machine{groups: Groups()} }

// Expect adds a data directory to those whose control groups are looked for. Without
// any, all are: where nobody else runs Sampan.
func (m *Machine) Expect(data string) {
	for _, class := range []string{"host", "sandbox"} {
		sum := sha256.Sum256([]byte(filepath.Join(data, "run", class, "launcher")))
		m.owners = append(m.owners, "."+hex.EncodeToString(sum[:4]))
	}
}

// ours tells whether a control group belongs to one of the data directories.
func (m *Machine) ours(group string) bool {
	return len(m.owners) == 0 || slices.Contains(m.owners, filepath.Ext(group))
}

// Own returns how many control groups there are of the data directories.
func (m *Machine) Own() (n int) {
	for group := range Groups() {
		if m.ours(group) {
			n++
		}
	}
	return n
}

// Remains returns what there is now of those who worked in the directory base, and
// was not there before. A namespace is left by a process that is in it, or by a
// mount.
func (m *Machine) Remains(base string) (left []string) {
	left = append(processes(base), mounts(base)...)
	for group := range Groups() {
		if !m.groups[group] && m.ours(group) && Forgotten(group) {
			left = append(left, "control group "+group)
		}
	}
	return left
}

// processes are those whose command line or environment names base.
func processes(base string) (left []string) {
	pids, _ := filepath.Glob("/proc/[0-9]*")
	self, _ := os.Readlink("/proc/self")
	for _, dir := range pids {
		if pid := filepath.Base(dir); pid == self || pid == "1" {
			continue
		}
		for _, file := range []string{"cmdline", "environ"} {
			if text, err := os.ReadFile(filepath.Join(dir, file)); err == nil && bytes.Contains(text, []byte(base+"/")) {
				line, _ := os.ReadFile(filepath.Join(dir, "cmdline"))
				left = append(left, "process "+filepath.Base(dir)+" "+strings.ReplaceAll(string(line), "\x00", " "))
				break
			}
		}
	}
	return left
}

// mounts are those of base in the machine's own mount namespace. Other namespaces end
// with their processes; those of strangers may have copies of what was mounted
// when they began.
func mounts(base string) (left []string) {
	table, _ := os.ReadFile("/proc/self/mountinfo")
	for line := range strings.Lines(string(table)) {
		if strings.Contains(line, base+"/") {
			left = append(left, "mount "+strings.TrimSpace(line))
		}
	}
	return left
}

// Groups are the control groups of pods, which have UUIDs, below those that this
// process is in.
func Groups() map[string]bool {
	all := map[string]bool{}
	own, _ := os.ReadFile("/proc/self/cgroup")
	for line := range strings.Lines(string(own)) {
		part := strings.SplitN(strings.TrimSpace(line), ":", 3)
		for _, hierarchy := range []string{strings.TrimPrefix(part[1], "name="), "unified", ""} {
			pods, _ := filepath.Glob(filepath.Join("/sys/fs/cgroup", hierarchy, part[2], "sampan", "pod????????-????-????-????-????????????.*"))
			for _, pod := range pods {
				all[pod] = true
			}
		}
	}
	return all
}

// Forgotten tells whether nothing is in a group, and it does not go away. Those of other engines
// come and go meanwhile: they have processes, or are gone in a moment; or, where a test has killed
// a supervisor, when that test is over.
func Forgotten(group string) bool {
	for range 1200 {
		gone := true
		_ = filepath.WalkDir(group, func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.Name() == "cgroup.procs" {
				text, err := os.ReadFile(path)
				gone = gone && err == nil && len(text) == 0
			}
			return nil
		})
		if _, err := os.Stat(group); err != nil || !gone {
			return false
		}
		time.Sleep(100 * time.Millisecond)
	}
	return true
}
