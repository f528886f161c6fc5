package agent

import (
	"bytes"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// DefaultMaxPods is how many pods a node takes unless it is told otherwise. A
// kubelet takes 110, for reasons that do not exist here.
const DefaultMaxPods = 10000

// NodeName makes the name of a node of the name of a machine: lower case, and
// nothing but what the name of an object may contain.
func NodeName(hostname string) string {
	name := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9', r == '-', r == '.':
			return r
		}
		return '-'
	}, strings.ToLower(hostname))
	const longest = 63 // it is a label's value too
	name = strings.Trim(name[:min(len(name), longest)], "-.")
	if name == "" {
		return "localhost"
	}
	return name
}

// Capacity returns what this machine, or the container that this process is in,
// has: dir is where its files go.
func Capacity(dir string, maxPods int64) (corev1.ResourceList, error) {
	memory, err := memoryTotal()
	if err != nil {
		return nil, fmt.Errorf("agent: size of the memory: %w", err)
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return nil, fmt.Errorf("agent: size of the disk under %s: %w", dir, err)
	}
	return corev1.ResourceList{
		corev1.ResourceCPU:              *resource.NewQuantity(int64(runtime.NumCPU()), resource.DecimalSI),
		corev1.ResourceMemory:           *resource.NewQuantity(memory, resource.BinarySI),
		corev1.ResourceEphemeralStorage: *resource.NewQuantity(int64(fs.Blocks)*fs.Bsize, resource.BinarySI),
		corev1.ResourcePods:             *resource.NewQuantity(maxPods, resource.DecimalSI),
	}, nil
}

func memoryTotal() (int64, error) {
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return 0, err
	}
	total := int64(info.Totalram) * int64(info.Unit)
	for _, path := range []string{"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"} {
		data, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		if n, err := strconv.ParseInt(string(bytes.TrimSpace(data)), 10, 64); err == nil && n > 0 {
			total = min(total, n)
		}
	}
	return total, nil
}

// nodeObject returns the node as it registers.
func (a *Agent) nodeObject() *corev1.Node {
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: a.opts.Node, Labels: map[string]string{
			corev1.LabelHostname:   a.opts.Node,
			corev1.LabelOSStable:   runtime.GOOS,
			corev1.LabelArchStable: runtime.GOARCH,
		}},
	}
}

// nodeStatus returns the node's status at now, given the present one.
func (a *Agent) nodeStatus(present *corev1.NodeStatus, now time.Time) corev1.NodeStatus {
	s := *present
	s.Capacity, s.Allocatable = a.opts.Capacity, a.opts.Allocatable
	s.NodeInfo = a.info
	s.Addresses = nil
	for _, ip := range a.opts.Network.Node() {
		s.Addresses = append(s.Addresses, corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: ip})
	}
	s.Addresses = append(s.Addresses, corev1.NodeAddress{Type: corev1.NodeHostName, Address: a.opts.Node})
	s.Conditions = nodeConditions(present.Conditions, a.state(), now)
	return s
}

// nodeConditions returns the conditions that the node writes itself, given what is
// so, and those of others as they are.
func nodeConditions(present []corev1.NodeCondition, is nodeState, now time.Time) []corev1.NodeCondition {
	own := []corev1.NodeCondition{
		pressure(corev1.NodeMemoryPressure, is.pressures),
		pressure(corev1.NodeDiskPressure, is.pressures),
		pressure(corev1.NodePIDPressure, is.pressures),
		readiness(is.unready),
	}
	var out []corev1.NodeCondition
	for _, old := range present {
		mine := false
		for i := range own {
			if own[i].Type == old.Type {
				mine = true
				if own[i].Status == old.Status {
					own[i].LastTransitionTime = old.LastTransitionTime
				}
			}
		}
		if !mine {
			out = append(out, old)
		}
	}
	for i := range own {
		own[i].LastHeartbeatTime = apiTime(now)
		if own[i].LastTransitionTime.IsZero() {
			own[i].LastTransitionTime = apiTime(now)
		}
	}
	return append(out, own...)
}

// readiness returns the condition Ready in a kubelet's words.
func readiness(unready string) corev1.NodeCondition {
	if unready != "" {
		return corev1.NodeCondition{
			Type: corev1.NodeReady, Status: corev1.ConditionFalse, Reason: "KubeletNotReady", Message: "container runtime is down: " + unready,
		}
	}
	return corev1.NodeCondition{
		Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "KubeletReady", Message: "kubelet is posting ready status",
	}
}

// pressure returns a condition in a kubelet's words.
func pressure(t corev1.NodeConditionType, present []corev1.NodeConditionType) corev1.NodeCondition {
	c := corev1.NodeCondition{Type: t, Status: corev1.ConditionFalse}
	has := slices.Contains(present, t)
	if has {
		c.Status = corev1.ConditionTrue
	}
	switch {
	case t == corev1.NodeDiskPressure && has:
		c.Reason, c.Message = "KubeletHasDiskPressure", "kubelet has disk pressure"
	case t == corev1.NodeDiskPressure:
		c.Reason, c.Message = "KubeletHasNoDiskPressure", "kubelet has no disk pressure"
	case t == corev1.NodeMemoryPressure && has:
		c.Reason, c.Message = "KubeletHasInsufficientMemory", "kubelet has insufficient memory available"
	case t == corev1.NodeMemoryPressure:
		c.Reason, c.Message = "KubeletHasSufficientMemory", "kubelet has sufficient memory available"
	case has:
		c.Reason, c.Message = "KubeletHasInsufficientPID", "kubelet has insufficient PID available"
	default:
		c.Reason, c.Message = "KubeletHasSufficientPID", "kubelet has sufficient PID available"
	}
	return c
}

// systemInfo describes the machine and its software.
func systemInfo(version string) corev1.NodeSystemInfo {
	info := corev1.NodeSystemInfo{
		MachineID:               firstLine("/etc/machine-id"),
		SystemUUID:              firstLine("/sys/class/dmi/id/product_uuid"),
		BootID:                  firstLine("/proc/sys/kernel/random/boot_id"),
		KernelVersion:           firstLine("/proc/sys/kernel/osrelease"),
		OSImage:                 osName(),
		ContainerRuntimeVersion: "sampan://" + strings.TrimPrefix(version, "v"),
		KubeletVersion:          version,
		OperatingSystem:         runtime.GOOS,
		Architecture:            runtime.GOARCH,
	}
	if info.SystemUUID == "" {
		info.SystemUUID = info.MachineID
	}
	return info
}

// firstLine returns the first line of a file, "" if it cannot be read.
func firstLine(path string) string {
	data, _ := os.ReadFile(path)
	line, _, _ := strings.Cut(string(data), "\n")
	return strings.TrimSpace(line)
}

func osName() string {
	data, _ := os.ReadFile("/etc/os-release")
	for line := range strings.Lines(string(data)) {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "PRETTY_NAME="); ok {
			return strings.Trim(name, `"`)
		}
	}
	return "Linux"
}

// allocatable returns what pods may use when nothing is set aside.
func allocatable(o *Options) corev1.ResourceList {
	if len(o.Allocatable) > 0 {
		return o.Allocatable
	}
	return o.Capacity
}
