package sandbox

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/sampan-batch/sampan/internal/runner"
)

// joined returns a container of a pod that has joined the network of pods, and its address.
func (f *fixture) joined(tb testing.TB, commands ...string) (*runner.Spec, string) {
	tb.Helper()
	spec := f.spec(commands...)
	at, err := f.Join(spec.Pod.UID)
	must(tb, err)
	spec.PodNetwork = true
	return spec, at.Address.String()
}

// TestNetworkOfThePod: a container, and what is executed in it, are in the network of its
// pod, and see no links but that one's.
func TestNetworkOfThePod(t *testing.T) {
	f := setup(t)
	spec, address := f.joined(t, "readlink /proc/self/ns/net", "sleep 1h")
	again, err := f.Join(spec.Pod.UID)
	must(t, err)
	if again.Address.String() != address {
		t.Errorf("its address was %s, and is %s", address, again.Address)
	}
	c := f.launch(t, spec)
	ns, _ := c.exec("readlink /proc/self/ns/net")
	trie, _ := c.exec("cat /proc/net/fib_trie")
	links, _ := c.exec("ls /sys/class/net")
	must(t, c.Signal(9))
	out, _ := c.wait()
	if !strings.Contains(trie, address) || out != ns || ns == "" {
		t.Errorf("the command is in %q with\n%s\nthe container has written\n%s", ns, trie, out)
	}
	if fields := strings.Fields(links); fmt.Sprint(fields) != "[eth0 lo]" {
		t.Errorf("it sees %q", links)
	}

	other, _ := f.joined(t, "readlink /proc/self/ns/net")
	if got, _ := f.run(t, other); got == ns {
		t.Errorf("two pods are in one network, %s", got)
	}
	machine := f.spec("readlink /proc/self/ns/net")
	mine, _ := f.run(t, machine)
	if mine == ns || mine == "" {
		t.Errorf("one that shares the machine's is in %q", mine)
	}

	mighty, changed := f.joined(t, "id")
	mighty.Capabilities = append([]string{"CAP_NET_ADMIN"}, defaultCapabilities...)
	f.run(t, mighty)
	must(t, f.ReleasePod(mighty.Pod.UID))
	for range 100 {
		spec, address := f.joined(t, "id")
		if address == changed {
			t.Fatal("another pod has a network that could be changed")
		}
		must(t, f.ReleasePod(spec.Pod.UID))
	}
}

// TestNotJoined: a container is not started in another network than its pod's.
func TestNotJoined(t *testing.T) {
	f := setup(t)
	spec := f.spec("id")
	spec.PodNetwork = true
	if _, err := f.Launch(t.Context(), spec, nil, nil, nil); !errors.Is(err, runner.ErrNoNetwork) {
		t.Errorf("got %v", err)
	}
}
