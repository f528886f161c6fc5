package cli

import (
	"bytes"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/types"

	"github.com/sampan-batch/sampan/internal/report"
)

// staged is a stage whose output is a text.
type staged struct {
	*stage
	out bytes.Buffer
}

func newStaged(workflowRuns, onlyFailed bool) *staged {
	s := &staged{}
	c := &console{lines: &s.out, notes: &s.out}
	if workflowRuns {
		c.workflow = &workflow{out: &s.out}
	}
	s.stage = newStage(c, onlyFailed)
	return s
}

func (s *staged) log(name string) *act {
	return s.begin(name, &life{logKey: logKey{types.UID(name), "c"}})
}

func idOf(name string) logID { return logID{logKey{types.UID(name), "c"}, 0} }

// text is the output; tokens are called T, so long as the one that ends is the one that began.
func (s *staged) text(t *testing.T) string {
	t.Helper()
	text := s.out.String()
	for {
		m := regexp.MustCompile(`(?s)::stop-commands::([A-Z0-9]{20,})\n(.*?)::([A-Z0-9]{20,})::\n`).FindStringSubmatchIndex(text)
		if m == nil {
			break
		}
		began, ended := text[m[2]:m[3]], text[m[6]:m[7]]
		if began != ended {
			t.Fatalf("%s ends what %s began:\n%s", ended, began, text)
		}
		text = text[:m[0]] + "[" + text[m[4]:m[5]] + "]" + text[m[1]:]
	}
	return regexp.MustCompile(`::stop-commands::[A-Z0-9]{20,}\n`).ReplaceAllString(text, "[")
}

// In a workflow logs are groups, one after the other. The only one that is written is
// shown as it comes.
func TestGroups(t *testing.T) {
	t.Parallel()
	s := newStaged(true, false)
	a := s.log("a")
	a.line("a1")
	if got, want := s.text(t), "::group::pod a\n[a1\n"; got != want {
		t.Errorf("the only log: %q, want %q", got, want)
	}
	b := s.log("b")
	b.line("b1")
	a.line("a2")
	b.line("b2")
	s.console.Note("a note ::error::")
	b.end()
	a.line("a3")
	c := s.log("c")
	c.line("c1")
	d := s.log("d")
	d.line("d1")
	a.end()
	d.end()
	c.line("c2")
	s.judge(idOf("c"), true)
	c.end()
	s.log("silent").end()
	s.console.Failure("job/x Failed", "pod x\n  ::set-env name=x::y\n")
	s.console.Close()
	want := `::group::pod a
[a1
a2
a note ::error::
]::endgroup::
::group::pod b
[b1
b2
]::endgroup::
::group::pod a (continued)
[a3
]::endgroup::
::group::pod d
[d1
]::endgroup::
::group::pod c
[c1
c2
]::endgroup::
::error title=job/x Failed::pod x%0A  ::set-env name=x::y
`
	if got := s.text(t); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if len(s.acts) > 0 {
		t.Errorf("%d are left", len(s.acts))
	}
}

// Only logs of what failed are shown, once that is known.
func TestOnlyFailed(t *testing.T) {
	t.Parallel()
	for _, inWorkflow := range []bool{false, true} {
		s := newStaged(inWorkflow, true)
		for i, name := range []string{"good", "bad", "early"} {
			if i == 2 {
				s.judge(idOf(name), true)
			}
			a := s.log(name)
			a.line(name + " 1")
			a.line(name + " 2")
			if s.out.Len() > 0 {
				t.Errorf("%s is shown before its end: %q", name, s.out.String())
			}
			if i < 2 {
				a.end()
				if s.out.Len() > 0 {
					t.Errorf("%s is shown before it was judged: %q", name, s.out.String())
				}
				s.judge(idOf(name), name == "bad")
			} else {
				a.end()
			}
			want := ""
			if name != "good" {
				want = fmt.Sprintf("%[1]s | %[1]s 1\n%[1]s | %[1]s 2\n", name)
				if inWorkflow {
					want = fmt.Sprintf("::group::pod %[1]s\n[%[1]s 1\n%[1]s 2\n]::endgroup::\n", name)
				}
			}
			if got := s.text(t); got != want {
				t.Errorf("got %q, want %q", got, want)
			}
			s.out.Reset()
		}
	}
}

// Nobody waits for the end of a pod that has none, nor does it keep others off the stage.
func TestEndlessLogs(t *testing.T) {
	t.Parallel()
	s := newStaged(true, false)
	helper := s.begin("helper", &life{logKey: logKey{"helper", "c"}, endless: true})
	helper.line("h1")
	a := s.log("a")
	a.line("a1")
	helper.line("h2")
	a.end()
	helper.end()
	s.console.Close()
	if got, want := s.text(t), "::group::pod a\n[a1\n]::endgroup::\n::group::pod helper\n[h1\nh2\n]::endgroup::\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// What pods write is never a command: whatever looks like one stands where none is obeyed.
func FuzzWorkflow(f *testing.F) {
	for _, s := range []string{"::error::x", "  ::set-env name=PATH::x", "##[error]x", "\r::endgroup::", "::stop-commands::", "%0A::x::"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s := newStaged(true, false)
		text = strings.ReplaceAll(text, "\n", " ") // a line has none
		a := s.log("pod" + text)
		a.line(text)
		s.console.Note("%s", text)
		s.console.Print(plain(text) + "\n" + "    " + plain(text) + "\n")
		a.line(text)
		a.end()
		s.console.Failure(text, text+"\n"+text+".")
		s.console.Close()
		want := []string{
			report.Command("group", "", "pod pod"+text), report.Command("endgroup", "", ""), report.Command("error", text, text+"\n"+text+"."),
		}
		for i := range want {
			want[i] = strings.TrimSpace(want[i])
		}
		if got := obeyed(s.out.String()); !slices.Equal(got, want) {
			t.Errorf("the runner obeys %q, want %q", got, want)
		}
	})
}

// obeyed returns the commands that a runner obeys, by its own rules: its reader takes a \r
// for the end of a line, too, and commands of the old kind may stand anywhere.
func obeyed(text string) (commands []string) {
	token := ""
	for _, line := range strings.FieldsFunc(text, func(r rune) bool { return r == '\r' || r == '\n' }) {
		command := strings.TrimSpace(line)
		switch stop, stops := strings.CutPrefix(command, "::stop-commands::"); {
		case token != "" && command == "::"+token+"::":
			token = ""
		case token != "":
		case stops:
			token = stop
		case strings.HasPrefix(command, "::"), strings.Contains(line, "##["):
			commands = append(commands, command)
		}
	}
	return commands
}

// What is held back is the same when it comes out, however much it was.
func TestSpool(t *testing.T) {
	t.Parallel()
	for _, n := range []int{0, 1, 10, 1000, 100000} {
		var s spool
		for i := range n {
			fmt.Fprintf(&s, "line %d\n", i)
		}
		fmt.Fprint(&s, "and no end")
		i := 0
		err := s.lines(func(line string) {
			want := fmt.Sprint("line ", i)
			if i == n {
				want = "and no end"
			}
			if line != want {
				t.Fatalf("got %q, want %q", line, want)
			}
			i++
		})
		if err != nil || i != n+1 || s.file != nil || s.mem != nil {
			t.Errorf("%d lines: %d came out, %v", n, i, err)
		}
	}
}

// Of very much the end is kept, and what is left out is counted.
func TestSpoolOfVeryMuch(t *testing.T) {
	t.Parallel()
	var s spool
	line := strings.Repeat("x", 999) + "\n"
	const n = 100000 // 100 MB
	for range n {
		_, _ = s.Write([]byte(line))
	}
	kept, lost := 0, int64(0)
	err := s.lines(func(l string) {
		switch {
		case l == line[:999]:
			kept++
		case kept > 0:
			t.Fatalf("got %q", l)
		default:
			if _, err := fmt.Sscanf(l, "… %d bytes of this log are left out", &lost); err != nil {
				t.Fatal(err)
			}
		}
	})
	if err != nil || int64(kept)*1000+lost != n*1000 || kept < 32000 || kept > 68000 {
		t.Errorf("%d lines are kept, %d bytes lost, %v", kept, lost, err)
	}
}

// Where no file can be made what does not fit into memory is lost, and that is said.
func TestSpoolWithoutDisk(t *testing.T) {
	t.Setenv("TMPDIR", "/nonexistent")
	var s spool
	_, _ = s.Write(make([]byte, 2*spoolMemory))
	_, _ = s.Write([]byte("the end\n"))
	var got []string
	if err := s.lines(func(line string) { got = append(got, line) }); err != nil {
		t.Fatal(err)
	}
	if want := fmt.Sprintf("… %d bytes of this log are left out,the end", 2*spoolMemory); strings.Join(got, ",") != want {
		t.Errorf("got %q", got)
	}
}
