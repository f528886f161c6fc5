package agent

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"

	"github.com/sampan-batch/sampan/internal/agent/machine"
	"github.com/sampan-batch/sampan/internal/agent/network"
	"github.com/sampan-batch/sampan/internal/runner"
	"github.com/sampan-batch/sampan/internal/tree"
)

// The files by which a sandboxed program resolves names. A pod has a hosts file
// of its own, in which its own name stands, and the machine's resolv.conf unless
// it asks for another.
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

// A container can write to its termination message and to the files in /etc. What
// is reported of a message is far less than maxTerminationFile.
const (
	maxTerminationFile = 64 << 10
	maxEtcFile         = 1 << 20
)

// caps are what bounds those files.
func (a *Agent) caps() []machine.Cap {
	return []machine.Cap{
		{Dir: filepath.Join(a.opts.RunDir, "termination"), Size: maxTerminationFile},
		{Dir: filepath.Join(a.opts.RunDir, "etc"), Size: maxEtcFile},
	}
}

// cut takes that a file has been cut off. A message that is too long loses
// nothing that anybody would see.
func (a *Agent) cut(path string) {
	dir, name := filepath.Split(path)
	if filepath.Base(dir) != "etc" {
		return
	}
	uid, file, _ := strings.Cut(name, ".")
	var pod *corev1.Pod
	a.mu.Lock()
	if e := a.pods[uid]; e != nil {
		pod = e.pod
	}
	a.mu.Unlock()
	if pod != nil {
		a.opts.Client.Record(note(pod, nil, warning, "FileTruncated", fmt.Sprintf("/etc/%s is longer than %d bytes: the rest was cut off", file, maxEtcFile)))
	}
}

// etcFile is where a pod's own version of a file is: flat, so that a pod
// without volumes needs no directory.
func (a *Agent) etcFile(uid, path string) string {
	return filepath.Join(a.opts.RunDir, "etc", uid+"."+filepath.Base(path))
}

// writeEtc writes the pod's own files. Those that a former run of the node has
// written stay: the pod may have changed them.
func (a *Agent) writeEtc(pod *corev1.Pod) error {
	if err := writeNew(a.etcFile(string(pod.UID), hostsPath), a.hosts(pod)); err != nil {
		return err
	}
	if !ownResolv(pod) {
		return nil
	}
	machine := ""
	if pod.Spec.DNSPolicy != corev1.DNSNone {
		data, _ := os.ReadFile(resolvPath) // a machine may have none
		machine = string(data)
	}
	return writeNew(a.etcFile(string(pod.UID), resolvPath), []byte(resolv(machine, pod.Spec.DNSConfig)))
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

// removeEtc removes them. pod is nil when nothing is known but its uid.
func (a *Agent) removeEtc(uid string, pod *corev1.Pod) {
	a.removeFile(a.etcFile(uid, hostsPath))
	if pod == nil || ownResolv(pod) {
		a.removeFile(a.etcFile(uid, resolvPath))
	}
}

// removeFile removes a file that a container may have had its hands on: one with
// CAP_LINUX_IMMUTABLE can have made it immutable. What stays is said.
func (a *Agent) removeFile(path string) {
	if err := unix.Unlink(path); err == nil || err == unix.ENOENT {
		return
	}
	if err := tree.Remove(path); err != nil {
		a.log.Warn("a file of a former pod cannot be removed", "err", err)
	}
}

// etcMounts returns the mounts of the files, except where the container mounts
// something of its own.
func (a *Agent) etcMounts(pod *corev1.Pod, c *corev1.Container, mounts []runner.Mount) []runner.Mount {
	taken := func(path string) bool {
		return slices.ContainsFunc(c.VolumeMounts, func(vm corev1.VolumeMount) bool { return filepath.Clean(vm.MountPath) == path })
	}
	if !taken(hostsPath) {
		mounts = append(mounts, runner.Mount{Source: a.etcFile(string(pod.UID), hostsPath), Target: hostsPath})
	}
	switch {
	case taken(resolvPath):
	case ownResolv(pod):
		mounts = append(mounts, runner.Mount{Source: a.etcFile(string(pod.UID), resolvPath), Target: resolvPath})
	case a.hasResolv:
		mounts = append(mounts, runner.Mount{Source: resolvPath, Target: resolvPath, ReadOnly: true})
	}
	return mounts
}

func (a *Agent) hosts(pod *corev1.Pod) []byte {
	var b strings.Builder
	if pod.Spec.HostNetwork {
		b.WriteString("# Kubernetes-managed hosts file (host network).\n")
		data, _ := os.ReadFile(hostsPath) // a machine may have none
		b.Write(data)
	} else {
		b.WriteString(hostsHead)
		for _, ip := range a.opts.Network.Of(pod).Pod {
			b.WriteString(ip)
			b.WriteByte('\t')
			name := network.Hostname(pod, a.opts.Node.Name())
			if pod.Spec.Subdomain != "" {
				fmt.Fprintf(&b, "%s.%s.%s.svc.cluster.local\t", name, pod.Spec.Subdomain, pod.Namespace)
			}
			b.WriteString(name)
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

// ownResolv reports whether the pod asks for a resolv.conf of its own.
func ownResolv(pod *corev1.Pod) bool {
	return pod.Spec.DNSConfig != nil || pod.Spec.DNSPolicy == corev1.DNSNone
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
