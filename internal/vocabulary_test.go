package internal_test

import (
	"go/ast"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/sampan-batch/sampan/internal/kind"
	"github.com/sampan-batch/sampan/internal/reason"
)

// What we say has one home for each kind of word: event reasons in package reason,
// annotations in kind/annotation.go, the keys of the log here.

// logKeys are the keys of log lines. Whoever searches a log for one finds all that is
// said about it.
var logKeys = map[string]string{
	"err":        "what went wrong",
	"why":        "why it is so, where nothing went wrong",
	"ns":         "the namespace of an object",
	"name":       "its name",
	"uid":        "its uid",
	"key":        "resource, namespace and name of an object",
	"node":       "the name of a node",
	"controller": "the name of a controller",
	"container":  "the ID of a container: pod, name and attempt",
	"image":      "the reference of an image",
	"class":      "a runtime class, which is a supervisor's, too",
	"pid":        "a process",
	"signal":     "a signal's name",
	"path":       "a file or directory, or where in the API",
	"verb":       "the method of a request",
	"stack":      "who called whom when it happened",
	"mode":       "its permissions",
	"found":      "what was found in it",
	"count":      "how many of what the message speaks of",
	"timeout":    "how long something was waited for",
	"grace":      "how long something is given to end",
	"state":      "what a service manager is told",
	"writes":     "what a decision has changed",
	"wake":       "when a key is decided again",
}

// TestVocabulary holds all that is written in the sources to the homes of our words.
func TestVocabulary(t *testing.T) {
	t.Parallel()
	used := map[string]bool{}
	logged := map[string]bool{}
	eachFile(t, func(name string) error {
		if !strings.HasPrefix(name, "internal/") || strings.HasSuffix(name, "_test.go") || strings.HasPrefix(filepath.Base(name), "zz_generated") {
			return nil
		}
		file, at, err := parse(name)
		if file == nil {
			return err
		}
		ast.Inspect(file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.SelectorExpr:
				if id, ok := n.X.(*ast.Ident); ok && id.Name == "reason" {
					used[n.Sel.Name] = true
				}
			case *ast.CallExpr:
				if word := reasonOf(n); word != "" {
					t.Errorf("%s: the reason %q has a home in package reason", at(n), word)
				}
				for _, key := range keysOf(n) {
					logged[key] = true
					if logKeys[key] == "" {
						t.Errorf("%s: %q is no key of the log: take one of logKeys, or say there what it means", at(n), key)
					}
				}
			case *ast.CompositeLit:
				if word := reasonIn(n); word != "" {
					t.Errorf("%s: the reason %q has a home in package reason", at(n), word)
				}
			case *ast.BasicLit:
				if word := literal(n); name != "internal/kind/annotation.go" && strings.HasPrefix(word, "sampan.dev/") {
					t.Errorf("%s: %q has a home in kind/annotation.go", at(n), word)
				}
			}
			return true
		})
		return nil
	})
	for _, word := range constants(t, "internal/reason/reason.go") {
		if !used[word] {
			t.Errorf("nobody writes or reads the reason %s: take it out of package reason", word)
		}
	}
	for key := range logKeys {
		if !logged[key] {
			t.Errorf("nobody logs the key %q: take it out of logKeys", key)
		}
	}
}

// capital is how a reason is written.
var capital = regexp.MustCompile(`^[A-Z][A-Za-z]+$`)

// reasonOf returns the reason that is a literal in a call that makes a note, or "".
func reasonOf(call *ast.CallExpr) string {
	if !slices.Contains([]string{"normal", "warning", "note", "record", "latest"}, strings.ToLower(calledName(call))) {
		return ""
	}
	for _, arg := range call.Args {
		if word := literal(arg); capital.MatchString(word) {
			return word
		}
	}
	return ""
}

// reasonIn returns the reason that is a literal in a note, or in what becomes one, or "".
func reasonIn(lit *ast.CompositeLit) string {
	switch kind := lit.Type.(type) {
	case *ast.SelectorExpr:
		if kind.Sel.Name != "Note" {
			return ""
		}
	case *ast.Ident:
		if kind.Name != "refusal" && kind.Name != "note" {
			return ""
		}
	default:
		return ""
	}
	for _, field := range lit.Elts {
		if pair, ok := field.(*ast.KeyValueExpr); ok {
			if key, ok := pair.Key.(*ast.Ident); !ok || !strings.EqualFold(key.Name, "reason") {
				continue
			}
			field = pair.Value
		}
		if word := literal(field); capital.MatchString(word) {
			return word
		}
	}
	return ""
}

// keysOf returns the keys of a call that logs, or prepares a logger.
func keysOf(call *ast.CallExpr) []string {
	args := call.Args
	if f, ok := call.Fun.(*ast.SelectorExpr); ok {
		if id, ok := f.X.(*ast.Ident); ok && id.Name == "http" {
			return nil // http.Error
		}
	}
	switch name := calledName(call); {
	case name == "With":
	case slices.Contains([]string{"Debug", "Info", "Warn", "Error"}, name) && len(args) > 0:
		args = args[1:]
	case name == "Log" && len(args) > 2:
		args = args[3:]
	default:
		return nil
	}
	var keys []string
	for i := 0; i+1 < len(args); i += 2 {
		if key := literal(args[i]); key != "" {
			keys = append(keys, key)
		}
	}
	return keys
}

func calledName(call *ast.CallExpr) string {
	switch f := call.Fun.(type) {
	case *ast.SelectorExpr:
		return f.Sel.Name
	case *ast.Ident:
		return f.Name
	}
	return ""
}

// literal is the string that an expression is, or "".
func literal(n ast.Expr) string {
	lit, ok := n.(*ast.BasicLit)
	if !ok || lit.Kind != token.STRING {
		return ""
	}
	text, err := strconv.Unquote(lit.Value)
	if err != nil {
		return ""
	}
	return text
}

// constants are the names of a file's, each of which is what it says.
func constants(t *testing.T, name string) []string {
	t.Helper()
	file, at, err := parse(name)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if ok && len(spec.Values) == 1 {
			if is := literal(spec.Values[0]); is != spec.Names[0].Name {
				t.Errorf("%s: %s is %q", at(spec), spec.Names[0].Name, is)
			}
			all = append(all, spec.Names[0].Name)
		}
		return true
	})
	return all
}

// TestDifferencesListOurWords: docs/differences.md tells users of every reason and every
// annotation that is ours, and of no other.
func TestDifferencesListOurWords(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../docs/differences.md")
	if err != nil {
		t.Fatal(err)
	}
	for about, of := range map[string]string{"Jobs": "Job", "CronJobs": "CronJob", "pods": "Pod"} {
		row := regexp.MustCompile(`(?m)^\| ` + about + ` \| .*$`).FindString(string(text))
		var listed []string
		for _, word := range regexp.MustCompile("`([A-Z][A-Za-z]+)`").FindAllStringSubmatch(row, -1) {
			listed = append(listed, word[1])
		}
		for _, own := range reason.Ours() {
			if own.Kind == of && !slices.Contains(listed, own.Reason) {
				t.Errorf("docs/differences.md does not list the reason %s of %s", own.Reason, about)
			}
		}
		for _, word := range listed {
			if !reason.IsOurs(of, word) {
				t.Errorf("docs/differences.md lists the reason %s of %s, which is not ours", word, about)
			}
		}
	}
	ours := []string{kind.CronJobSchedule, kind.CronJobExplained, kind.Backoff, kind.JobRerunOf, kind.JobCarriedIndexes}
	for _, name := range ours {
		if !strings.Contains(string(text), "`"+name+"`") {
			t.Errorf("docs/differences.md does not list the annotation %s", name)
		}
	}
	file, at, err := parse("internal/kind/annotation.go")
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(file, func(n ast.Node) bool {
		if lit, ok := n.(*ast.BasicLit); ok && strings.HasPrefix(literal(lit), "sampan.dev/") && !slices.Contains(ours, literal(lit)) {
			t.Errorf("%s: %s is not looked for in docs/differences.md", at(lit), literal(lit))
		}
		return true
	})
	for _, word := range regexp.MustCompile("`(sampan\\.dev/[a-z-]+)`").FindAllStringSubmatch(string(text), -1) {
		if !slices.Contains(ours, word[1]) {
			t.Errorf("docs/differences.md lists %s, which is no annotation of ours", word[1])
		}
	}
}

// TestContributingNamesWhatIsThere: the files that CONTRIBUTING.md sends people to exist.
func TestContributingNamesWhatIsThere(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../CONTRIBUTING.md")
	if err != nil {
		t.Fatal(err)
	}
	named := regexp.MustCompile("(?:`|\\]\\()((?:internal|docs|testdata|scripts|conformance)/[a-z0-9/._-]+|[A-Z]+\\.md)(?:`|\\))").FindAllStringSubmatch(string(text), -1)
	if len(named) < 10 {
		t.Fatalf("it names %q: the test does not see them", named)
	}
	for _, name := range named {
		if _, err := os.Stat(filepath.Join("..", name[1])); err != nil {
			t.Error(err)
		}
	}
}
