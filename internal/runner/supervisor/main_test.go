package supervisor

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/pprof"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/sampan-batch/sampan/internal/runner"
	"github.com/sampan-batch/sampan/internal/runner/host"
	"github.com/sampan-batch/sampan/internal/stdio"
)

// asVar makes the test program something else: a supervisor, or an engine that
// is to be killed.
const asVar = "SAMPAN_TEST_AS"

func TestMain(m *testing.M) {
	as := os.Getenv(asVar)
	if as != "supervisor" { // which may execute itself once more
		os.Unsetenv(asVar)
	}
	var err error
	switch as {
	case "":
		code := m.Run()
		if code == 0 && os.Geteuid() == 0 {
			code = asNobody()
		}
		os.Exit(code)
	case "supervisor":
		err = supervise()
	case "engine":
		err = engine(os.Args[1])
	case "refused":
		err = becomeRefused()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// asNobody runs those tests again as an ordinary user whose outcome depends on
// what the machine lets one do.
func asNobody() int {
	const nobody = 65534
	home, err := os.MkdirTemp("", "supervisor-")
	if err == nil {
		defer os.RemoveAll(home)
		err = os.Chown(home, nobody, nobody)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "FAIL:", err)
		return 1
	}
	fmt.Println("=== as an ordinary user")
	cmd := exec.Command("/proc/self/exe", "-test.run=^(TestHost|TestEscapes.*)$")
	cmd.Stdout, cmd.Stderr, cmd.Dir = os.Stdout, os.Stderr, home
	cmd.Env = append(os.Environ(), "TMPDIR="+home, "HOME="+home)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	if err := cmd.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "FAIL:", err)
		return 1
	}
	return 0
}

func supervise() error {
	opts, err := ParseArgs(os.Args[1:])
	if err != nil {
		return err
	}
	start := func(env runner.LauncherEnv) (runner.Launcher, error) {
		l, err := host.New(env)
		return refusing{Launcher: l, why: env.NoNamespaces}, err
	}
	// What is tested of the other class are the namespaces of its supervisor.
	opts.Launchers = map[runner.Class]func(runner.LauncherEnv) (runner.Launcher, error){
		runner.Host: start, runner.Sandbox: start,
	}
	if path := os.Getenv("SAMPAN_TEST_PROFILE"); path != "" {
		f, err := os.Create(path)
		if err != nil {
			return err
		}
		if err := pprof.StartCPUProfile(f); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	}
	if text, err := os.ReadFile(filepath.Join(opts.Dir, formerFile)); err == nil {
		opts.former, _ = strconv.Atoi(string(text))
	}
	return Main(context.Background(), opts)
}

// refusing is a Launcher that needs namespaces.
type refusing struct {
	*host.Launcher
	why string
}

func (l refusing) Launch(ctx context.Context, spec *runner.Spec, stdin, stdout, stderr *os.File) (runner.Process, error) {
	if l.why != "" {
		return nil, &runner.StartError{Reason: "CreateContainerError", Message: l.why}
	}
	return l.Launcher.Launch(ctx, spec, stdin, stdout, stderr)
}

// formerFile, in the directory of the supervisors, has the version of the protocol
// that they speak.
const formerFile = "former"

func selfCommand() Command {
	return Command{Path: "/proc/self/exe", Env: []string{asVar + "=supervisor"}}
}

// engine starts a container for each line that it reads, until it is killed. With
// "exec " in front the line is a command inside the last one, whose output is the
// engine's own; "attach" attaches to it. Neither gets an end of its input.
func engine(dir string) error {
	ctx := context.Background()
	c, err := Open(ctx, dir, ClientOptions{Private: os.Getenv("SAMPAN_TEST_PRIVATE") != "", Command: selfCommand()})
	if err != nil {
		return err
	}
	lines := bufio.NewScanner(os.Stdin)
	endless, _ := io.Pipe()
	streams := stdio.Streams{Stdin: endless, Stdout: os.Stdout}
	for n := 0; lines.Scan(); n++ {
		last := fmt.Sprintf("pod-%d_main_0", n-1)
		if script, is := strings.CutPrefix(lines.Text(), "exec "); is {
			n--
			go c.Exec(ctx, last, runner.ExecSpec{Args: []string{"sh", "-c", script}}, streams)
			continue
		}
		if lines.Text() == "attach" {
			n--
			go c.Attach(ctx, last, streams)
			continue
		}
		if _, err := c.Start(ctx, shellSpec(dir, fmt.Sprintf("pod-%d", n), lines.Text())); err != nil {
			return err
		}
		fmt.Println("started")
	}
	return lines.Err()
}

// shellSpec is a container of the class host that runs a shell script.
func shellSpec(dir, uid, script string) *runner.Spec {
	return &runner.Spec{
		ID: uid + "_main_0", Class: runner.Host, Container: "main", Args: []string{"sh", "-c", script},
		Pod:     runner.PodRef{Namespace: "default", Name: uid, UID: uid},
		LogPath: filepath.Join(dir, "logs", uid+".log"),
	}
}

// process is this test program as something else.
type process struct {
	*exec.Cmd
	in  io.WriteCloser
	out *bufio.Scanner
}

func startEngine(t *testing.T, dir string, env ...string) *process {
	t.Helper()
	p := &process{Cmd: exec.Command("/proc/self/exe", dir)}
	p.Env = append(os.Environ(), append(env, asVar+"=engine")...)
	p.Stderr = os.Stderr
	var err error
	if p.in, err = p.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := p.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.out = bufio.NewScanner(out)
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.kill)
	return p
}

func (p *process) kill() {
	_ = p.Process.Kill()
	_ = p.Wait()
}

// run has the engine start a container.
func (p *process) run(t *testing.T, script string) {
	t.Helper()
	if _, err := fmt.Fprintln(p.in, script); err != nil {
		t.Fatal(err)
	}
	if !p.out.Scan() || p.out.Text() != "started" {
		t.Fatalf("the engine says %q, %v", p.out.Text(), p.out.Err())
	}
}
