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

	"github.com/sampan-batch/sampan/internal/runner"
)

// The files by which a sandboxed program resolves names. A pod has a hosts file of its
// own, in which its own name stands, and a resolv.conf of its own: what it asks for, or a
// copy of the machine's, as a kubelet makes it. The machine's very file would be one that
// a container could hold (by a lease, by a lock), or change, if it may mount.
const (
	hostsPath  = "/etc/hosts"
	resolvPath = "/etc/resolv.conf"
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

// How much of a resolv.conf is taken into a pod's: Kubernetes' limits.
const (
	maxServers  = 3
	maxSearches = 32
)

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
// stay: the pod may have changed them.
func (f *Files) WriteEtc(pod *corev1.Pod, hostname string, ips []string, names netip.Addr) error {
	if err := writeNew(f.etcFile(string(pod.UID), hostsPath), hosts(pod, hostname, ips)); err != nil {
		return err
	}
	var machine []byte
	if pod.Spec.DNSPolicy != corev1.DNSNone {
		machine, _ = os.ReadFile(resolvPath) // a machine may have none
	}
	switch {
	case asksCluster(pod, names):
		machine = []byte(resolv(clusterResolv(string(machine), pod.Namespace, names), pod.Spec.DNSConfig))
	case asksForResolv(pod):
		machine = []byte(resolv(string(machine), pod.Spec.DNSConfig))
	case !f.hasResolv:
		return nil
	}
	return writeNew(f.etcFile(string(pod.UID), resolvPath), machine)
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
			if pod.Spec.Subdomain != "" {
				fmt.Fprintf(&b, "%s.%s.%s.svc.cluster.local\t", hostname, pod.Spec.Subdomain, pod.Namespace)
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

// asksCluster reports whether the pod asks the cluster first, which it can at names.
func asksCluster(pod *corev1.Pod, names netip.Addr) bool {
	return names.IsValid() && (pod.Spec.DNSPolicy == corev1.DNSClusterFirst || pod.Spec.DNSPolicy == corev1.DNSClusterFirstWithHostNet)
}

// clusterResolv returns the resolv.conf of a pod that asks the cluster first: its own domains are
// searched before the machine's, and names with few dots in them are taken for parts of such.
func clusterResolv(machine, namespace string, names netip.Addr) string {
	searches := []string{namespace + ".svc.cluster.local", "svc.cluster.local", "cluster.local"}
	for line := range strings.Lines(machine) {
		if fields := strings.Fields(line); len(fields) > 1 && fields[0] == "search" {
			searches = append(searches[:3:3], fields[1:]...)
		}
	}
	return fmt.Sprintf("search %s\nnameserver %s\noptions ndots:5\n", strings.Join(searches, " "), names)
}

// resolv adds a pod's dnsConfig to the machine's resolv.conf: name servers and
// searched domains behind the machine's, options in place of the same ones.
func resolv(machine string, config *corev1.PodDNSConfig) string {
	var servers, searches, options []string
	for line := range strings.Lines(machine) {
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		switch fields[0] {
		case "nameserver":
			servers = append(servers, fields[1])
		case "search":
			searches = fields[1:]
		case "options":
			options = fields[1:]
		}
	}
	if config != nil {
		servers = appendNew(servers, config.Nameservers)
		searches = appendNew(searches, config.Searches)
		for _, o := range config.Options {
			options = slices.DeleteFunc(options, func(old string) bool {
				name, _, _ := strings.Cut(old, ":")
				return name == o.Name
			})
			text := o.Name
			if o.Value != nil && *o.Value != "" {
				text += ":" + *o.Value
			}
			options = append(options, text)
		}
	}
	var b strings.Builder
	servers, searches = servers[:min(len(servers), maxServers)], searches[:min(len(searches), maxSearches)]
	if len(searches) > 0 {
		fmt.Fprintf(&b, "search %s\n", strings.Join(searches, " "))
	}
	for _, s := range servers {
		fmt.Fprintf(&b, "nameserver %s\n", s)
	}
	if len(options) > 0 {
		fmt.Fprintf(&b, "options %s\n", strings.Join(options, " "))
	}
	return b.String()
}

func appendNew(list, more []string) []string {
	for _, s := range more {
		if !slices.Contains(list, s) {
			list = append(list, s)
		}
	}
	return list
}
