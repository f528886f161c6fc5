// Package clients has other people's clients use Sampan, unmodified: Helm, and the official
// libraries of Go, Python and JavaScript. It is a module of its own, so that the product
// carries none of them.
package clients

import (
	"bufio"
	"bytes"
	"context"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
)

// bin holds the programs that the tests build once.
var bin struct {
	once sync.Once
	dir  string
	err  error
}

func TestMain(m *testing.M) {
	flag.Parse()
	code := m.Run()
	os.RemoveAll(bin.dir)
	os.Exit(code)
}

// programs returns the directory with sampan and helm.
func programs(t *testing.T) string {
	t.Helper()
	bin.once.Do(func() {
		if bin.dir, bin.err = os.MkdirTemp("", "sampan-clients-*"); bin.err != nil {
			return
		}
		for _, build := range [][2]string{{"..", "./cmd/sampan"}, {".", "helm.sh/helm/v4/cmd/helm"}} {
			cmd := exec.Command("go", "build", "-o", bin.dir+"/", build[1])
			cmd.Dir = build[0]
			cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
			if out, err := cmd.CombinedOutput(); err != nil {
				bin.err = fmt.Errorf("go build %s: %w\n%s", build[1], err, out)
				return
			}
		}
	})
	if bin.err != nil {
		t.Fatal(bin.err)
	}
	return bin.dir
}

// engine is a `sampan serve` whose pods are processes of this machine.
type engine struct {
	t                    *testing.T
	bin, dir, kubeconfig string
	address              string
	cmd                  *exec.Cmd
}

// newEngine starts an engine, which the end of the test ends.
func newEngine(t *testing.T) *engine {
	t.Helper()
	dir := t.TempDir()
	e := &engine{t: t, bin: programs(t), dir: dir, kubeconfig: filepath.Join(dir, "data", "kubeconfig"), address: freeAddress(t)}
	e.start()
	t.Cleanup(func() {
		stop := exec.Command(filepath.Join(e.bin, "sampan"), "stop", "--data-dir", filepath.Join(dir, "data"), "--grace-period=1s")
		if out, err := stop.CombinedOutput(); err != nil {
			t.Errorf("sampan stop: %v\n%s", err, out)
		}
		_ = e.cmd.Wait()
	})
	return e
}

// freeAddress returns one that nobody listens at.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// start starts the engine, and returns when it is ready.
func (e *engine) start() {
	e.t.Helper()
	e.cmd = exec.Command(filepath.Join(e.bin, "sampan"), "serve", "--data-dir", filepath.Join(e.dir, "data"), "--runtime=host", "--listen", e.address)
	var log bytes.Buffer
	e.cmd.Stderr = &log
	out, err := e.cmd.StdoutPipe()
	if err != nil {
		e.t.Fatal(err)
	}
	if err := e.cmd.Start(); err != nil {
		e.t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || !strings.HasPrefix(line, "sampan is ready") {
		_ = e.cmd.Wait()
		e.t.Fatalf("sampan serve: %q, %v\n%s", line, err, &log)
	}
}

// kill ends the engine as the kernel does when memory runs out.
func (e *engine) kill() {
	e.t.Helper()
	if err := e.cmd.Process.Kill(); err != nil {
		e.t.Fatal(err)
	}
	_ = e.cmd.Wait()
}

// api returns a client that no rate limit slows down.
func (e *engine) api() kubernetes.Interface {
	e.t.Helper()
	config, err := clientcmd.BuildConfigFromFlags("", e.kubeconfig)
	if err != nil {
		e.t.Fatal(err)
	}
	config.QPS = -1
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		e.t.Fatal(err)
	}
	return client
}

// command is a program that finds the engine by its kubeconfig.
func (e *engine) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	if own := filepath.Join(e.bin, name); name == "helm" || name == "sampan" {
		name = own
	}
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), "HOME="+e.dir, "KUBECONFIG="+e.kubeconfig, "PATH="+e.bin+":"+os.Getenv("PATH"))
	cmd.WaitDelay = 5 * time.Second
	return cmd
}

// run returns what a program prints; it has to succeed.
func (e *engine) run(name string, args ...string) string {
	e.t.Helper()
	ctx, cancel := context.WithTimeout(e.t.Context(), 2*time.Minute)
	defer cancel()
	out, err := e.command(ctx, name, args...).CombinedOutput()
	if err != nil {
		e.t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}
