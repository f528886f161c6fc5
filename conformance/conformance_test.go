package conformance

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/txtar"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

var recordFrom = flag.String("record", "",
	"kubeconfig of a Kubernetes cluster: write what it answers into testdata, instead of comparing the engine's answers")

func TestMain(m *testing.M) {
	flag.Parse()
	// Sessions wait more than they work: as many at a time as there are cores is
	// too few.
	flag.Set("test.parallel", "16")
	os.Exit(m.Run())
}

// TestConformance goes through every session.
func TestConformance(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob(filepath.Join("testdata", "*.txtar"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no sessions: %v", err)
	}
	config := cluster(t)
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			t.Parallel()
			archive, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			s := newSession(t, config, archive.Files)
			answered := s.run(t, string(archive.Comment))
			if *recordFrom == "" {
				return
			}
			archive.Comment = []byte(answered)
			if err := os.WriteFile(file, txtar.Format(archive), 0o644); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// cluster is the cluster that is recorded, or else a fresh engine.
func cluster(t *testing.T) *rest.Config {
	t.Helper()
	kubeconfig := *recordFrom
	if kubeconfig == "" {
		kubeconfig = startEngine(t)
	}
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	config.QPS = -1
	config.UserAgent = "conformance" // which the API takes for the name of the field manager
	return config
}

// startEngine runs `sampan serve` until the test ends; it returns its
// kubeconfig.
func startEngine(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	sampan, data := filepath.Join(dir, "sampan"), filepath.Join(dir, "data")
	build := exec.Command("go", "build", "-o", sampan, "../cmd/sampan")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, text)
	}
	var log bytes.Buffer
	cmd := exec.Command(sampan, "serve", "--data-dir", data, "--listen", "127.0.0.1:0", "--runtime", "host")
	cmd.Stderr = &log
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if out, err := exec.Command(sampan, "stop", "--data-dir", data, "--grace-period", "2s").CombinedOutput(); err != nil {
			t.Errorf("sampan stop: %v\n%s", err, out)
		}
		cmd.Wait()
	})
	line := make([]byte, 4096)
	if n, err := out.Read(line); err != nil || !strings.HasPrefix(string(line[:n]), "sampan is ready: ") {
		t.Fatalf("serve did not become ready: %q, %v\n%s", line[:n], err, log.String())
	}
	return filepath.Join(data, "kubeconfig")
}

// run goes through a session. It compares the answers with those in text, or,
// when recording, returns the text with the answers of now.
func (s *session) run(t *testing.T, text string) string {
	var answered strings.Builder
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	for _, line := range lines {
		if !strings.HasPrefix(line, "  ") {
			s.mention(line)
		}
	}
	for i := 0; i < len(lines); i++ {
		line := lines[i]
		fmt.Fprintln(&answered, line)
		command, is := strings.CutPrefix(line, "$ ")
		if !is {
			continue
		}
		at, want := i+1, ""
		for i+1 < len(lines) && strings.HasPrefix(lines[i+1], "  ") {
			i++
			want += lines[i][2:] + "\n"
		}
		got := s.answer(t, command, want)
		if *recordFrom == "" && got != want {
			t.Fatalf("line %d: %s\n%s", at, command, difference(want, got))
		}
		for _, l := range strings.Split(strings.TrimSuffix(got, "\n"), "\n") {
			if got != "" {
				fmt.Fprintf(&answered, "  %s\n", l)
			}
		}
	}
	return answered.String()
}

// answer carries out one command. One that only reads is repeated until it
// answers what is wanted, or a while has passed; it counts only once nothing
// moves any more, so that what was wanted is not merely passed through.
func (s *session) answer(t *testing.T, command, want string) string {
	spelt, err := s.spell(command)
	if err != nil {
		t.Fatalf("%s: %v", command, err)
	}
	args, err := fields(spelt)
	if err != nil {
		t.Fatalf("%s: %v", command, err)
	}
	do, known := s.commands()[args[0]]
	if !known {
		t.Fatalf("%s: no such command", command)
	}
	deadline := time.Now().Add(s.patience)
	for {
		if do.reads {
			s.settle(t, deadline)
		}
		got, err := do.run(args[1:])
		if err != nil {
			t.Fatalf("%s: %v", command, err)
		}
		if !do.reads || *recordFrom != "" || got == want || time.Now().After(deadline) {
			return got
		}
	}
}

// fields splits a command at blanks; '…' keeps them together.
func fields(command string) ([]string, error) {
	var all []string
	var word strings.Builder
	quoted, open := false, false
	for _, r := range command + " " {
		switch {
		case r == '\'':
			quoted, open = !quoted, true
		case r == ' ' && !quoted:
			if open || word.Len() > 0 {
				all = append(all, word.String())
			}
			word.Reset()
			open = false
		default:
			word.WriteRune(r)
		}
	}
	if quoted || len(all) == 0 {
		return nil, fmt.Errorf("not a command")
	}
	return all, nil
}

// difference shows the lines of two texts that are not the same.
func difference(want, got string) string {
	w, g := strings.Split(want, "\n"), strings.Split(got, "\n")
	// The longest common subsequence, from the back.
	length := make([][]int, len(w)+1)
	for i := range length {
		length[i] = make([]int, len(g)+1)
	}
	for i := len(w) - 1; i >= 0; i-- {
		for j := len(g) - 1; j >= 0; j-- {
			if length[i][j] = max(length[i+1][j], length[i][j+1]); w[i] == g[j] {
				length[i][j] = length[i+1][j+1] + 1
			}
		}
	}
	var out strings.Builder
	i, j := 0, 0
	for i < len(w) || j < len(g) {
		switch {
		case i < len(w) && j < len(g) && w[i] == g[j]:
			fmt.Fprintf(&out, "    %s\n", w[i])
			i, j = i+1, j+1
		case j == len(g) || i < len(w) && length[i+1][j] >= length[i][j+1]:
			fmt.Fprintf(&out, "  - %s\n", w[i])
			i++
		default:
			fmt.Fprintf(&out, "  + %s\n", g[j])
			j++
		}
	}
	return "- Kubernetes, + this engine:\n" + out.String()
}
