package agent

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
)

// TestRemoveFile: a file that a container has made immutable goes too, and one
// that stays is said.
func TestRemoveFile(t *testing.T) {
	t.Parallel()
	var said bytes.Buffer
	a := &Agent{log: slog.New(slog.NewTextHandler(&said, nil))}
	dir := t.TempDir()
	path := filepath.Join(dir, "hosts")
	a.removeFile(path)
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() == 0 {
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		const immutable = 0x10
		if err := unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, immutable); err == nil && unix.Unlink(path) == nil {
			t.Fatal("the attribute does nothing")
		}
		f.Close()
	}
	a.removeFile(path)
	if _, err := os.Lstat(path); !os.IsNotExist(err) || said.Len() > 0 {
		t.Errorf("it stays: %v, %s", err, &said)
	}
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() == 0 { // a mount is what root cannot remove
		if err := unix.Mount("stays", path, "tmpfs", 0, ""); err != nil {
			t.Skip(err)
		}
		defer unix.Unmount(path, unix.MNT_DETACH)
	} else if err := os.Chmod(dir, 0o500); err != nil {
		t.Fatal(err)
	} else {
		defer os.Chmod(dir, 0o700)
	}
	if a.removeFile(path); strings.Count(said.String(), "cannot be removed") != 1 || !strings.Contains(said.String(), path) {
		t.Errorf("said %s", &said)
	}
}

// TestEtcIsTriedAgain has no room for a pod's own files at first, as on a full disk.
// The pod starts once there is.
func TestEtcIsTriedAgain(t *testing.T) {
	for name, volumes := range map[string][]corev1.Volume{
		"without volumes": nil, "with volumes": {{Name: "v", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}},
	} {
		t.Run(name, func(t *testing.T) {
			story(t, func(b *bench) {
				etc := filepath.Join(b.agent.opts.RunDir, "etc")
				if err := os.Rename(etc, etc+".away"); err != nil {
					t.Fatal(err)
				}
				b.put(testPod("p", func(p *corev1.Pod) { p.Spec.Volumes = volumes }))
				after(10 * time.Second)
				b.want("p", corev1.PodPending, "c", "waiting ContainerCreating restarts=0")
				b.wantEvents("FailedCreatePodSandBox: Failed to create pod sandbox: create " + etc + "/uid-p.hosts: no such file or directory")
				if err := os.Rename(etc+".away", etc); err != nil {
					t.Fatal(err)
				}
				after(20 * time.Second)
				b.want("p", corev1.PodRunning)
				if _, err := os.Stat(filepath.Join(etc, "uid-p.hosts")); err != nil {
					t.Error(err)
				}
			})
		})
	}
}
