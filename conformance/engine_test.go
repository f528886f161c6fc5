package conformance

import (
	"bytes"
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/txtar"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// clusters are what the sessions speak to: the cluster that is recorded, or else fresh
// engines.
type clusters struct {
	any, minute *rest.Config
}

// untilMinute is when the minute of the engine for the sessions that wait for one
// begins, counted from its start: soon, but not before they have made their CronJobs.
const untilMinute = 11 * time.Second

func startClusters(t *testing.T) clusters {
	t.Helper()
	if *recordFrom != "" {
		config := client(t, *recordFrom)
		return clusters{config, config}
	}
	sampan := filepath.Join(t.TempDir(), "sampan")
	build := exec.Command("go", "build", "-o", sampan, "../cmd/sampan")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, text)
	}
	utc := client(t, startEngine(t, sampan, zone(t, 0)))
	ahead := -time.Now().Add(untilMinute).Sub(time.Now().Add(untilMinute).Truncate(time.Minute))
	return clusters{utc, client(t, startEngine(t, sampan, zone(t, ahead)))}
}

// of returns the cluster for a session. One that waits for a minute to begin has an
// engine that is in a time zone in which one does soon.
func (c *clusters) of(archive *txtar.Archive) *rest.Config {
	if strings.Contains(string(archive.Comment), "$ minute\n") {
		return c.minute
	}
	return c.any
}

// zone makes a time zone that is ahead of UTC by so much, to the second, and returns the
// file that describes it (RFC 9636).
func zone(t *testing.T, ahead time.Duration) string {
	t.Helper()
	const name = "TEST\x00"
	data := append([]byte("TZif"), make([]byte, 16)...)
	for _, count := range []uint32{0, 0, 0, 0, 1, uint32(len(name))} { // one zone, which it never leaves
		data = binary.BigEndian.AppendUint32(data, count)
	}
	data = binary.BigEndian.AppendUint32(data, uint32(int32(ahead/time.Second)))
	data = append(data, 0, 0)
	file := filepath.Join(t.TempDir(), "zone")
	if err := os.WriteFile(file, append(data, name...), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func client(t *testing.T, kubeconfig string) *rest.Config {
	t.Helper()
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	config.QPS = -1
	config.UserAgent = "conformance" // which the API takes for the name of the field manager
	return config
}

// startEngine runs `sampan serve` in a time zone until the test ends; it returns its
// kubeconfig.
func startEngine(t *testing.T, sampan, zone string) string {
	t.Helper()
	data := filepath.Join(t.TempDir(), "data")
	var log bytes.Buffer
	cmd := exec.Command(sampan, "serve", "--data-dir", data, "--listen", "127.0.0.1:0", "--runtime", "host", "--ip-family", "ipv4") // as the recorded cluster
	cmd.Env = append(os.Environ(), "TZ="+zone)
	cmd.Stderr = &log
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if out, err := exec.Command(sampan, "stop", "--data-dir", data, "--grace-period", "2s").CombinedOutput(); err != nil {
			t.Errorf("sampan stop: %v\n%s", err, out)
		}
		cmd.Wait()
	})
	line := make([]byte, 4096)
	if n, err := out.Read(line); err != nil || !strings.HasPrefix(string(line[:n]), "sampan is ready: ") {
		t.Fatalf("serve did not become ready: %q, %v\n%s", line[:n], err, log.String())
	}
	return filepath.Join(data, "kubeconfig")
}
