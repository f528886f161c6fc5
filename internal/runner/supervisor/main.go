package supervisor

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sampan-batch/sampan/internal/runner"
	"github.com/sampan-batch/sampan/internal/runner/crilog"
	"github.com/sampan-batch/sampan/internal/runner/reap"
)

// Options are those of a supervisor process.
type Options struct {
	// Dir is the directory of the node's supervisors; each class has one below it.
	Dir   string
	Class runner.Class
	// Private makes the supervisor end, with all its containers, when its
	// standard input does, that is when the engine that started it has gone.
	Private   bool
	LogLimits crilog.Limits
	// Launchers makes the Launcher of each class.
	Launchers map[runner.Class]func(runner.LauncherEnv) (runner.Launcher, error)

	// Pods, Cluster, Machine and IPv6 are those of network.Config; the zero value is the default.
	Pods, Cluster netip.Prefix
	Machine, IPv6 bool

	// NoNamespaces is passed on to the Launcher; see runner.LauncherEnv.
	NoNamespaces string
	// former, if it is not 0, is the version of the protocol that is spoken in place
	// of the newest: tests have a supervisor of a former version with it.
	former int
	// awaitMapping: the engine is about to give the user namespace its ranges.
	awaitMapping bool
	// hub and user are what a neighbour has given; see Neighbours.
	hub, user *os.File
}

// home is the directory of this class.
func (o Options) home() string { return filepath.Join(o.Dir, string(o.Class)) }

// speaks is the version of the protocol that is spoken.
func (o Options) speaks() int {
	if o.former != 0 {
		return o.former
	}
	return protocol
}

// args is the command line, after the program's name and its sub-command, that
// ParseArgs turns into the same Options (but the Launchers).
func (o Options) args() []string {
	args := []string{"--dir=" + o.Dir, "--class=" + string(o.Class),
		"--log-size=" + strconv.FormatInt(o.LogLimits.Size, 10), "--log-files=" + strconv.Itoa(o.LogLimits.Files)}
	if o.Private {
		args = append(args, "--private")
	}
	if o.NoNamespaces != "" {
		args = append(args, "--no-namespaces="+o.NoNamespaces)
	}
	if o.awaitMapping {
		args = append(args, "--await-mapping")
	}
	if o.Pods.IsValid() {
		args = append(args, "--pod-range="+o.Pods.String(), "--cluster-range="+o.Cluster.String())
	}
	if o.Machine {
		args = append(args, "--pod-routes")
	}
	if o.IPv6 {
		args = append(args, "--ipv6")
	}
	if o.hub != nil {
		args = append(args, "--hub")
	}
	return args
}

// ParseArgs reads the command line that a Client starts a supervisor with.
func ParseArgs(args []string) (Options, error) {
	var o Options
	flags := flag.NewFlagSet("supervise", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.StringVar(&o.Dir, "dir", "", "directory of the supervisors")
	flags.StringVar((*string)(&o.Class), "class", "", "class of the containers")
	flags.Int64Var(&o.LogLimits.Size, "log-size", 0, "size at which a log is rotated")
	flags.IntVar(&o.LogLimits.Files, "log-files", 0, "files that are kept of a log")
	flags.BoolVar(&o.Private, "private", false, "end when the standard input does")
	flags.StringVar(&o.NoNamespaces, "no-namespaces", "", "why there is no user namespace")
	flags.BoolVar(&o.awaitMapping, "await-mapping", false, "wait for the user namespace's ranges")
	flags.TextVar(&o.Pods, "pod-range", netip.Prefix{}, "range of the addresses of the node's pods")
	flags.TextVar(&o.Cluster, "cluster-range", netip.Prefix{}, "range of the addresses of all nodes' pods")
	flags.BoolVar(&o.Machine, "pod-routes", false, "have this machine reach pods by their addresses")
	flags.BoolVar(&o.IPv6, "ipv6", false, "give pods addresses of IPv6 as well")
	hub := flags.Bool("hub", false, "be connected to other nodes")
	if err := flags.Parse(args); err != nil {
		return Options{}, err
	}
	if *hub {
		o.hub = os.NewFile(4, "hub")
	}
	if !filepath.IsAbs(o.Dir) || o.Class == "" || flags.NArg() > 0 {
		return Options{}, fmt.Errorf("supervise is started by the engine, not by hand: %q", args)
	}
	return o, nil
}

// errHeld: another supervisor runs in the directory. That is well: whoever
// started this one finds the other.
var errHeld = errors.New("supervisor: another one holds the directory")

// Main is the supervisor process. It returns when it has been told to stop,
// with nothing left running; or with an error when it could not begin. Its
// standard error is its log; on the file descriptor 3 it says that it is ready
// (see start in spawn.go).
func Main(ctx context.Context, opts Options) error {
	ready := os.NewFile(3, "ready")
	if opts.awaitMapping {
		err := afterMapping(opts)
		fmt.Fprintln(ready, err)
		return err
	}
	err := run(ctx, opts, ready)
	if err != nil {
		fmt.Fprintln(ready, err) // nobody listens any more when it had been ready
	}
	if errors.Is(err, errHeld) {
		return nil
	}
	return err
}

func run(ctx context.Context, opts Options, ready *os.File) error {
	log := slog.New(slog.NewTextHandler(os.Stderr, nil)).With("class", string(opts.Class), "pid", os.Getpid())
	if err := settle(&opts); err != nil {
		return err
	}
	lock, err := lockDir(opts.home())
	if err != nil {
		return err
	}
	defer lock.Close()

	signals := signals()
	reaper := reap.New()
	var background sync.WaitGroup
	defer background.Wait()
	ctx, exit := context.WithCancel(ctx)
	defer exit()
	background.Go(func() { _ = reaper.Run(ctx) })

	launcher, err := newLauncher(opts, reaper, log)
	if err != nil {
		return err
	}
	s, err := newSupervisor(opts, launcher, log)
	if err != nil {
		return err
	}
	s.exit = exit
	if err := s.recover(); err != nil {
		return err
	}
	listener, err := listen(opts.home())
	if err != nil {
		return err
	}
	background.Go(func() { s.accept(listener) })
	if opts.Private {
		go func() {
			_, _ = io.Copy(io.Discard, os.Stdin)
			log.Info("the engine has gone")
			exit()
		}()
	}
	background.Go(func() { s.heed(ctx, signals) })
	fmt.Fprintln(ready, "ready")
	ready.Close()
	log.Info("ready", "count", len(s.containers))

	<-ctx.Done()
	err = s.stop()
	listener.Close() // its name stays, so that the next one needs no more of the disk
	s.hangUp()
	log.Info("stopped", "err", err)
	return err
}

// settle makes the process fit to be the parent of containers.
func settle(opts *Options) error {
	syscall.Umask(0o022)
	// What the engine's parent left open is nothing to a container.
	if err := unix.CloseRange(4, 1<<32-1, unix.CLOSE_RANGE_CLOEXEC); err != nil && err != unix.ENOSYS && err != unix.EINVAL {
		return os.NewSyscallError("close_range", err)
	}
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return os.NewSyscallError("prctl(PR_SET_CHILD_SUBREAPER)", err)
	}
	if opts.Class == runner.Sandbox && opts.NoNamespaces == "" {
		err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, "")
		// AppArmor lets a user namespace be made and gives it no capabilities.
		if opts.NoNamespaces = refusal(err); err != nil && opts.NoNamespaces == "" {
			return fmt.Errorf("supervisor: keep mounts to itself: %w", err)
		}
	}
	return nil
}

// lockDir makes the directory and holds it until the process ends.
func lockDir(dir string) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err == nil {
		return f, nil
	}
	f.Close()
	if errors.Is(err, unix.EWOULDBLOCK) {
		return nil, errHeld
	}
	return nil, fmt.Errorf("supervisor: lock %s: %w", dir, err)
}

// held tells whether a process has a lock.
func held(lock string) bool {
	f, err := os.Open(lock)
	if err != nil {
		return false
	}
	defer f.Close()
	return errors.Is(unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB), unix.EWOULDBLOCK)
}

// awaitUnlocked returns when no process holds the directory.
func awaitUnlocked(dir string) error {
	f, err := os.Open(filepath.Join(dir, "lock"))
	if err != nil {
		return err
	}
	defer f.Close()
	return os.NewSyscallError("flock", unix.Flock(int(f.Fd()), unix.LOCK_SH))
}

// accept serves clients until the listener is closed.
func (s *Supervisor) accept(listener *net.UnixListener) {
	for {
		conn, err := listener.AcceptUnix()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // out of file descriptors, perhaps
			s.log.Error("accepting a client", "err", err)
			time.Sleep(100 * time.Millisecond)
			continue
		}
		go s.serve(conn)
	}
}

func (s *Supervisor) hangUp() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for ss := range s.sessions {
		ss.conn.Close()
	}
}

// listen makes the socket. A former supervisor's is replaced: whoever holds
// the lock is the only one.
func listen(dir string) (*net.UnixListener, error) {
	name := filepath.Join(dir, "sock")
	if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var listener *net.UnixListener
	err := withShortPath(dir, func(short string) (err error) {
		listener, err = net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(short, "sock"), Net: "unix"})
		return err
	})
	if err != nil {
		return nil, err
	}
	listener.SetUnlinkOnClose(false)
	return listener, os.Chmod(name, 0o600)
}

// dial connects to the supervisor of a directory, if there is one.
func dial(dir string) (conn *net.UnixConn, err error) {
	err = withShortPath(dir, func(short string) (err error) {
		conn, err = net.DialUnix("unix", nil, &net.UnixAddr{Name: filepath.Join(short, "sock"), Net: "unix"})
		return err
	})
	return conn, err
}

// withShortPath calls f with a short name of a directory: a socket's path has
// to fit into 107 bytes.
func withShortPath(dir string, f func(short string) error) error {
	if len(dir) < 90 {
		return f(dir)
	}
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: dir, Err: err}
	}
	defer unix.Close(fd)
	return f("/proc/self/fd/" + strconv.Itoa(fd))
}
