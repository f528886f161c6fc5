package sandbox

import (
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/sampan-batch/sampan/internal/runner"
)

// TestSysctls: kernel parameters are those of the pod, and of nobody else: not of the machine, of other
// pods, or of who has the pod's network next.
func TestSysctls(t *testing.T) {
	f := setup(t)
	files := []string{"/proc/sys/kernel/shm_rmid_forced", "/proc/sys/net/ipv4/tcp_fin_timeout"}
	cat := []string{"cat " + files[0], "cat " + files[1]}
	read := func() string {
		var all []string
		for _, file := range files {
			data, err := os.ReadFile(file)
			must(t, err)
			all = append(all, strings.TrimSpace(string(data)))
		}
		return strings.Join(all, " ")
	}
	before := read()

	spec, _ := f.joined(t, cat...)
	plain, _ := f.run(t, spec)
	tuned, address := f.joined(t, cat...)
	tuned.Sysctls = map[string]string{"net.ipv4.tcp_fin_timeout": "17"}
	if !f.host.userNS {
		tuned.Sysctls["kernel.shm_rmid_forced"] = "1"
	}
	got, _ := f.run(t, tuned)
	want := strings.Fields(before)[0] + " 17"
	if !f.host.userNS {
		want = "1 17"
	}
	if strings.Join(strings.Fields(got), " ") != want {
		t.Errorf("the pod has %q, want %q", got, want)
	}
	if now := read(); now != before {
		t.Errorf("the machine had %q, and has %q", before, now)
	}
	must(t, f.ReleasePod(tuned.Pod.UID))
	for range 100 {
		other, at := f.joined(t, cat...)
		if at == address {
			t.Fatal("another pod has the network whose parameters are changed")
		}
		must(t, f.ReleasePod(other.Pod.UID))
	}
	other, _ := f.joined(t, cat...)
	if got, _ := f.run(t, other); got != plain {
		t.Errorf("another pod has %q, one before had %q", got, plain)
	}
}

// TestSysctlThatIsRefused: what the kernel does not take is said, with the name.
func TestSysctlThatIsRefused(t *testing.T) {
	f := setup(t)
	spec, _ := f.joined(t, "id")
	spec.Sysctls = map[string]string{"net.ipv4.ip_local_port_range": "hello"}
	_, err := f.Launch(t.Context(), spec, nil, nil, nil)
	var start *runner.StartError
	if !errors.As(err, &start) || start.Message != `sysctl net.ipv4.ip_local_port_range: "hello" cannot be set: invalid argument` {
		t.Errorf("got %v", err)
	}
	// Those of a network that is not the pod's are never set.
	machine := f.spec("id")
	machine.Sysctls = map[string]string{"net.ipv4.ip_local_port_range": "hello"}
	f.run(t, machine)
}
