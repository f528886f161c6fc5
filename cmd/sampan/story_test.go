package main_test

import (
	"archive/tar"
	"debug/elf"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/sampan-batch/sampan/internal/image/imagetest"
	"github.com/sampan-batch/sampan/internal/runner/hostpath/hangs"
)

func TestMain(m *testing.M) {
	flag.Parse()
	flag.Set("test.parallel", "6") // stories wait more than they work
	code := m.Run()
	os.RemoveAll(built.dir)
	os.Exit(code)
}

// TestStories runs the scripts in testdata/stories: what a user does, with the
// real binary, the real kubectl and real processes.
//
// Every script has a data directory $DATA, the images of the seeds' manifests
// as archives in $IMAGES, the manifests in $MANIFESTS, and KUBECONFIG set to
// where `sampan serve --data-dir $DATA` writes it. Besides testscript's own it
// has the condition [root] and the commands
//
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
			e := &engine{data: data, tools: tools, env: env.Vars}
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
			}
			return false, fmt.Errorf("unknown condition %q", cond)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
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
	data  string
	tools *tools
	env   []string
	cmd   *exec.Cmd
	ended chan error // what cmd.Wait returned
}

func of(ts *testscript.TestScript) *engine { return ts.Value(engineKey{}).(*engine) }

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

// eventually runs a command until it succeeds, at most for a minute.
func eventually(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) == 0 {
		ts.Fatalf("usage: eventually command [args]")
	}
	var last string
	deadline := time.Now().Add(time.Minute)
	for time.Now().Before(deadline) {
		cmd := exec.Command(args[0], args[1:]...)
		if found, err := lookIn(ts.Getenv("PATH"), args[0]); err == nil {
			cmd.Path, cmd.Err = found, nil
		}
		cmd.Env = of(ts).env
		cmd.Dir = ts.Getenv("WORK")
		out, err := cmd.CombinedOutput()
		if (err == nil) != neg {
			return
		}
		last = fmt.Sprintf("%v\n%s", err, out)
		time.Sleep(50 * time.Millisecond)
	}
	ts.Fatalf("%s: not within a minute: %s", strings.Join(args, " "), last)
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

// tools are what the scripts use, built once.
type tools struct {
	bin, images, manifests string
}

// built are the tools of this run of the tests; TestMain removes them.
var built struct {
	once sync.Once
	dir  string
	*tools
}

func buildTools(t *testing.T) *tools {
	t.Helper()
	built.once.Do(func() { built.tools = buildAll(t) })
	if built.tools == nil {
		t.Fatal("the tools could not be built: see the test that came first")
	}
	return built.tools
}

func buildAll(t *testing.T) *tools {
	t.Helper()
	dir, err := os.MkdirTemp("", "sampan-tools-*")
	if err != nil {
		t.Fatal(err)
	}
	built.dir = dir
	root, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	tl := &tools{
		bin: filepath.Join(dir, "bin"), images: filepath.Join(dir, "images"),
		manifests: filepath.Join(root, "testdata", "manifests"),
	}
	for _, d := range []string{tl.bin, tl.images} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	build(t, filepath.Join(tl.bin, "sampan"))
	goBuild(t, filepath.Join(root, "tools", "kubectl"), filepath.Join(tl.bin, "kubectl"), ".", "-ldflags=-X k8s.io/component-base/version.gitVersion=v1.37.2")
	kuard := filepath.Join(dir, "kuard")
	goBuild(t, root, kuard, "./testdata/kuard")
	extension := filepath.Join(tl.bin, "extension")
	goBuild(t, root, extension, "./testdata/extension")

	save := func(file, ref string, img v1.Image) {
		if err := os.Rename(imagetest.Save(t, ref, img), filepath.Join(tl.images, file)); err != nil {
			t.Fatal(err)
		}
	}
	save("busybox.tar", "busybox", busyboxImage(t))
	save("kuard.tar", "gcr.io/kuar-demo/kuard-amd64:blue", imagetest.Image(t, v1.Config{Entrypoint: []string{"/kuard"}},
		imagetest.Tar(t, imagetest.FromDisk(t, kuard, "kuard"))))
	save("extension.tar", "extension", imagetest.Image(t, v1.Config{Entrypoint: []string{"/extension"}},
		imagetest.Tar(t, imagetest.FromDisk(t, extension, "extension"))))
	save("perl.tar", "perl", perlImage(t))
	return tl
}

func goBuild(t *testing.T, dir, out, pkg string, flags ...string) {
	t.Helper()
	cmd := exec.Command("go", append(append([]string{"build"}, flags...), "-o", out, pkg)...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build %s: %v\n%s", pkg, err, text)
	}
}

// busyboxImage is the busybox image, made of Debian's static busybox.
func busyboxImage(t *testing.T) v1.Image {
	t.Helper()
	const path = "/bin/busybox"
	if f, err := elf.Open(path); err != nil || f.Section(".interp") != nil {
		t.Fatalf("no static %s: apt-get install busybox-static", path)
	}
	list, err := exec.Command(path, "--list").Output()
	if err != nil {
		t.Fatal(err)
	}
	files := []imagetest.File{
		{Name: "bin/", Type: tar.TypeDir}, {Name: "tmp/", Type: tar.TypeDir, Mode: 0o1777},
		{Name: "etc/", Type: tar.TypeDir}, {Name: "root/", Type: tar.TypeDir, Mode: 0o700},
		{Name: "etc/passwd", Body: []byte("root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/home:/bin/false\n")},
		{Name: "etc/group", Body: []byte("root:x:0:\nnobody:x:65534:\n")},
		imagetest.FromDisk(t, path, "bin/busybox"),
	}
	for _, applet := range strings.Fields(string(list)) {
		if applet != "busybox" {
			files = append(files, imagetest.File{Name: "bin/" + applet, Type: tar.TypeLink, Link: "bin/busybox"})
		}
	}
	return imagetest.Image(t, v1.Config{
		Cmd: []string{"sh"}, Env: []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
	}, imagetest.Tar(t, files...))
}

// perlImage is the perl image, made of this machine's perl and Debian's
// libmath-bigint-perl: the bigint that comes with perl 5.36 cannot do bpi(2000).
func perlImage(t *testing.T) v1.Image {
	t.Helper()
	const need = "apt-get install perl libmath-bigint-perl"
	perl, err := exec.LookPath("perl")
	if err != nil {
		t.Fatalf("no perl: %s", need)
	}
	inc, err := exec.Command(perl, "-Mbignum", "-e", `print join "\n", $INC{"bignum.pm"}, @INC`).Output()
	if err != nil {
		t.Fatalf("perl has no bignum: %s", need)
	}
	if _, err := os.Stat("/usr/share/perl5/Math/BigInt/Calc.pm"); err != nil {
		t.Fatalf("no libmath-bigint-perl: %s", need)
	}
	if perl, err = filepath.EvalSymlinks(perl); err != nil {
		t.Fatal(err)
	}
	files := []imagetest.File{{Name: "tmp/", Type: tar.TypeDir, Mode: 0o1777}, imagetest.FromDisk(t, perl, "usr/bin/perl")}
	libs, err := exec.Command("ldd", perl).Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, lib := range regexp.MustCompile(`/\S+`).FindAllString(string(libs), -1) {
		files = append(files, imagetest.FromDisk(t, lib, lib[1:]))
	}
	modules := map[string]bool{".pm": true, ".pl": true, ".so": true}
	for _, dir := range strings.Split(string(inc), "\n")[1:] {
		real, err := filepath.EvalSymlinks(dir) // 5.36 is a link to 5.36.0
		if err != nil {
			continue
		}
		filepath.WalkDir(real, func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.Type().IsRegular() && modules[filepath.Ext(path)] {
				files = append(files, imagetest.FromDisk(t, path, dir[1:]+path[len(real):]))
			}
			return nil
		})
	}
	return imagetest.Image(t, v1.Config{
		Cmd: []string{"perl"}, Env: []string{"PATH=/usr/local/bin:/usr/bin:/bin"},
	}, imagetest.Tar(t, files...))
}
