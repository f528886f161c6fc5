package doctor

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestProbesAnswerInTime: what does not answer is told by its name, and keeps nobody.
func TestProbesAnswerInTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		began, never := time.Now(), make(chan struct{})
		dead := Probe{"dead", func(context.Context) []Finding { <-never; return nil }}
		got := dead.ask(t.Context(), 30*time.Second)
		if len(got) != 1 || got[0].Name != "dead" || got[0].Status != Broken || got[0].Message != "no answer within 30s" {
			t.Errorf("got %+v", got)
		}
		if took := time.Since(began); took != 30*time.Second {
			t.Errorf("took %s", took)
		}
		// Who heeds its context has time to say what it was about.
		heeding := Probe{"heeding", func(ctx context.Context) []Finding {
			<-ctx.Done()
			return []Finding{limited("heeding", "", "waited for the disk")}
		}}
		if got := heeding.ask(t.Context(), 30*time.Second); got[0].Message != "waited for the disk" {
			t.Errorf("got %+v", got)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if got := dead.ask(ctx, 30*time.Second); got[0].Message != "interrupted" {
			t.Errorf("got %+v", got)
		}
		close(never)
	})
}

func TestOlder(t *testing.T) {
	t.Parallel()
	for release, want := range map[string]bool{
		"4.19.0-27-amd64": true, "5.4.0": true, "5.11.22": true, "5.12": false, "5.12.0-rc1": false, "6.1.0-18": false, "10.0": false, "own": false, "": false,
	} {
		if got := older(release); got != want {
			t.Errorf("older(%q) = %v, want %v", release, got, want)
		}
	}
}

func TestClock(t *testing.T) {
	t.Parallel()
	if got := clock(time.Unix(0, 0)); got[0].Status != Broken || !strings.Contains(got[0].Message, "1970-01-01") {
		t.Errorf("got %+v", got)
	}
	if got := clock(time.Now()); got[0].Status == Broken {
		t.Errorf("got %+v", got)
	}
}

// TestSeen: what a container sees decides what is said.
func TestSeen(t *testing.T) {
	t.Parallel()
	whole := seen{Root: "overlay", Proc: "proc", Sys: "sysfs", Seccomp: "2", IDs: 65537}
	for name, test := range map[string]struct {
		change func(*seen)
		say    func(*seen) Finding
		want   Status
	}{
		"all":              {func(*seen) {}, overlay, OK},
		"no overlay":       {func(s *seen) { s.Root = "ext4" }, overlay, Broken},
		"read-only":        {func(s *seen) { s.Unwritable = "EROFS" }, overlay, Limited},
		"proc and sys":     {func(*seen) {}, mounted, OK},
		"no proc":          {func(s *seen) { s.Proc = "" }, mounted, Limited},
		"no sys":           {func(s *seen) { s.Sys = "" }, mounted, Limited},
		"seccomp":          {func(*seen) {}, filtered, OK},
		"no filter":        {func(s *seen) { s.Seccomp = "0" }, filtered, Limited},
		"devices":          {func(*seen) {}, ownDevices, OK},
		"no null":          {func(s *seen) { s.Lacks = []string{"open /dev/null: gone"} }, ownDevices, Limited},
		"subordinate ids":  {func(*seen) {}, func(s *seen) Finding { return subordinate(s.IDs) }, OK},
		"a single id":      {func(s *seen) { s.IDs = 1 }, func(s *seen) Finding { return subordinate(s.IDs) }, Limited},
		"its own network":  {func(*seen) {}, func(*seen) Finding { return ownNetwork("") }, OK},
		"the machine's":    {func(*seen) {}, func(*seen) Finding { return ownNetwork("no veth") }, Limited},
		"limits hold":      {func(*seen) {}, func(*seen) Finding { return groups("") }, OK},
		"limits are not":   {func(*seen) {}, func(*seen) Finding { return groups("not delegated") }, Limited},
		"no place at all":  {func(*seen) {}, func(*seen) Finding { return directory("data directory", "/dev/null/x") }, Broken},
		"a place to write": {func(*seen) {}, func(*seen) Finding { return directory("data directory", t.TempDir()) }, OK},
	} {
		s := whole
		test.change(&s)
		if got := test.say(&s); got.Status != test.want {
			t.Errorf("%s: got %+v, want %s", name, got, test.want)
		}
	}
}

// TestAdvice: each error of a start has a way on, unless it says one itself.
func TestAdvice(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"sandbox: user namespaces are switched off: sysctl …":       "",
		"mount overlay: invalid argument":                           "ext4",
		"mount /run/kit/sys: operation not permitted":               "systempaths",
		"write x: no space left on device":                          "make room",
		"unshare: operation not permitted":                          "docker run",
		"something that nobody has met":                             "--runtime=host",
		"this process is in a chroot, from which no namespaces are": "",
	} {
		got := adviceFor(errors.New(text))
		if got != want && (want == "" || !strings.Contains(got, want)) {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}

// TestListening finds this process, and nobody where nobody listens.
func TestListening(t *testing.T) {
	t.Parallel()
	for _, address := range []string{"127.0.0.1:0", "[::1]:0"} {
		l, err := net.Listen("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		if got := Listening(l.Addr().String()); !strings.HasPrefix(got, "process ") || !strings.Contains(got, "doctor") {
			t.Errorf("%s: got %q", l.Addr(), got)
		}
		l.Close()
	}
	for _, address := range []string{"", "x", "127.0.0.1:x", "127.0.0.1:99999999"} {
		if got := Listening(address); !strings.Contains(got, "cannot see") {
			t.Errorf("%q: got %q", address, got)
		}
	}
}

// TestInside says in the termination message what it sees.
func TestInside(t *testing.T) {
	said := filepath.Join(t.TempDir(), "said")
	t.Setenv("SAMPAN_TERMINATION_LOG", said)
	if err := Inside(); err == nil {
		t.Error("a message was made where there is no file for it")
	}
	if err := os.WriteFile(said, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Inside(); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(said); err != nil || !strings.Contains(string(text), `"Proc":"proc"`) {
		t.Errorf("got %q, %v", text, err)
	}
}
