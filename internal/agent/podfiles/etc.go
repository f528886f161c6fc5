package podfiles

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"

	"github.com/sampan-batch/sampan/internal/agent/network"
	"github.com/sampan-batch/sampan/internal/runner"
)

// The files by which a sandboxed program resolves names. A pod has a hosts file of its
// own, in which its own name stands, and a resolv.conf of its own: what it asks for, or a
// copy of the machine's, as a kubelet makes it. The machine's very file would be one that
// a container could hold (by a lease, by a lock), or change, if it may mount.
const (
	hostsPath  = "/etc/hosts"
	resolvPath = "/etc/resolv.conf"
	// systemdResolvPath is where systemd-resolved says whom it asks itself, if it is the one that
	// resolvPath names.
	systemdResolvPath = "/run/systemd/resolve/resolv.conf"
)

// hostsHead is how a kubelet's hosts file begins.
const hostsHead = `# Kubernetes-managed hosts file.
127.0.0.1	localhost
::1	localhost ip6-localhost ip6-loopback
fe00::0	ip6-localnet
fe00::0	ip6-mcastprefix
fe00::1	ip6-allnodes
fe00::2	ip6-allrouters
`

// MaxEtcFile is how long a file in /etc may get: containers can write to it.
const MaxEtcFile = 1 << 20

// EtcDir is where pods' own versions of files in /etc are.
func (f *Files) EtcDir() string { return f.etc }

// EtcOwner returns the uid of the pod that has a file below EtcDir, and the file that
// it stands for. ok is false for a path that is elsewhere.
func (f *Files) EtcOwner(path string) (uid, file string, ok bool) {
	if filepath.Dir(path) != f.etc {
		return "", "", false
	}
	uid, name := etcOwner(filepath.Base(path))
	return uid, "/etc/" + name, true
}

func etcOwner(name string) (uid, file string) {
	uid, file, _ = strings.Cut(name, ".")
	return uid, file
}

// etcFile is where a pod's own version of a file is: flat, so that a pod
// without volumes needs no directory.
func (f *Files) etcFile(uid, path string) string {
	return filepath.Join(f.etc, uid+"."+filepath.Base(path))
}

// WriteEtc writes the pod's own files; hostname and ips are the pod's, and names is where it
// can ask for the cluster's names, if it can. Those that a former run of the node has written
// stay: the pod may have changed them. warnings say what had to be left out.
func (f *Files) WriteEtc(pod *corev1.Pod, hostname string, ips []string, names netip.Addr) (warnings []string, err error) {
	if err := writeNew(f.etcFile(string(pod.UID), hostsPath), hosts(pod, hostname, ips)); err != nil {
		return nil, err
	}
	own := asksForResolv(pod) || asksCluster(pod, names)
	if !own && !f.hasResolv {
		return nil, nil
	}
	content, _ := os.ReadFile(resolvPath) // a machine may have none
	if names.IsValid() && !pod.Spec.HostNetwork && onLoopback(string(content)) {
		behind, _ := os.ReadFile(systemdResolvPath) // few have one
		content = []byte(reachable(string(content), string(behind), names))
	}
	if own {
		var text string
		text, warnings = resolv(pod, string(content), names)
		content = []byte(text)
	}
	return warnings, writeNew(f.etcFile(string(pod.UID), resolvPath), content)
}

// writeNew writes a file that does not exist yet. Plain system calls: this is
// done for every pod, and an os.File makes six more.
func writeNew(path string, data []byte) error {
	fd, err := unix.Open(path, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY|unix.O_CLOEXEC, 0o644)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return &os.PathError{Op: "create", Path: path, Err: err}
	}
	n, err := unix.Write(fd, data)
	if err == nil && n < len(data) {
		err = io.ErrShortWrite
	}
	if err = errors.Join(err, unix.Close(fd)); err != nil {
		return errors.Join(&os.PathError{Op: "write", Path: path, Err: err}, unix.Unlink(path))
	}
	return nil
}

// RemoveEtc removes them.
func (f *Files) RemoveEtc(uid string) {
	f.remove(f.etcFile(uid, hostsPath))
	f.remove(f.etcFile(uid, resolvPath))
}

// EtcMounts adds the mounts of the files to those of a container, except where the
// container mounts something of its own. place says where in the container a path leads.
func (f *Files) EtcMounts(pod *corev1.Pod, c *corev1.Container, names netip.Addr, place func(path string) string, mounts []runner.Mount) []runner.Mount {
	taken := func(path string) bool {
		return slices.ContainsFunc(c.VolumeMounts, func(vm corev1.VolumeMount) bool { return filepath.Clean(vm.MountPath) == path })
	}
	if !taken(hostsPath) {
		mounts = append(mounts, runner.Mount{Source: f.etcFile(string(pod.UID), hostsPath), Target: place(hostsPath)})
	}
	if !taken(resolvPath) && (f.hasResolv || asksForResolv(pod) || asksCluster(pod, names)) {
		mounts = append(mounts, runner.Mount{Source: f.etcFile(string(pod.UID), resolvPath), Target: place(resolvPath)})
	}
	return mounts
}

// hosts returns the hosts file of a pod.
func hosts(pod *corev1.Pod, hostname string, ips []string) []byte {
	var b strings.Builder
	if pod.Spec.HostNetwork {
		b.WriteString("# Kubernetes-managed hosts file (host network).\n")
		data, _ := os.ReadFile(hostsPath) // a machine may have none
		b.Write(data)
	} else {
		b.WriteString(hostsHead)
		for _, ip := range ips {
			b.WriteString(ip)
			b.WriteByte('\t')
			if domain := network.Domain(pod); domain != "" {
				fmt.Fprintf(&b, "%s.%s\t", hostname, domain)
			}
			b.WriteString(hostname)
			b.WriteByte('\n')
		}
	}
	if len(pod.Spec.HostAliases) > 0 {
		b.WriteString("\n# Entries added by HostAliases.\n")
		for _, alias := range pod.Spec.HostAliases {
			fmt.Fprintf(&b, "%s\t%s\n", alias.IP, strings.Join(alias.Hostnames, "\t"))
		}
	}
	return []byte(b.String())
}

// asksForResolv reports whether the pod asks for another resolv.conf than the machine's.
func asksForResolv(pod *corev1.Pod) bool {
	return pod.Spec.DNSConfig != nil || pod.Spec.DNSPolicy == corev1.DNSNone
}
