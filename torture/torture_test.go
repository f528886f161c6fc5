package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sampan-batch/sampan/torture/report"
	"github.com/sampan-batch/sampan/torture/round"
)

// short is how long each round goes on here. An hour of it finds more.
const short = 15 * time.Second

// TestTorture makes every round once, short and small, with a new seed each time.
func TestTorture(t *testing.T) {
	if testing.Short() {
		t.Skip("all rounds take some minutes")
	}
	args := [][]string{{"-rounds", "kill,start,stopcont,damage,disk,overload,history"}, {"-rounds", "kill", "-class", "sandbox"}}
	if os.Geteuid() == 0 {
		args = append(args, []string{"-rounds", "kill", "-class", "sandbox", "-user", "nobody"}, []string{"-rounds", "disk", "-user", "nobody"})
	}
	for _, args := range args {
		t.Run(strings.Join(args, " "), func(t *testing.T) {
			o, err := parse(append(args, "-scale", "3"))
			if err != nil {
				t.Fatal(err)
			}
			o.time = short * time.Duration(len(o.rounds))
			r := report.New(t.Output())
			kept, err := run(t.Context(), o, r)
			r.Print(t.Output(), o.seed)
			if err != nil {
				t.Error(err)
			}
			for _, f := range r.Findings() {
				t.Errorf("%s after %s: %s (the evidence is in %s)", f.Round, f.At, f.Text, kept)
			}
			if r.Counted(report.Writes) == 0 {
				t.Error("nothing was written")
			}
			if hasGroups(o) && r.Counted(round.OwnGroups) == 0 {
				t.Error("no control group was seen of any pod: that none is left proves nothing")
			}
		})
	}
}

// hasGroups tells whether pods of these options have control groups on this machine.
func hasGroups(o *options) bool {
	made, _ := filepath.Glob("/sys/fs/cgroup/*/sampan")
	return os.Geteuid() == 0 && o.users[0].UID == 0 && len(made) > 0
}

// TestParse holds what the command line refuses.
func TestParse(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ args, want string }{
		{"-rounds kill,dance", `no round "dance"`},
		{"-class vm", `no class "vm"`},
		{"-user nobody-of-that-name", "unknown user"},
		{"kill", `unexpected argument "kill"`},
	} {
		if _, err := parse(strings.Fields(c.args)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %s", c.args, err, c.want)
		}
	}
	o, err := parse([]string{"-minutes", "0.5", "-seed", "42", "-class", "host,sandbox"})
	if err != nil || o.time != 30*time.Second || o.seed != 42 || len(o.rounds) != 7 || len(o.classes) != 2 {
		t.Errorf("%+v %v", o, err)
	}
}

// TestNotInTheProduct sees to it that what only a torture needs is not in the binary
// that users get.
func TestNotInTheProduct(t *testing.T) {
	t.Parallel()
	out, err := exec.Command("go", "list", "-deps", "../cmd/sampan").Output()
	if err != nil {
		t.Fatal(err)
	}
	list := strings.Fields(string(out))
	for _, pkg := range list {
		if strings.Contains(pkg, "porcupine") || strings.Contains(pkg, "sampan/torture") {
			t.Errorf("cmd/sampan is linked with %s", pkg)
		}
	}
	if !slices.Contains(list, "go.etcd.io/bbolt") {
		t.Error("cmd/sampan is said to be linked without bbolt: the list is wrong")
	}
}
