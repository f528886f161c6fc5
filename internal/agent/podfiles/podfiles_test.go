package podfiles

import (
	"bytes"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/sampan-batch/sampan/internal/runner"
)

// TestRemove: a file that a container has made immutable goes too, and one
// that stays is said.
func TestRemove(t *testing.T) {
	t.Parallel()
	var said bytes.Buffer
	f := New(t.TempDir(), t.TempDir(), slog.New(slog.NewTextHandler(&said, nil)))
	dir := t.TempDir()
	path := filepath.Join(dir, "hosts")
	f.remove(path)
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() == 0 {
		file, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		const immutable = 0x10
		if err := unix.IoctlSetPointerInt(int(file.Fd()), unix.FS_IOC_SETFLAGS, immutable); err == nil && unix.Unlink(path) == nil {
			t.Fatal("the attribute does nothing")
		}
		file.Close()
	}
	f.remove(path)
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
	if f.remove(path); strings.Count(said.String(), "cannot be removed") != 1 || !strings.Contains(said.String(), path) {
		t.Errorf("said %s", &said)
	}
}

// TestLogsOfLongNames: the longest names that Kubernetes takes have a directory, and are found
// when what is left of former pods is removed.
func TestLogsOfLongNames(t *testing.T) {
	t.Parallel()
	f := New(t.TempDir(), t.TempDir(), slog.New(slog.DiscardHandler))
	const uid = "1f2e3d4c-0000-4000-8000-123456789abc"
	short := runner.PodRef{Namespace: "default", Name: "p", UID: uid}
	if got := filepath.Base(f.LogDir(short)); got != "default_p_"+uid {
		t.Errorf("short names: %s", got)
	}
	for _, length := range []int{253 - 36 - 2, 253} { // the longest that fits, and the longest of all
		pod := runner.PodRef{Namespace: "ns", Name: strings.Repeat("p", length), UID: uid}
		if err := os.MkdirAll(f.LogDir(pod), 0o700); err != nil {
			t.Fatal(err)
		}
		f.Sweep(nil, map[string]bool{uid: true})
		if _, err := os.Stat(f.LogDir(pod)); err != nil {
			t.Errorf("a name of %d: %v", length, err)
		}
		f.Sweep(nil, nil)
		if _, err := os.Stat(f.LogDir(pod)); !os.IsNotExist(err) {
			t.Errorf("a name of %d stays: %v", length, err)
		}
	}
}

// TestOwnResolv: a container is given a file of its pod's own, and never the machine's,
// which it could hold by a lease or a lock, and change if it may mount.
func TestOwnResolv(t *testing.T) {
	t.Parallel()
	machine, err := os.ReadFile(resolvPath)
	if err != nil {
		t.Fatalf("the machine has no resolv.conf: %v", err)
	}
	f := New(t.TempDir(), t.TempDir(), slog.New(slog.DiscardHandler))
	if err := f.Prepare(); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		spec corev1.PodSpec
		want string
	}{
		"default": {corev1.PodSpec{DNSPolicy: corev1.DNSClusterFirst}, string(machine)},
		"none": {corev1.PodSpec{DNSPolicy: corev1.DNSNone, DNSConfig: &corev1.PodDNSConfig{Nameservers: []string{"192.0.2.1"}}},
			"nameserver 192.0.2.1\n"},
	} {
		pod := &corev1.Pod{Spec: test.spec}
		pod.UID = types.UID(name)
		if _, err := f.WriteEtc(pod, "p", nil, netip.Addr{}); err != nil {
			t.Fatal(err)
		}
		elsewhere := func(path string) string { return "/run" + path }
		mounts := f.EtcMounts(pod, &corev1.Container{}, netip.Addr{}, elsewhere, nil)
		if len(mounts) != 2 || mounts[0].Target != "/run/etc/hosts" || mounts[1].Target != "/run/etc/resolv.conf" {
			t.Fatalf("%s: %+v", name, mounts)
		}
		for _, m := range mounts {
			if filepath.Dir(m.Source) != f.EtcDir() || m.ReadOnly {
				t.Errorf("%s: %+v", name, m)
			}
		}
		if got, err := os.ReadFile(mounts[1].Source); err != nil || string(got) != test.want {
			t.Errorf("%s: got %q, %v", name, got, err)
		}
		f.RemoveEtc(name)
		if left, _ := os.ReadDir(f.EtcDir()); len(left) > 0 {
			t.Errorf("%s: left %v", name, left)
		}
	}
}
