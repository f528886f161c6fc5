package attack

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

const nobody = 65534

// user is who runs Sampan.
type user struct {
	name string
	id   int
	// enter begins the command lines of this user.
	enter []string
}

const (
	root       = "root"
	ordinary   = "ordinary user"
	mapped     = "ordinary user with subordinate ids"
	anyUser    = ""
	rootMapped = root + "," + mapped
)

// users are all that this process can become.
func users(t *testing.T) []*user {
	t.Helper()
	if os.Geteuid() != 0 {
		return []*user{{name: ordinary, id: os.Geteuid()}}
	}
	become := []string{"setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"}
	list := []*user{{name: root}, {name: ordinary, id: nobody, enter: become}}
	if _, err := exec.LookPath("newuidmap"); err != nil {
		t.Fatal("no newuidmap: apt-get install uidmap")
	}
	etc := filepath.Join(base, "etc")
	must(t, os.MkdirAll(etc, 0o755))
	for _, file := range []string{"subuid", "subgid"} {
		must(t, os.WriteFile(filepath.Join(etc, file), []byte("nobody:400000:65536\n"), 0o644))
	}
	// The machine's own /etc/subuid stays as it is.
	overlay := fmt.Sprintf(`mount -t overlay overlay -o lowerdir=%s:/etc /etc && exec "$@"`, etc)
	enter := append([]string{"unshare", "--mount", "sh", "-c", overlay, "mapped"}, become...)
	return append(list, &user{name: mapped, id: nobody, enter: enter})
}

// home is the user's directory, with images in its usual place.
func (u *user) home() string { return filepath.Join(base, strings.ReplaceAll(u.name, " ", "-")) }

// prepare gives the user a home with the images.
func (u *user) prepare(t *testing.T, images []string) {
	t.Helper()
	must(t, os.MkdirAll(u.home(), 0o700))
	must(t, os.Chown(u.home(), u.id, -1))
	s := newSite(t, u, false)
	for _, file := range images {
		if out, err := s.sampan("image", "load", file).CombinedOutput(); err != nil {
			t.Fatalf("load %s: %v\n%s", file, err, out)
		}
	}
}

// site is where an attack takes place: a user's Sampan, and a directory that is
// this attack's alone.
type site struct {
	*testing.T
	user *user
	// weak: the defence is missing, by what control says in the manifest or by the
	// steps that the binary leaves out.
	weak    bool
	without string
	enter   []string // before the user's: what root does for all of it
	dir     string
}

var siteNumber atomic.Int32

func newSite(t *testing.T, u *user, weak bool) *site {
	t.Helper()
	s := &site{T: t, user: u, weak: weak, dir: filepath.Join(u.home(), fmt.Sprint(siteNumber.Add(1)))}
	for _, dir := range []string{s.dir, s.path("tmp")} {
		must(t, os.Mkdir(dir, 0o700))
		must(t, os.Chown(dir, u.id, -1))
	}
	t.Cleanup(func() {
		left, err := os.ReadDir(s.path("tmp"))
		if err != nil || len(left) > 0 {
			t.Errorf("left in the directory for temporary files: %v %v", left, err)
		}
		if t.Failed() {
			s.explain()
		}
	})
	return s
}

func (s *site) path(name string) string { return filepath.Join(s.dir, name) }

// id is a number that nothing else has.
func (s *site) id() string { return filepath.Base(s.dir) }

// explain shows what the supervisors that have left a log had to say.
func (s *site) explain() {
	for _, pattern := range []string{"tmp/*/run/*/log", "data/run/*/log"} {
		logs, _ := filepath.Glob(s.path(pattern))
		for _, file := range logs {
			text, _ := os.ReadFile(file)
			s.Logf("%s:\n%s", file, text)
		}
	}
}

// command is a command line of the user's.
func (s *site) command(args ...string) *exec.Cmd {
	line := slices.Concat(s.enter, s.user.enter, args)
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	s.Cleanup(cancel) // later than what uses the command to clean up
	cmd := exec.CommandContext(ctx, line[0], line[1:]...)
	cmd.Dir = s.dir
	cmd.Env = []string{
		"HOME=" + s.dir, "XDG_DATA_HOME=" + filepath.Join(s.user.home(), "share"), "TMPDIR=" + s.path("tmp"),
		"KUBECONFIG=" + s.path("data/kubeconfig"), "PATH=" + filepath.Join(base, "bin") + ":/usr/sbin:/usr/bin:/sbin:/bin",
		"SAMPAN_WITHOUT=" + s.without, // of which only the weak binary takes notice
	}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 20 * time.Second
	return cmd
}

// sampan is a command line of the site's binary.
func (s *site) sampan(args ...string) *exec.Cmd {
	binary := filepath.Join(base, "bin", "sampan")
	if s.weak && s.without != "" {
		binary = filepath.Join(base, "weak", "sampan")
	}
	return s.command(append([]string{binary}, args...)...)
}

// write makes a file of the user's.
func (s *site) write(name, text string) string {
	s.Helper()
	must(s, os.WriteFile(s.path(name), []byte(text), 0o600))
	must(s, os.Chown(s.path(name), s.user.id, -1))
	return s.path(name)
}

// run is `sampan run` with a manifest, whatever comes of it.
func (s *site) run(manifest string, flags ...string) string {
	s.Helper()
	file := s.write("manifest.yaml", manifest)
	out, _ := s.output(s.sampan(append([]string{"run", "--timeout=60s", file}, flags...)...))
	return out
}

func (s *site) output(cmd *exec.Cmd) (string, error) {
	s.Helper()
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	if strings.Contains(out.String(), "panic:") {
		s.Errorf("%v\n%s", err, out.String())
	}
	s.Logf("%s: %v\n%s", s.user.name, err, out.String())
	return out.String(), err
}

// seen is the part of text that is one of signs.
func seen(text string, signs ...string) string {
	for _, sign := range signs {
		if strings.Contains(text, sign) {
			return sign
		}
	}
	return ""
}

// job is a manifest of a Job with a pod of one container "c". pod and container
// are fields in YAML's flow style.
func job(name, pod, container string, command ...string) string {
	args, _ := json.Marshal(command)
	if !strings.Contains(container, "image:") {
		container = "image: attacker, " + container
	}
	return fmt.Sprintf(`---
apiVersion: batch/v1
kind: Job
metadata: {name: %s}
spec:
  backoffLimit: 0
  template:
    spec: {restartPolicy: Never, terminationGracePeriodSeconds: 1, %s containers: [{name: c, %s command: %s}]}
`, name, fields(pod), fields(container), args)
}

func fields(text string) string {
	if text = strings.TrimRight(strings.TrimSpace(text), ","); text != "" {
		text += ","
	}
	return text
}

// probe is the command line of the sandbox's probe.
func probe(commands ...string) []string { return append([]string{"/bin/probe"}, commands...) }
