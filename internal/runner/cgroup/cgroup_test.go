package cgroup

import (
	"errors"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sampan-batch/sampan/internal/runner"
)

var everything = runner.Resources{MemoryLimit: 64 << 20, CPUShares: 512, CPUQuota: 50_000, CPUPeriod: 100_000, PidsLimit: 100}

// made is a made cgroup file system: directories with the files that the kernel
// would put there, and a Kernel that behaves as the real one does.
type made struct {
	t      *testing.T
	root   string
	proc   string
	files  func(dir string) map[string]string
	denied map[string]bool // directories that may not be written to
}

func newTree(t *testing.T) *made {
	t.Helper()
	tr := &made{t: t, root: t.TempDir(), proc: filepath.Join(t.TempDir(), "self"), denied: make(map[string]bool)}
	must(t, os.Mkdir(tr.proc, 0o755))
	return tr
}

func (tr *made) write(path, text string) {
	tr.t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		tr.t.Fatal(err)
	}
}

func (tr *made) read(path ...string) string {
	text, err := os.ReadFile(filepath.Join(append([]string{tr.root}, path...)...))
	if err != nil {
		return err.Error()
	}
	return string(text)
}

func (tr *made) Mkdir(dir string) error {
	if tr.denied[filepath.Dir(dir)] {
		return &os.PathError{Op: "mkdir", Path: dir, Err: unix.EACCES}
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	for name, text := range tr.files(dir) {
		tr.write(filepath.Join(dir, name), text)
	}
	return nil
}

func (tr *made) Rmdir(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.IsDir() {
			return &os.PathError{Op: "rmdir", Path: dir, Err: unix.EBUSY}
		}
	}
	return os.RemoveAll(dir)
}

func (tr *made) Writable(path string) bool {
	if filepath.Base(path) == "cgroup.procs" {
		path = filepath.Dir(path)
	}
	return !tr.denied[path]
}

// Write moves processes and hands on controllers, as the kernel does.
func (tr *made) Write(file, value string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	switch filepath.Base(file) {
	case "cgroup.procs":
		_ = filepath.WalkDir(tr.root, func(path string, _ fs.DirEntry, err error) error {
			if filepath.Base(path) == "cgroup.procs" {
				all, _ := words(path)
				tr.write(path, strings.Join(slices.DeleteFunc(all, func(pid string) bool { return pid == value }), "\n"))
			}
			return err
		})
		value = strings.TrimSpace(string(text) + "\n" + value)
	case "cgroup.subtree_control":
		dir := filepath.Dir(file)
		if dir != tr.root && populated(dir) {
			return &os.PathError{Op: "write", Path: file, Err: unix.EBUSY}
		}
		if available, _ := words(filepath.Join(dir, "cgroup.controllers")); !slices.Contains(available, value[1:]) {
			return &os.PathError{Op: "write", Path: file, Err: unix.ENOENT}
		}
		tr.write(file, strings.TrimSpace(string(text)+" "+value[1:]))
		tr.provide(dir)
		return nil
	}
	tr.write(file, value)
	return nil
}

// provide gives the groups in dir the files of what that hands on.
func (tr *made) provide(dir string) {
	inner, err := subgroups(dir)
	must(tr.t, err)
	for _, in := range inner {
		for name, text := range tr.files(in) {
			path := filepath.Join(in, name)
			if _, err := os.Stat(path); err != nil || name == "cgroup.controllers" {
				tr.write(path, text)
			}
		}
	}
}

// make makes a group, and those above it, with the given processes, which hands
// on the given controllers.
func (tr *made) make(group, controllers string, procs ...string) string {
	tr.t.Helper()
	dir := tr.root
	for name := range strings.SplitSeq(strings.Trim(group, "/"), "/") {
		dir = filepath.Join(dir, name)
		if err := tr.Mkdir(dir); err != nil && !errors.Is(err, fs.ErrExist) {
			tr.t.Fatal(err)
		}
	}
	tr.write(filepath.Join(dir, "cgroup.subtree_control"), controllers)
	tr.write(filepath.Join(dir, "cgroup.procs"), strings.Join(procs, "\n"))
	return dir
}

// manager returns a Manager of a process that is in the given groups.
func (tr *made) manager(mountinfo, own string) *Manager {
	tr.write(filepath.Join(tr.proc, "mountinfo"), strings.ReplaceAll(mountinfo, "ROOT", tr.root))
	tr.write(filepath.Join(tr.proc, "cgroup"), own)
	return NewManager(Config{Proc: tr.proc, Kernel: tr})
}

// inPod is the directory of the pod that create makes containers in.
const inPod = home + "/podp.e3b0c442"

func create(t *testing.T, m *Manager, name string, r runner.Resources) (*Group, string) {
	t.Helper()
	g, ignored, err := m.Create(Container{Pod: "p", Name: name, Resources: r})
	must(t, err)
	return g, ignored
}

const unifiedMount = "31 24 0:26 / ROOT rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"

// newUnified makes a version 2 tree. A group has the controllers that the one
// above hands on.
func newUnified(t *testing.T, controllers string) *made {
	tr := newTree(t)
	for name, text := range map[string]string{
		"cgroup.controllers": controllers, "cgroup.subtree_control": controllers, "cgroup.procs": "1\n2\n",
	} {
		tr.write(filepath.Join(tr.root, name), text)
	}
	tr.files = func(dir string) map[string]string {
		handed, _ := words(filepath.Join(filepath.Dir(dir), "cgroup.subtree_control"))
		files := map[string]string{
			"cgroup.procs": "", "cgroup.subtree_control": "", "cgroup.type": "domain", "cgroup.controllers": strings.Join(handed, " "),
		}
		for controller, names := range map[string][]string{
			"memory": {"memory.max", "memory.swap.max", "memory.oom.group", "memory.events"},
			"cpu":    {"cpu.max", "cpu.weight"},
			"pids":   {"pids.max"},
		} {
			for _, name := range names {
				if slices.Contains(handed, controller) {
					files[name] = ""
				}
			}
		}
		return files
	}
	return tr
}

func TestUnifiedAsRoot(t *testing.T) {
	t.Parallel()
	tr := newUnified(t, "cpuset cpu io memory pids")
	tr.make("/system.slice", "memory pids")
	tr.make("/system.slice/sampan.service", "", "4711")
	m := tr.manager(unifiedMount, "0::/system.slice/sampan.service\n")
	g, ignored := create(t, m, "c1", everything)
	if g == nil || ignored != "" {
		t.Fatalf("got %v %q", g, ignored)
	}
	for file, want := range map[string]string{
		"memory.max": "67108864", "memory.swap.max": "0", "memory.oom.group": "1",
		"cpu.max": "50000 100000", "cpu.weight": "59", "pids.max": "100",
	} {
		if got := tr.read(inPod, "c1", file); got != want {
			t.Errorf("%s: got %q, want %q", file, got, want)
		}
	}
	if !g.Unified() || g.FD() < 0 {
		t.Errorf("descriptor %d", g.FD())
	}
	if fds, err := g.ProcsFDs(); err != nil || len(fds) > 0 {
		t.Errorf("ProcsFDs: %v %v", fds, err)
	}
	if err := g.Add(4711); err != nil || tr.read(inPod, "c1", "cgroup.procs") != "4711" {
		t.Errorf("Add: %v, %q", err, tr.read(inPod, "c1", "cgroup.procs"))
	}
	tr.write(filepath.Join(g.Path("memory"), "memory.events"), "low 0\nhigh 0\nmax 7\noom 2\noom_kill 3\noom_group_kill 1\n")
	if n, err := g.OOMKills(); n != 3 || err != nil {
		t.Errorf("OOMKills: %d %v", n, err)
	}
	if plain, ignored := create(t, m, "c2", runner.Resources{}); plain == nil || ignored != "" {
		t.Errorf("nothing asked for: %v %q", plain, ignored)
	} else {
		must(t, plain.Remove())
	}
	must(t, os.Mkdir(filepath.Join(tr.root, inPod, "c1", "inner"), 0o755)) // by the container
	must(t, g.Remove())
	if _, err := os.Stat(filepath.Join(tr.root, home)); err == nil {
		t.Error("the directory outlives its last group")
	}
	if g, ignored = create(t, m, "c3", everything); g == nil || ignored != "" { // it is made anew
		t.Fatalf("got %v %q", g, ignored)
	}
	must(t, g.Remove())
}

func TestUnifiedMissingController(t *testing.T) {
	t.Parallel()
	tr := newUnified(t, "memory")
	g, ignored := create(t, tr.manager(unifiedMount, "0::/\n"), "c1", runner.Resources{MemoryLimit: 1 << 20, PidsLimit: 5})
	if g == nil || !strings.HasPrefix(ignored, "pids: ") || strings.Contains(ignored, "memory") {
		t.Fatalf("got %v %q", g, ignored)
	}
	if got := tr.read(inPod, "c1", "memory.max"); got != "1048576" {
		t.Errorf("memory.max: %q", got)
	}
	must(t, g.Remove())
	m := tr.manager(unifiedMount, "0::/\n")
	g, ignored = create(t, m, "c1", runner.Resources{PidsLimit: 5})
	if g == nil || !strings.HasPrefix(ignored, "pids: ") { // its processes are found by it nevertheless
		t.Fatalf("got %v %q", g, ignored)
	}
	if got := m.Absent(); !strings.HasPrefix(got, "limits of cpu, pids are not enforced: ") {
		t.Errorf("absent: %q", got)
	}
	must(t, g.Remove())
}

// A user's service manager hands controllers on to app.slice, which is the
// user's to write to; the session's own group is left alone.
func TestUnifiedAsUser(t *testing.T) {
	t.Parallel()
	tr := newUnified(t, "memory pids")
	const manager = "/user.slice/user-1000.slice/user@1000.service"
	for _, group := range []string{"/user.slice", "/user.slice/user-1000.slice"} {
		tr.make(group, "memory pids")
	}
	tr.make(manager, "memory pids")
	slice := tr.make(manager+"/app.slice", "memory pids")
	own := manager + "/app.slice/terminal.scope"
	tr.make(own, "", "4711", "4712")
	for _, dir := range []string{"", "user.slice", "user.slice/user-1000.slice"} {
		tr.denied[filepath.Join(tr.root, dir)] = true
	}
	g, ignored := create(t, tr.manager(unifiedMount, "0::"+own+"\n"), "c1", runner.Resources{MemoryLimit: 1 << 20, CPUShares: 2})
	if g == nil || !strings.HasPrefix(ignored, "cpu: ") {
		t.Fatalf("got %v %q", g, ignored)
	}
	if want := filepath.Join(slice, inPod, "c1"); g.Path("memory") != want {
		t.Errorf("got %s, want %s", g.Path("memory"), want)
	}
	if got := tr.read(own, "cgroup.procs"); got != "4711\n4712" {
		t.Errorf("the session's processes were moved: %q", got)
	}
	must(t, g.Remove())
}

func TestUnifiedNotDelegated(t *testing.T) {
	t.Parallel()
	tr := newUnified(t, "memory pids")
	tr.make("/user.slice", "memory pids")
	tr.make("/user.slice/session-3.scope", "", "4711")
	for _, dir := range []string{"", "user.slice", "user.slice/session-3.scope"} {
		tr.denied[filepath.Join(tr.root, dir)] = true
	}
	g, ignored := create(t, tr.manager(unifiedMount, "0::/user.slice/session-3.scope\n"), "c1", everything)
	if g != nil || !strings.Contains(ignored, "not delegated") {
		t.Errorf("got %v %q", g, ignored)
	}
}

// In a delegated group of its own, the engine makes room for groups: their
// parent must not have processes.
func TestUnifiedOwnGroup(t *testing.T) {
	t.Parallel()
	tr := newUnified(t, "memory pids")
	tr.make("/system.slice", "memory pids")
	own := tr.make("/system.slice/sampan.service", "", "4711", "4712")
	tr.denied[tr.root], tr.denied[filepath.Join(tr.root, "system.slice")] = true, true
	g, ignored := create(t, tr.manager(unifiedMount, "0::/system.slice/sampan.service\n"), "c1", runner.Resources{PidsLimit: 9})
	if g == nil || ignored != "" {
		t.Fatalf("got %v %q", g, ignored)
	}
	if got := tr.read("system.slice/sampan.service", leaf, "cgroup.procs"); got != "4711\n4712" {
		t.Errorf("in the leaf: %q", got)
	}
	if want := filepath.Join(own, inPod, "c1"); g.Path("pids") != want {
		t.Errorf("got %s, want %s", g.Path("pids"), want)
	}
	must(t, g.Remove())
}

// In a container the engine is at the top of its cgroup namespace, which has
// processes and is not the root of the tree.
func TestUnifiedInContainer(t *testing.T) {
	t.Parallel()
	tr := newUnified(t, "memory pids")
	tr.write(filepath.Join(tr.root, "cgroup.type"), "domain")
	tr.write(filepath.Join(tr.root, "cgroup.subtree_control"), "")
	g, ignored := create(t, tr.manager(unifiedMount, "0::/\n"), "c1", runner.Resources{PidsLimit: 9})
	if g == nil || ignored != "" {
		t.Fatalf("got %v %q", g, ignored)
	}
	if got := tr.read(leaf, "cgroup.procs"); got != "1\n2" {
		t.Errorf("in the leaf: %q", got)
	}
	must(t, g.Remove())
}

func TestVersion1(t *testing.T) {
	t.Parallel()
	tr := newTree(t)
	tr.files = func(string) map[string]string {
		files := map[string]string{"cgroup.procs": "", "tasks": ""}
		for _, name := range []string{"memory.limit_in_bytes", "memory.oom_control", "cpu.shares", "cpu.cfs_period_us", "cpu.cfs_quota_us", "pids.max"} {
			files[name] = ""
		}
		return files
	}
	for _, dir := range []string{"memory/outer/own", "cpu,cpuacct", "pids/own"} {
		tr.make(dir, "")
	}
	m := tr.manager(`40 32 0:30 /outer ROOT/memory/outer rw - cgroup cgroup rw,memory
41 32 0:31 / ROOT/cpu,cpuacct rw shared:9 - cgroup cgroup rw,cpu,cpuacct
42 32 0:32 / ROOT/pids rw - cgroup cgroup rw,pids
43 32 0:33 / ROOT/unified rw - cgroup2 cgroup2 rw
44 32 0:34 / /with\040blank rw - cgroup cgroup rw,freezer
`, "9:name=systemd:/\n4:memory:/outer/own\n3:cpu,cpuacct:/\n2:pids:/own\n0::/\n")
	g, ignored := create(t, m, "c1", everything)
	if g == nil || ignored != "" {
		t.Fatalf("got %v %q", g, ignored)
	}
	for file, want := range map[string]string{
		"memory/outer/own/sampan/podp.e3b0c442/c1/memory.limit_in_bytes": "67108864",
		"cpu,cpuacct/sampan/podp.e3b0c442/c1/cpu.shares":                 "512",
		"cpu,cpuacct/sampan/podp.e3b0c442/c1/cpu.cfs_period_us":          "100000",
		"cpu,cpuacct/sampan/podp.e3b0c442/c1/cpu.cfs_quota_us":           "50000",
		"pids/own/sampan/podp.e3b0c442/c1/pids.max":                      "100",
	} {
		if got := tr.read(file); got != want {
			t.Errorf("%s: got %q, want %q", file, got, want)
		}
	}
	if g.Unified() || g.FD() >= 0 {
		t.Errorf("descriptor %d", g.FD())
	}
	fds, err := g.ProcsFDs()
	if err != nil || len(fds) != 3 {
		t.Errorf("ProcsFDs: %v %v", fds, err)
	}
	again, _ := g.ProcsFDs()
	if !slices.Equal(fds, again) {
		t.Errorf("ProcsFDs: %v, then %v", fds, again)
	}
	tr.write(filepath.Join(g.Path("memory"), "memory.oom_control"), "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n")
	if n, err := g.OOMKills(); n != 1 || err != nil {
		t.Errorf("OOMKills: %d %v", n, err)
	}
	few, _ := create(t, m, "c2", runner.Resources{PidsLimit: 5})
	if few == nil || len(few.paths()) != 1 {
		t.Fatalf("only pids asked for: %+v", few)
	}
	must(t, errors.Join(g.Remove(), few.Remove()))
	if _, err := os.Stat(filepath.Join(tr.root, "pids/own", home)); err == nil {
		t.Error("the directory outlives its last group")
	}
}

// In hybrid mode version 1 has the controllers. Root needs nothing else; a user
// to whom a group of version 2 has been delegated gets no limits, but groups to
// find processes in.
func TestHybrid(t *testing.T) {
	t.Parallel()
	setup := func(t *testing.T) (*made, *Manager) {
		tr := newTree(t)
		tr.files = func(dir string) map[string]string {
			files := map[string]string{"cgroup.procs": "", "tasks": "", "memory.limit_in_bytes": ""}
			if strings.Contains(dir, "unified") {
				files = map[string]string{"cgroup.procs": "", "cgroup.controllers": "", "cgroup.subtree_control": "", "cgroup.type": "domain"}
			}
			return files
		}
		for _, dir := range []string{"memory/own", "freezer/own", "unified/user/own"} {
			tr.make(dir, "", "4711")
		}
		tr.write(filepath.Join(tr.root, "unified", "cgroup.procs"), "1")
		return tr, tr.manager(`40 32 0:30 / ROOT/memory rw - cgroup cgroup rw,memory
41 32 0:32 / ROOT/freezer rw - cgroup cgroup rw,freezer
43 32 0:33 / ROOT/unified rw - cgroup2 cgroup2 rw
`, "4:memory:/own\n3:freezer:/own\n0::/user/own\n")
	}
	t.Run("root", func(t *testing.T) {
		tr, m := setup(t)
		g, ignored := create(t, m, "c1", runner.Resources{MemoryLimit: 1 << 20, PidsLimit: 5})
		if g == nil || ignored != "pids: "+noController {
			t.Fatalf("%v %q", g, ignored)
		}
		// One killing is one call there.
		want := []string{filepath.Join(tr.root, "unified", inPod, "c1"), filepath.Join(tr.root, "memory/own", inPod, "c1")}
		if got := g.paths(); !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
		fds, err := g.ProcsFDs()
		if fd, e := g.UnifiedProcsFD(); len(fds) != 1 || fd < 0 || g.FD() < 0 || err != nil || e != nil {
			t.Errorf("%v %d %d %v %v", fds, fd, g.FD(), err, e)
		}
		must(t, g.Remove())
	})
	t.Run("user", func(t *testing.T) {
		tr, m := setup(t)
		for _, dir := range []string{"memory/own", "freezer/own", "unified", "unified/user"} {
			tr.denied[filepath.Join(tr.root, dir)] = true
		}
		g, ignored := create(t, m, "c1", runner.Resources{MemoryLimit: 1 << 20})
		if g == nil || ignored != "memory: "+noController {
			t.Fatalf("%v %q", g, ignored)
		}
		if got, want := g.paths(), filepath.Join(tr.root, "unified/user/own", inPod, "c1"); len(got) != 1 || got[0] != want {
			t.Errorf("got %q, want %q", got, want)
		}
		if got := tr.read("unified/user/own/cgroup.procs"); got != "4711" {
			t.Errorf("processes were moved for nothing: %q", got)
		}
		if got := m.Absent(); !strings.Contains(got, "memory, cpu, pids") || !strings.Contains(got, "number of a pod's processes") {
			t.Errorf("absent: %q", got)
		}
		must(t, g.Remove())
	})
	t.Run("nobody", func(t *testing.T) {
		tr, m := setup(t)
		for _, dir := range []string{"memory/own", "freezer/own", "unified", "unified/user", "unified/user/own"} {
			tr.denied[filepath.Join(tr.root, dir)] = true
		}
		if g, ignored := create(t, m, "c1", runner.Resources{}); g != nil || ignored != "" {
			t.Errorf("nothing asked for: %v %q", g, ignored)
		}
		if g, ignored := create(t, m, "c1", everything); g != nil || ignored != "creating cgroups (version 1) needs root" {
			t.Errorf("%v %q", g, ignored)
		}
		if got := m.Absent(); !strings.HasPrefix(got, "containers have no cgroups: creating cgroups (version 1) needs root; limits") {
			t.Errorf("absent: %q", got)
		}
	})
}

func TestNoCgroups(t *testing.T) {
	t.Parallel()
	tr := newTree(t)
	g, ignored := create(t, tr.manager("", ""), "c1", everything)
	if g != nil || ignored != "no cgroup file system is mounted" {
		t.Errorf("got %v %q", g, ignored)
	}
}

// The points that the container runtimes have agreed on.
func TestWeight(t *testing.T) {
	t.Parallel()
	want := map[int64]int64{0: 1, 2: 1, 1024: 100, 262144: 10000, 1 << 40: 10000, 100: 17, 512: 59, 2048: 174}
	got := make(map[int64]int64)
	for shares := range want {
		got[shares] = weight(shares)
	}
	if !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	for shares, last := int64(2), int64(1); shares < 300000; shares++ {
		w := weight(shares)
		if w < last || w < 1 || w > 10000 {
			t.Fatalf("weight(%d) is %d after %d", shares, w, last)
		}
		last = w
	}
}

// On this machine, whichever version it has.
func TestReal(t *testing.T) {
	t.Parallel()
	m := NewManager(Config{})
	name := "test-" + strconv.Itoa(os.Getpid())
	g, ignored := create(t, m, name, runner.Resources{PidsLimit: 10, MemoryLimit: 64 << 20})
	if g == nil {
		t.Skipf("no cgroup can be made here: %s", ignored)
	}
	if ignored != "" {
		t.Logf("ignored: %s", ignored)
	}
	cmd := exec.Command("sleep", "1000")
	must(t, cmd.Start())
	must(t, g.Add(cmd.Process.Pid))
	for _, dir := range g.paths() {
		if pids, err := processes(dir); err != nil || !slices.Contains(pids, cmd.Process.Pid) {
			t.Errorf("%s has %v %v", dir, pids, err)
		}
	}
	// A new engine finds it by its name.
	done := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(done)
	}()
	must(t, NewManager(Config{}).Recover([]string{"no such"}))
	<-done
	must(t, NewManager(Config{}).Recover(nil)) // nothing is left: no error
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
