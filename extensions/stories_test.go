// Package extensions has other people's controllers work on Sampan: it builds them from their own
// modules, installs them from their own manifests, which come with these, and has them do what
// they are for. It is a module of its own, so that the product carries none of them.
package extensions

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	flag.Parse()
	code := m.Run()
	os.RemoveAll(built.dir)
	os.Exit(code)
}

// TestStories runs the scripts in testdata. Each has an engine of its own, the directories of
// the modules with their manifests in $KUEUE, $JOBSET and $CERTMANAGER, and, besides testscript's own, the commands
//
//	serve                    start `sampan serve`, and wait until it is ready
//	image program file       make an image of one of the programs, load it under all names that
//	                         the containers in the manifests of a file ask for
//	eventually command args  run a command until it succeeds
func TestStories(t *testing.T) {
	t.Parallel()
	dir := programs(t)
	manifests := map[string]string{
		"KUEUE": moduleDir(t, kueue, kueue), "JOBSET": moduleDir(t, jobset, jobset),
		"CERTMANAGER": moduleDir(t, kueue, "github.com/cert-manager/cert-manager"), // which Kueue knows
	}
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			data := filepath.Join(env.WorkDir, "data")
			env.Setenv("PATH", dir+":"+os.Getenv("PATH"))
			env.Setenv("HOME", env.WorkDir)
			env.Setenv("DATA", data)
			env.Setenv("KUBECONFIG", filepath.Join(data, "kubeconfig"))
			for name, dir := range manifests {
				env.Setenv(name, dir)
			}
			e := &engine{bin: dir, data: data, env: env.Vars}
			env.Values[engineKey{}] = e
			env.Defer(e.stop)
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"serve": serve, "image": image, "eventually": eventually,
		},
	})
}

type engineKey struct{}

// engine is the `sampan serve` of one script.
type engine struct {
	bin, data string
	env       []string
	cmd       *exec.Cmd
}

func of(ts *testscript.TestScript) *engine { return ts.Value(engineKey{}).(*engine) }

func serve(ts *testscript.TestScript, neg bool, args []string) {
	e := of(ts)
	if neg || len(args) > 0 || e.cmd != nil {
		ts.Fatalf("usage: serve, once")
	}
	e.cmd = exec.Command(filepath.Join(e.bin, "sampan"), "serve", "--data-dir", e.data, "--listen", "127.0.0.1:0")
	e.cmd.Env, e.cmd.Dir = e.env, ts.Getenv("WORK")
	log, err := os.Create(filepath.Join(ts.Getenv("WORK"), "serve.log"))
	ts.Check(err)
	defer log.Close()
	e.cmd.Stderr = log
	out, err := e.cmd.StdoutPipe()
	ts.Check(err)
	ts.Check(e.cmd.Start())
	line := make([]byte, 4096)
	if n, err := out.Read(line); err != nil || !bytes.HasPrefix(line[:n], []byte("sampan is ready: ")) {
		_ = e.cmd.Wait()
		said, _ := os.ReadFile(log.Name())
		ts.Fatalf("serve did not become ready: %q, %v\n%s", line[:n], err, said)
	}
}

// stop leaves nothing of a script behind, and fails it if that is not possible.
func (e *engine) stop() {
	if e.cmd == nil {
		return
	}
	cmd := exec.Command(filepath.Join(e.bin, "sampan"), "stop", "--data-dir", e.data, "--grace-period", "2s")
	cmd.Env = e.env
	if out, err := cmd.CombinedOutput(); err != nil {
		_ = e.cmd.Process.Signal(syscall.SIGTERM)
		panic(fmt.Sprintf("sampan stop: %v\n%s", err, out))
	}
	_ = e.cmd.Wait()
}

// patience is how long something may take that happens in the end.
const patience = time.Minute

// eventually runs a command until it succeeds.
func eventually(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: eventually command [args]")
	}
	path := args[0]
	if own := filepath.Join(of(ts).bin, path); path == "kubectl" || path == "sampan" {
		path = own
	}
	for deadline := time.Now().Add(patience); ; time.Sleep(100 * time.Millisecond) {
		cmd := exec.Command(path, args[1:]...)
		cmd.Env, cmd.Dir = of(ts).env, ts.Getenv("WORK")
		out, err := cmd.CombinedOutput()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("%s: not within %v: %v\n%s", strings.Join(args, " "), patience, err, out)
		}
	}
}
