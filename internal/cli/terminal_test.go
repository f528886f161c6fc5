package cli

import (
	"bytes"
	"encoding/json"
	"io"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"sigs.k8s.io/yaml"

	"github.com/sampan-batch/sampan/internal/explain"
)

func TestPlain(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"":                              "",
		"a name":                        "a name",
		"Grüße, 日本語 👩‍💻":                "Grüße, 日本語 👩‍💻",
		"a\x1b[31mb\x1b[0m":             `a\x1b[31mb\x1b[0m`,
		"a\nb\tc\rd\x00\a\b\x7f":        `a\nb\tc\rd\x00\x07\x08\x7f`,
		"\x1b]0;title\a":                `\x1b]0;title\x07`,
		"csi as a byte \x9b31m":         `csi as a byte \x9b31m`,
		"csi in UTF-8 \u009b31m":        `csi in UTF-8 \u009b31m`,
		"user\u202egnp.exe\u2066\u200f": `user\u202egnp.exe\u2066\u200f`,
		"a\u2028b":                      `a\u2028b`,
		"\xff\xc3":                      `\xff\xc3`,
		"\ufffd":                        "\ufffd",
	} {
		if got := plain(text); got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
	if got := plainLines("a\nb\x1b[2J\n"); got != "a\nb\\x1b[2J\n" {
		t.Errorf("got %q", got)
	}
}

func TestLogLine(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]string{
		"plain\ttext":                     "plain\ttext",
		"\x1b[1;31mred\x1b[0m":            "\x1b[1;31mred\x1b[0m\x1b[0m",
		"\x1b[38:5:196mred":               "\x1b[38:5:196mred\x1b[0m",
		"\x1b[mx":                         "\x1b[mx\x1b[0m",
		"10 %\r20 %\r30 %":                "30 %",
		"dos\r":                           "dos",
		"pod-a | fake\rpod-b | fake":      "pod-b | fake",
		"\x1b[2J\x1b[Hcleared":            "cleared",
		"\x1b[?1049hother screen":         "other screen",
		"\x1b[>4;2mkeyboard":              "keyboard",
		"\x1b[0 qcursor":                  "cursor",
		"\x1b]0;title\atext":              "text",
		"\x1b]52;c;cm0gLXJm\x1b\\text":    "text",
		"\x1b]8;;http://x\x1b\\l\x1b]8;;": `l\x1b]8;;`,
		"\x1bP1$r\x1b\\dcs":               `\x1bP1$r\x1b\dcs`,
		"\x1bcreset":                      `\x1bcreset`,
		"\x1b[31":                         `\x1b[31`,
		"\x1b[31\x1b[32mx":                `\x1b[31` + "\x1b[32mx\x1b[0m",
		"\x1b":                            `\x1b`,
		"\x9b2J\u009b2J":                  `\x9b2J\u009b2J`,
		"a\bb\x07\x0e\u202e":              `a\x08b\x07\x0e\u202e`,
		"\x1b[" + strings.Repeat("1;", 50) + "1mlong": "long",
	} {
		if got := logLine(line, true); got != want {
			t.Errorf("%q: got %q, want %q", line, got, want)
		}
	}
	if got := logLine("\x1b[31mred\x1b[0m", false); got != "red" {
		t.Errorf("without colours: %q", got)
	}
}

var color = regexp.MustCompile(`\x1b\[[0-9;:]*m`)

// erasing is how a console goes back to where its block begins.
var erasing = regexp.MustCompile(`\r(\x1b\[[0-9]+A)?\x1b\[J`)

// driven returns what of text a terminal would obey.
func driven(text string) string {
	for i, r := range text {
		if r == utf8.RuneError && text[i] != "\ufffd"[0] || controls(r) && r != '\t' {
			return text[i:]
		}
	}
	return ""
}

// FuzzTerminal: whatever comes in, nothing that a terminal obeys comes out, but
// tabs and colours that end with the line.
func FuzzTerminal(f *testing.F) {
	for _, s := range []string{"a", "\x1b[31mx\x1b[0m", "\x1b\x1b[[31mm", "\x1b]0;\x1b[31m\a", "\x9b\u009b\u202e\xff", "\r\n\t", "\x1b[3\r1m"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if got := plain(s); driven(got) != "" || strings.ContainsRune(got, '\t') {
			t.Errorf("plain(%q) is %q", s, got)
		}
		if got := driven(strings.NewReplacer("\n", "", "\t", "").Replace(plainLines(s))); got != "" {
			t.Errorf("plainLines(%q) has %q", s, got)
		}
		if got := logLine(s, false); driven(got) != "" {
			t.Errorf("logLine(%q, false) is %q", s, got)
		}
		got := logLine(s, true)
		if driven(color.ReplaceAllString(got, "")) != "" {
			t.Errorf("logLine(%q, true) is %q", s, got)
		}
		if color.MatchString(got) && !strings.HasSuffix(got, resetColor) {
			t.Errorf("logLine(%q, true) leaves a colour: %q", s, got)
		}
		if again := plain(plain(s)); again != plain(s) {
			t.Errorf("plain twice: %q, %q", again, plain(s))
		}
	})
}

// attack does everything to a terminal.
const attack = "\x1b]0;owned\a\x1b[2J\x1b[31m\u009b2J\x9b2J\u202e\r\x1bP\x1b\\\x00!"

// A console on a terminal shows what a container wrote, harmlessly; elsewhere it
// passes on what the container wrote.
func TestConsoleShowsStrangers(t *testing.T) {
	t.Parallel()
	var lines, notes bytes.Buffer
	c := &console{lines: &lines, notes: &notes, live: true, color: true, terminal: true, size: func() (int, int) { return 200, 50 }}
	c.Log("pod"+attack, "text"+attack)
	c.Note("warning: %s", attack)
	ours := color.ReplaceAllString(lines.String(), "") + erasing.ReplaceAllString(notes.String(), "")
	if got := driven(strings.ReplaceAll(ours, "\n", "")); got != "" || !strings.Contains(ours, "!") {
		t.Errorf("%q: the terminal obeys %q", ours, got)
	}
	notes.Reset()
	c.Status([]string{attack})
	if got := driven(strings.ReplaceAll(erasing.ReplaceAllString(notes.String(), ""), "\n", "")); got != "" {
		t.Errorf("the status has %q", got)
	}
	lines.Reset()
	c = &console{lines: &lines, notes: &notes}
	c.Log("pod", "text"+attack)
	if want := "pod | text" + attack + "\n"; lines.String() != want {
		t.Errorf("into a pipe: %q, want %q", lines.String(), want)
	}
}

// Texts and tables are harmless everywhere, and what scripts read means the same.
func TestOutputOfStrangers(t *testing.T) {
	t.Parallel()
	answer := explain.Answer{Kind: "Pod", Namespace: attack, Name: attack, Summary: attack, Why: []string{attack}, SoFar: []string{attack, "a\nb"}, Next: []string{attack}}
	var text bytes.Buffer
	if err := (&explainOptions{all: true}).print(&text, []explain.Answer{answer}, false); err != nil {
		t.Fatal(err)
	}
	out := text.String() + table([][]string{{attack, "a\tb\nc"}, {"x", attack}})
	if got := driven(strings.ReplaceAll(out, "\n", "")); got != "" || strings.Contains(out, "\t") || strings.Count(out, "\n") != 7 {
		t.Errorf("%q obeys %q", out, got)
	}
	for _, format := range []outputFormat{"json", "yaml"} {
		var buf bytes.Buffer
		if err := format.print(&buf, answer); err != nil {
			t.Fatal(err)
		}
		if got := driven(strings.ReplaceAll(buf.String(), "\n", "")); got != "" {
			t.Errorf("%s: %q", format, got)
		}
		asJSON := buf.Bytes()
		if format == "yaml" {
			var err error
			if asJSON, err = yaml.YAMLToJSON(asJSON); err != nil {
				t.Fatal(err)
			}
		}
		var back explain.Answer
		want := strings.ToValidUTF8(attack, "\ufffd") // as JSON has it
		if err := json.Unmarshal(asJSON, &back); err != nil || back.Summary != want || back.Why[0] != want {
			t.Errorf("%s: %v, %q", format, err, back.Summary)
		}
	}
}

// The engine's own log quotes what others say.
func TestLogOfStrangers(t *testing.T) {
	t.Parallel()
	for _, format := range []string{"text", "json"} {
		var buf bytes.Buffer
		log, err := (&logOptions{level: "info", format: format}).logger(&buf)
		if err != nil {
			t.Fatal(err)
		}
		log.Info("a message of "+attack, "name", attack, attack, 1, "err", &exitError{1, errInterrupted})
		if got := driven(strings.TrimSuffix(buf.String(), "\n")); got != "" {
			t.Errorf("%s: %q", format, got)
		}
	}
	for _, o := range []logOptions{{level: "loud", format: "text"}, {level: "info", format: "xml"}} {
		if _, err := o.logger(io.Discard); err == nil {
			t.Errorf("%+v", o)
		}
	}
}
