package unit

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// units are of either kind, with arguments that systemd could read otherwise.
func units(t *testing.T) map[string]Unit {
	t.Helper()
	program := filepath.Join(t.TempDir(), "sampan")
	if err := os.WriteFile(program, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	args := []string{"serve", "--data-dir", "/srv/100% of $HOME/it's \"mine\" \\ ;", "--node-name", "", "-v"}
	return map[string]Unit{
		"system": {Program: program, Args: args, User: "daemon", StateDirectory: "sampan"},
		"root":   {Program: program, Args: []string{"serve"}, User: "root"},
		"user":   {Program: program, Args: args, PerUser: true},
	}
}

// TestSystemdVerifies: systemd has nothing to say against a unit.
func TestSystemdVerifies(t *testing.T) {
	t.Parallel()
	const analyze = "/usr/bin/systemd-analyze"
	if _, err := os.Stat(analyze); err != nil {
		t.Fatalf("no %s: apt-get install systemd", analyze)
	}
	for name, u := range units(t) {
		file := filepath.Join(t.TempDir(), Name)
		if err := os.WriteFile(file, []byte(u.Text()), 0o600); err != nil {
			t.Fatal(err)
		}
		args := []string{"verify", "--man=no", file}
		if u.PerUser {
			args = append([]string{"--user"}, args...)
		}
		cmd := exec.Command(analyze, args...)
		cmd.Env = append(os.Environ(), "XDG_RUNTIME_DIR="+t.TempDir(), "HOME="+t.TempDir())
		out, err := cmd.CombinedOutput()
		if err != nil || strings.Contains(string(out), file) || strings.Contains(string(out), Name) {
			t.Errorf("%s: %v\n%s\n%s", name, err, out, u.Text())
		}
	}
}

// TestSystemdIsHeard: the check before notices a unit that is wrong.
func TestSystemdIsHeard(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), Name)
	text := strings.Replace(units(t)["root"].Text(), "KillMode=process", "KillMode=proces", 1)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	out, _ := exec.Command("/usr/bin/systemd-analyze", "verify", "--man=no", file).CombinedOutput()
	if !strings.Contains(string(out), Name) {
		t.Errorf("systemd-analyze says nothing of a wrong KillMode: %s", out)
	}
}

// TestText holds what an engine needs, in the sections where systemd looks for it.
func TestText(t *testing.T) {
	t.Parallel()
	for name, u := range units(t) {
		sections := parse(t, u.Text())
		for _, want := range []string{
			"Service Type=notify", "Service KillMode=process", "Service Delegate=yes", "Service Restart=always", "Service WatchdogSec=30",
			"Service OOMPolicy=continue", "Unit StartLimitIntervalSec=0",
		} {
			if !slices.Contains(sections, want) {
				t.Errorf("%s lacks %s:\n%s", name, want, u.Text())
			}
		}
		system := slices.Contains(sections, "Install WantedBy=multi-user.target") && slices.Contains(sections, "Service User="+u.User) && slices.Contains(sections, "Service LimitNOFILE=1048576")
		user := slices.Contains(sections, "Install WantedBy=default.target") && !strings.Contains(u.Text(), "User=") && !strings.Contains(u.Text(), "LimitNOFILE")
		if system == u.PerUser || user != u.PerUser {
			t.Errorf("%s:\n%s", name, u.Text())
		}
		if !Ours(u.Text()) {
			t.Errorf("%s is not recognised", name)
		}
	}
	if Ours("[Unit]\n# Written by `sampan install`.\n") || Ours("") {
		t.Error("a file of somebody else's is taken for ours")
	}
}

// parse returns "Section Key=value" of every line, and refuses what is none.
func parse(t *testing.T, text string) (all []string) {
	t.Helper()
	section := ""
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		switch {
		case line == "", strings.HasPrefix(line, "#"):
		case strings.HasPrefix(line, "["):
			section = strings.Trim(line, "[]")
		case section != "" && strings.Contains(line, "=") && !strings.HasSuffix(line, `\`):
			all = append(all, section+" "+line)
		default:
			t.Errorf("not a line of a unit: %q", line)
		}
	}
	return all
}

func TestWord(t *testing.T) {
	t.Parallel()
	for arg, want := range map[string]string{
		"--listen=127.0.0.1:6443": "--listen=127.0.0.1:6443",
		"":                        `""`,
		"a b":                     `"a b"`,
		"100%":                    "100%%",
		"$HOME":                   "$$HOME",
		`a"b\`:                    `"a\"b\\"`,
		"it's":                    `"it's"`,
		";":                       `";"`,
		"a\nExecStartPre=rm":      `"a\x0aExecStartPre=rm"`,
		"\xff":                    `"\xff"`,
		"ä":                       "ä",
	} {
		if got := word(arg); got != want {
			t.Errorf("word(%q) = %s, want %s", arg, got, want)
		}
	}
}

func TestCheck(t *testing.T) {
	t.Parallel()
	for program, want := range map[string]bool{
		"/usr/local/bin/sampan": true, "/opt/sampan-1.2+x@y/sampan_2": true,
		"sampan": false, "/home/a b/sampan": false, "/x/$y": false, "/x/%h": false, "/x\ny": false, "/ä": false,
	} {
		if err := (Unit{Program: program}).Check(); (err == nil) != want {
			t.Errorf("%q: %v", program, err)
		}
	}
}
