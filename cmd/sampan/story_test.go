package main_test

import (
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/sampan-batch/sampan/internal/runner/hostpath/hangs"
)

func TestMain(m *testing.M) {
	flag.Parse()
	flag.Set("test.parallel", "6") // stories wait more than they work
	// What nohup has this process ignore, its children ignore: stories close terminals.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGHUP)
	code := m.Run()
	os.RemoveAll(built.dir)
	os.Exit(code)
}

// TestStories runs the scripts in testdata/stories: what a user does, with the
// real binary, the real kubectl and real processes.
//
// Every script has a data directory $DATA, images as archives in $IMAGES, the
// seeds' manifests in $MANIFESTS, and KUBECONFIG set to where
// `sampan serve --data-dir $DATA` writes it. Besides testscript's own it has the
// condition [root] and the commands
//
//	image names          load images into $DATA; those of servers are made when they are first asked for
//	session file cmd     type into the terminal of a command what the file says
//	serve [args]         start `sampan serve` and wait until it is ready
//	eventually cmd args  run a command again and again until it succeeds
//	killserve            kill -9 the engine
//	killsupervisors      kill -9 the supervisors of $DATA
//	signalsupervisors S  send them the signal STOP, CONT or TERM
//	stopserve            SIGTERM the engine, if it has not ended, and wait until it has with 0
//	disk size [inodes]   make $DATA a disk of its own that is so large (root)
//	hang dir             make a directory that does not answer (root)
func TestStories(t *testing.T) {
	t.Parallel()
	tools := buildTools(t)
	testscript.Run(t, testscript.Params{
		Dir:                 filepath.Join("..", "..", "testdata", "stories"),
		RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			data := filepath.Join(env.WorkDir, "data")
			env.Setenv("PATH", tools.bin+":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
			env.Setenv("HOME", env.WorkDir)
			env.Setenv("XDG_DATA_HOME", filepath.Join(env.WorkDir, "share"))
			env.Setenv("DATA", data)
			env.Setenv("IMAGES", tools.images)
			env.Setenv("MANIFESTS", tools.manifests)
			env.Setenv("KUBECONFIG", filepath.Join(data, "kubeconfig"))
			e := &engine{t: env.T().(testing.TB), data: data, tools: tools, env: env.Vars}
			env.Values[engineKey{}] = e
			env.Defer(e.stop)
			return nil
		},
		Condition: func(cond string) (bool, error) {
			switch cond {
			case "root":
				return os.Geteuid() == 0, nil
			case "uidmap": // newuidmap, by which an ordinary user gets subordinate ids
				_, err := exec.LookPath("newuidmap")
				return err == nil, nil
			case "ipv6": // on its own loopback at least
				l, err := net.Listen("tcp6", "[::1]:0")
				if err == nil {
					l.Close()
				}
				return err == nil, nil
			}
			return false, fmt.Errorf("unknown condition %q", cond)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"image":             loadImages,
			"session":           session,
			"serve":             serve,
			"killserve":         killServe,
			"killsupervisors":   killSupervisors,
			"signalsupervisors": signalSupervisors,
			"stopserve":         stopServe,
			"eventually":        eventually,
			"disk":              disk,
			"hang":              hang,
		},
	})
}

type engineKey struct{}

// engine is the `sampan serve` of one script.
type engine struct {
	t     testing.TB
	data  string
	tools *tools
	env   []string
	cmd   *exec.Cmd
	ended chan error // what cmd.Wait returned
}

func of(ts *testscript.TestScript) *engine { return ts.Value(engineKey{}).(*engine) }

func loadImages(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: image names")
	}
	e := of(ts)
	for _, name := range args {
		ts.Check(ts.Exec("sampan", "image", "load", "--data-dir", e.data, e.tools.image(e.t, name)))
	}
}

func serve(ts *testscript.TestScript, neg bool, args []string) {
	e := of(ts)
	if neg || e.ended != nil {
		ts.Fatalf("usage: serve [args], once at a time")
	}
	args = append([]string{"serve", "--data-dir", e.data, "--listen", "127.0.0.1:0"}, args...)
	e.cmd = exec.Command(filepath.Join(e.tools.bin, "sampan"), args...)
	e.cmd.Env = e.env
	e.cmd.Dir = ts.Getenv("WORK")
	log, err := os.OpenFile(filepath.Join(ts.Getenv("WORK"), "serve.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	ts.Check(err)
	defer log.Close()
	e.cmd.Stderr = log
	out, err := e.cmd.StdoutPipe()
	ts.Check(err)
	ts.Check(e.cmd.Start())
	line := make([]byte, 4096)
	n, err := out.Read(line)
	if err != nil || !strings.HasPrefix(string(line[:n]), "sampan is ready: ") {
		e.cmd.Wait()
		said, _ := os.ReadFile(log.Name())
		ts.Fatalf("serve did not become ready: %q, %v\n%s", line[:n], err, said)
	}
	e.ended = make(chan error, 1)
	go func() { e.ended <- e.cmd.Wait() }()
}

func killServe(ts *testscript.TestScript, neg bool, args []string) {
	e := of(ts)
	if neg || len(args) > 0 || e.ended == nil {
		ts.Fatalf("usage: killserve, after serve")
	}
	ts.Check(e.cmd.Process.Kill())
	<-e.ended
	e.ended = nil
}

// supervisors are those of $DATA: their command lines name the directory.
func supervisors(ts *testscript.TestScript) (pids []int) {
	dir := "--dir=" + filepath.Join(of(ts).data, "run")
	lines, err := filepath.Glob("/proc/[0-9]*/cmdline")
	ts.Check(err)
	for _, path := range lines {
		text, err := os.ReadFile(path)
		if err != nil || !slices.Contains(strings.Split(string(text), "\x00"), dir) {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		ts.Check(err)
		pids = append(pids, pid)
	}
	if len(pids) == 0 {
		ts.Fatalf("no supervisor runs in %s", dir)
	}
	return pids
}

func killSupervisors(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) > 0 {
		ts.Fatalf("usage: killsupervisors")
	}
	for _, pid := range supervisors(ts) {
		ts.Check(syscall.Kill(pid, syscall.SIGKILL))
		for syscall.Kill(pid, 0) == nil { // its parent may be the engine, or gone
			if stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid)); strings.Contains(string(stat), ") Z ") {
				break
			}
			time.Sleep(time.Millisecond)
		}
	}
}

// signalSupervisors leaves none stopped behind, whatever becomes of the script.
func signalSupervisors(ts *testscript.TestScript, neg bool, args []string) {
	signals := map[string]syscall.Signal{"STOP": syscall.SIGSTOP, "CONT": syscall.SIGCONT, "TERM": syscall.SIGTERM}
	if neg || len(args) != 1 || signals[args[0]] == 0 {
		ts.Fatalf("usage: signalsupervisors STOP|CONT|TERM")
	}
	for _, pid := range supervisors(ts) {
		ts.Check(syscall.Kill(pid, signals[args[0]]))
		ts.Defer(func() { _ = syscall.Kill(pid, syscall.SIGCONT) })
	}
}

func stopServe(ts *testscript.TestScript, neg bool, args []string) {
	e := of(ts)
	if neg || len(args) > 0 || e.ended == nil {
		ts.Fatalf("usage: stopserve, after serve")
	}
	if err := e.cmd.Process.Signal(syscall.SIGTERM); !errors.Is(err, os.ErrProcessDone) {
		ts.Check(err)
	}
	select {
	case err := <-e.ended:
		ts.Check(err)
	case <-time.After(30 * time.Second):
		ts.Fatalf("serve did not end within 30 s after SIGTERM")
	}
	e.ended = nil
}

// disk mounts a small file system where the data directory will be.
func disk(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 || len(args) > 2 {
		ts.Fatalf("usage: disk size [inodes]")
	}
	data, options := of(ts).data, "mode=700,size="+args[0]
	if len(args) == 2 {
		options += ",nr_inodes=" + args[1]
	}
	ts.Check(os.MkdirAll(data, 0o700))
	ts.Check(syscall.Mount("disk", data, "tmpfs", 0, options))
}

// hang mounts what does not answer, until the script has ended.
func hang(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: hang dir")
	}
	dir := ts.MkAbs(args[0])
	ts.Check(os.Mkdir(dir, 0o755))
	f, err := hangs.Mount(dir)
	ts.Check(err)
	ts.Defer(f.Release)
}

// stop leaves nothing of a script behind, and fails it if that is not possible.
func (e *engine) stop() {
	// The second is where user.txtar's ordinary user has its engine.
	for _, dir := range []string{e.data, filepath.Join(filepath.Dir(e.data), "home", "share", "sampan")} {
		st, err := os.Stat(dir)
		if err != nil {
			continue
		}
		cmd := exec.Command(filepath.Join(e.tools.bin, "sampan"), "stop", "--data-dir", dir, "--grace-period", "2s")
		cmd.Env = e.env
		// Only its owner may stop an engine, with a program that he can read.
		if owner := st.Sys().(*syscall.Stat_t); int(owner.Uid) != os.Geteuid() {
			cmd.Path = filepath.Join(filepath.Dir(e.data), "home", "bin", "sampan")
			cmd.Dir = dir
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: owner.Uid, Gid: owner.Gid}}
		}
		if out, err := cmd.CombinedOutput(); err != nil {
			panic(fmt.Sprintf("sampan stop: %v\n%s", err, out))
		}
	}
	_ = syscall.Unmount(e.data, syscall.MNT_DETACH) // it is a disk of its own in few scripts
}

// eventually runs a command until it succeeds, at most for five minutes.
func eventually(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) == 0 {
		ts.Fatalf("usage: eventually command [args]")
	}
	var last string
	deadline := time.Now().Add(5 * time.Minute)
	for time.Now().Before(deadline) {
		cmd := exec.Command(args[0], args[1:]...)
		if found, err := lookIn(ts.Getenv("PATH"), args[0]); err == nil {
			cmd.Path, cmd.Err = found, nil
		}
		cmd.Env = of(ts).env
		cmd.Dir = ts.Getenv("WORK")
		began := time.Now()
		out, err := cmd.CombinedOutput()
		if (err == nil) != neg {
			return
		}
		last = fmt.Sprintf("%v\n%s", err, out)
		// Who waits leaves the processors to what it waits for.
		time.Sleep(min(max(50*time.Millisecond, 2*time.Since(began)), time.Second))
	}
	ts.Fatalf("%s: not within five minutes: %s", strings.Join(args, " "), last)
}

func lookIn(path, name string) (string, error) {
	for _, dir := range filepath.SplitList(path) {
		if full := filepath.Join(dir, name); isExecutable(full) {
			return full, nil
		}
	}
	return "", fs.ErrNotExist
}

func isExecutable(path string) bool {
	info, err := os.Stat(path)
	return err == nil && !info.IsDir() && info.Mode()&0o111 != 0
}
