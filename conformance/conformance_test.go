package conformance

import (
	"cmp"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/txtar"
)

var recordFrom = flag.String("record", "",
	"kubeconfig of a Kubernetes cluster: write what it answers into testdata, instead of comparing the engine's answers")

func TestMain(m *testing.M) {
	flag.Parse()
	// Sessions wait more than they work: as many at a time as there are cores is
	// too few. Kubernetes' controllers are slower than the engine, and must not be
	// caught half way.
	flag.Set("test.parallel", "32")
	if *recordFrom != "" {
		flag.Set("test.parallel", "8")
	}
	os.Exit(m.Run())
}

// TestConformance goes through every session.
func TestConformance(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob(filepath.Join("testdata", "*.txtar"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no sessions: %v", err)
	}
	archives := make(map[string]*txtar.Archive)
	for _, file := range files {
		if archives[file], err = txtar.ParseFile(file); err != nil {
			t.Fatal(err)
		}
	}
	// Those that wait longest begin first: the others fit in meanwhile.
	slices.SortStableFunc(files, func(a, b string) int { return cmp.Compare(waits(archives[b]), waits(archives[a])) })
	all := startClusters(t)
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			t.Parallel()
			archive := archives[file]
			s := newSession(t, all.of(archive), archive)
			answered := s.run(t, string(archive.Comment))
			if *recordFrom == "" {
				return
			}
			if answered, err = s.signed(answered); err != nil {
				t.Fatal(err)
			}
			archive.Comment = []byte(answered)
			if err := os.WriteFile(file, txtar.Format(archive), 0o644); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// waits is for how long a session waits for Kubernetes, by its own words.
func waits(archive *txtar.Archive) (sum time.Duration) {
	for line := range strings.Lines(string(archive.Comment)) {
		command, argument, _ := strings.Cut(strings.TrimSuffix(strings.TrimPrefix(line, "$ "), "\n"), " ")
		d, err := time.ParseDuration(argument)
		switch {
		case command == "minute":
			sum += time.Minute
		case err == nil && (command == "after" || command == "still"):
			sum += d
		}
	}
	return sum
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
		var marks []string
		for i+1 < len(lines) && strings.HasPrefix(lines[i+1], "! ") {
			i++
			marks = append(marks, lines[i][2:])
		}
		got := s.answer(t, command, func(got string) bool { return unexplained(want, got, marks) == "" })
		if *recordFrom == "" {
			if why := unexplained(want, got, marks); why != "" {
				t.Fatalf("line %d: %s\n%s", at, command, why)
			}
		}
		for _, l := range strings.Split(strings.TrimSuffix(got, "\n"), "\n") {
			if got != "" {
				fmt.Fprintf(&answered, "  %s\n", l)
			}
		}
		for _, mark := range marks {
			fmt.Fprintf(&answered, "! %s\n", mark)
		}
	}
	return answered.String()
}

// answer carries out one command. One that only reads is repeated until it
// answers what is wanted, or nothing has moved for a while; it counts only once
// nothing moves any more, so that what was wanted is not merely passed through.
func (s *session) answer(t *testing.T, command string, wanted func(string) bool) string {
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
	for began := time.Now(); ; {
		if do.reads {
			s.settle(t)
		}
		got, err := do.run(args[1:])
		if err != nil {
			t.Fatalf("%s: %v", command, err)
		}
		if !do.reads || *recordFrom != "" || wanted(got) || s.waited(began) {
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
