// Package victim is the Sampan that is tortured: an engine on a data directory, and
// its supervisors, as processes that are started, killed, stopped and continued.
package victim

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/sampan-batch/sampan/torture/program"
)

// readyWithin is how long an engine may take until it is ready, on a machine that
// does other things besides.
const readyWithin = time.Minute

// Config says who the victim is.
type Config struct {
	Programs *program.Set
	// Dir is the victim's own: its data, its home, its temporary files, its log.
	Dir   string
	Class string // "sandbox" or "host"
	User  User
	// Binary is which of the programs it is; "" is Sampan as users have it.
	Binary string
	// Enter begins the engine's command line, and Env is added to its environment.
	Enter, Env []string
	// Flags are added to those of `sampan serve`.
	Flags []string
	// Data is the data directory; "" is one below Dir.
	Data string
}

// Victim is one engine, which can be started again and again. One goroutine at a
// time may start, kill and stop it; all else may be used by many.
type Victim struct {
	Config
	listen     string
	log        *os.File
	generation atomic.Int64

	mu   sync.Mutex
	cmd  *exec.Cmd
	gone chan struct{} // closed when cmd has ended
}

// New prepares a victim: its directories, and the image of its pods.
func New(ctx context.Context, c Config) (*Victim, error) {
	if c.Binary == "" {
		c.Binary = c.Programs.Sampan
	}
	if c.Data == "" {
		c.Data = filepath.Join(c.Dir, "data")
	}
	v := &Victim{Config: c}
	for _, dir := range []string{c.Dir, v.path("home"), v.path("tmp")} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, err
		}
		if err := c.User.Own(dir); err != nil {
			return nil, err
		}
	}
	var err error
	if v.listen, err = freeAddress(); err != nil {
		return nil, err
	}
	if v.log, err = os.OpenFile(v.path("engine.log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644); err != nil {
		return nil, err
	}
	if c.Class == "sandbox" {
		if out, err := v.Sampan(ctx, "image", "load", "--data-dir", c.Data, c.Programs.Archive); err != nil {
			return nil, fmt.Errorf("load the image: %w\n%s", err, out)
		}
	}
	return v, nil
}

// freeAddress is one that nobody listens on. The victim keeps it, as an engine of a
// user's does, so that clients find it again.
func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

func (v *Victim) path(name string) string { return filepath.Join(v.Dir, name) }

// command is a command line of the victim's user.
func (v *Victim) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Dir = v.Dir
	cmd.Env = append([]string{"HOME=" + v.path("home"), "TMPDIR=" + v.path("tmp"), "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "GOTRACEBACK=all"}, v.Env...)
	cmd.SysProcAttr = v.User.attributes()
	return cmd
}

// Run runs a command of the victim's user.
func (v *Victim) Run(ctx context.Context, args ...string) (string, error) {
	out, err := v.command(ctx, args...).CombinedOutput()
	return string(out), err
}

// Sampan runs a command of Sampan to its end, and returns what it said.
func (v *Victim) Sampan(ctx context.Context, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	out, err := v.command(ctx, append([]string{v.Binary}, args...)...).CombinedOutput()
	return string(out), err
}

// Start starts an engine and waits until it is ready.
func (v *Victim) Start(ctx context.Context) (took time.Duration, err error) {
	began := time.Now()
	ready, err := v.Launch()
	if err != nil {
		return 0, err
	}
	select {
	case <-ready:
		return time.Since(began), nil
	case <-v.Gone():
		return 0, fmt.Errorf("the engine ended before it was ready: %s", v.lastWords())
	case <-time.After(readyWithin):
		return 0, fmt.Errorf("the engine is not ready after %s: %s", readyWithin, v.lastWords())
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
}

// Launch starts an engine. The channel is closed when it says that it is ready.
func (v *Victim) Launch() (ready <-chan struct{}, err error) {
	args := append(append([]string{}, v.Enter...), v.Binary, "serve", "--data-dir", v.Data, "--listen", v.listen, "--runtime", v.Class)
	cmd := v.command(context.Background(), append(args, v.Flags...)...)
	said, out, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer out.Close()
	cmd.Stdout, cmd.Stderr = out, v.log
	fmt.Fprintf(v.log, "--- torture: start %d at %s\n", v.generation.Add(1), time.Now().Format(time.StampMilli))
	if err := cmd.Start(); err != nil {
		said.Close()
		return nil, err
	}
	isReady, gone := make(chan struct{}), make(chan struct{})
	v.mu.Lock()
	v.cmd, v.gone = cmd, gone
	v.mu.Unlock()
	go func() {
		_ = cmd.Wait()
		close(gone)
	}()
	go v.listenTo(said, isReady)
	return isReady, nil
}

// listenTo reads what the engine says, until all who could say something are gone.
func (v *Victim) listenTo(said io.ReadCloser, ready chan<- struct{}) {
	defer said.Close()
	lines := bufio.NewScanner(said)
	for told := false; lines.Scan(); {
		fmt.Fprintln(v.log, lines.Text())
		if !told && strings.HasPrefix(lines.Text(), "sampan is ready") {
			told = true
			close(ready)
		}
	}
}

// Generation counts the starts.
func (v *Victim) Generation() int64 { return v.generation.Load() }

// PID is the engine's process.
func (v *Victim) PID() int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.cmd.Process.Pid
}

// Gone is closed when the engine that was started last has ended.
func (v *Victim) Gone() <-chan struct{} {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.gone
}

// Ended returns how the engine that was started last has ended; only after Gone.
func (v *Victim) Ended() *os.ProcessState {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.cmd.ProcessState
}

// Kill kills the engine and waits for its end.
func (v *Victim) Kill() {
	_ = v.Signal(syscall.SIGKILL) // it may just have ended
	<-v.Gone()
}

// Signal sends the engine a signal.
func (v *Victim) Signal(sig syscall.Signal) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.cmd == nil {
		return errors.New("no engine was started")
	}
	return v.cmd.Process.Signal(sig)
}

// Stop ends the engine, its pods and its supervisors.
func (v *Victim) Stop() (said string, err error) {
	said, err = v.Sampan(context.Background(), "stop", "--data-dir", v.Data, "--grace-period", "5s")
	if err != nil {
		return said, fmt.Errorf("sampan stop: %w: %s", err, said)
	}
	if gone := v.Gone(); gone != nil {
		<-gone
	}
	return said, nil
}

// RESTConfig is how a client reaches the engine. Clients share no connections.
func (v *Victim) RESTConfig() (*rest.Config, error) {
	config, err := clientcmd.BuildConfigFromFlags("", filepath.Join(v.Data, "kubeconfig"))
	if err != nil {
		return nil, err
	}
	config.QPS = -1
	config.DisableCompression = true
	config.Dial = (&net.Dialer{Timeout: 10 * time.Second}).DialContext // who dials alike shares
	return config, nil
}

// Client returns a client with a connection of its own.
func (v *Victim) Client() (*kubernetes.Clientset, error) {
	config, err := v.RESTConfig()
	if err != nil {
		return nil, err
	}
	return kubernetes.NewForConfig(config)
}

// Dynamic returns a client of any kind of object.
func (v *Victim) Dynamic() (*dynamic.DynamicClient, error) {
	config, err := v.RESTConfig()
	if err != nil {
		return nil, err
	}
	return dynamic.NewForConfig(config)
}

// Log returns what the engine has said since the start of a generation.
func (v *Victim) Log(since int64) string {
	text, _ := os.ReadFile(v.path("engine.log"))
	if _, rest, ok := strings.Cut(string(text), fmt.Sprintf("--- torture: start %d at", since)); ok {
		return rest
	}
	return string(text)
}

// crashWords are what no log of Sampan's may have.
var crashWords = []string{"panic:", "fatal error:", "SIGSEGV", "runtime error", "goroutine "}

// Crashes returns lines of the engine's and the supervisors' logs that tell of a
// crash.
func (v *Victim) Crashes() (found []string) {
	files, _ := filepath.Glob(filepath.Join(v.Data, "run/*/log*"))
	for _, file := range append(files, v.path("engine.log")) {
		text, _ := os.ReadFile(file)
		for line := range strings.Lines(string(text)) {
			if slices.ContainsFunc(crashWords, func(word string) bool { return strings.Contains(line, word) }) {
				found = append(found, filepath.Base(file)+": "+strings.TrimSpace(line))
				break // one says enough
			}
		}
	}
	return found
}

// lastWords are the end of what the engine has said.
func (v *Victim) lastWords() string {
	text := v.Log(v.Generation())
	return strings.TrimSpace(text[max(0, len(text)-2000):])
}
