package main_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// pageImages are those that the registries of a page's reader have, pageFiles those of which
// he has made archives.
var pageImages, pageFiles = map[string][]string{
	"jobs": {"kuard"}, "controllers": {"busybox", "perl"}, "schedules-and-templates": {"busybox"},
	"work-queues": {"redis", "rabbitmq"}, "cronjob-fleet": {"busybox", "python"},
}, map[string][]string{"work-queues": {"job-wq-1", "job-wq-2"}}

// TestPages does what the pages of docs/users and of the tutorial say, in the order in
// which they say it, and compares what happens with what they print. A fence with a NAME
// behind its language is a file; one "console" has commands behind "$ ", for one shell per
// page, and below each what it prints on either stream: "..." stands for any text, alone
// on a line for any lines. A command may fail only where the page shows what it then says.
func TestPages(t *testing.T) {
	t.Parallel()
	tools := buildTools(t)
	for _, dir := range []string{"users", "tutorial/en"} {
		for _, page := range pagesOf(t, dir) {
			name := strings.TrimSuffix(filepath.Base(page), ".md")
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				sh := newPageShell(t, tools)
				for _, image := range append([]string{"busybox"}, pageFiles[name]...) {
					if err := os.Link(tools.image(t, image), filepath.Join(sh.dir, image+".tar")); err != nil {
						t.Fatal(err)
					}
				}
				for _, image := range pageImages[name] {
					if out, status := sh.do("sampan image load " + tools.image(t, image)); status != "0" {
						t.Fatalf("image %s: %s", image, out)
					}
				}
				follow(t, sh, read(t, page))
			})
		}
	}
}

// The tutorial says the same in each language: files, commands and answers are equal, so
// that what is tried in one holds in all.
func TestTutorialInAllLanguages(t *testing.T) {
	t.Parallel()
	for _, language := range []string{"ko", "zh"} {
		if got, want := len(pagesOf(t, "tutorial/"+language)), len(pagesOf(t, "tutorial/en")); got != want {
			t.Errorf("%s has %d pages, English %d", language, got, want)
		}
		for _, page := range pagesOf(t, "tutorial/en") {
			other := filepath.Join("..", "..", "docs", "tutorial", language, filepath.Base(page))
			if got, want := fences(read(t, other)), fences(read(t, page)); !slices.Equal(got, want) {
				t.Errorf("%s has other files, commands or answers than %s: %q", other, page, difference(got, want))
			}
		}
	}
}

func pagesOf(t *testing.T, dir string) []string {
	t.Helper()
	pages, err := filepath.Glob(filepath.Join("..", "..", "docs", dir, "*.md"))
	if err != nil || len(pages) == 0 {
		t.Fatalf("no pages in %s: %v", dir, err)
	}
	return pages
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// fences are the blocks of a page that are no prose.
func fences(page string) (all []string) {
	for i, part := range strings.Split(page, "```") {
		if i%2 == 1 {
			all = append(all, part)
		}
	}
	return all
}

// difference is the first block of one that is another in the other.
func difference(got, want []string) string {
	for i, block := range got {
		if i >= len(want) || block != want[i] {
			return block
		}
	}
	return "there are too few"
}

// follow does what a page says. A fence of a kind that it does not know is a fault, lest a
// misspelt one is passed over; a Dockerfile is shown to the reader, who has its archive.
func follow(t *testing.T, sh *pageShell, page string) {
	parts := strings.Split(page, "```")
	if len(parts)%2 == 0 || !strings.Contains(page, "```console\n$ ") {
		t.Fatal("a fence of the page is not closed, or it has no commands")
	}
	line := 0
	for i, part := range parts {
		kind, body, _ := strings.Cut(part, "\n")
		begin := line + 2
		line += strings.Count(part, "\n")
		word, name, _ := strings.Cut(kind, " ")
		switch {
		case i%2 == 0: // prose
		case name != "":
			if err := os.WriteFile(filepath.Join(sh.dir, name), []byte(body), 0o600); err != nil {
				t.Fatal(err)
			}
		case word == "console":
			for command := range strings.SplitSeq("\n"+body, "\n$ ") {
				if command == "" {
					continue
				}
				typed, want, _ := strings.Cut(command, "\n")
				got, status := sh.do(typed)
				if !fits(want, got) || status != "0" && strings.Trim(want, ".\n") == "" {
					t.Fatalf("after line %d of the page: $ %s\n--- it says\n%s\n--- but prints, with status %s,\n%s", begin, typed, want, status, got)
				}
			}
		case word != "dockerfile":
			t.Fatalf("line %d of the page: a fence of an unknown kind: %q", begin-1, kind)
		}
	}
}

func TestFits(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		want, got string
		fits      bool
	}{
		{"", "", true},
		{"", "error: no such pod\n", false},
		{"one\n", "one\n", true},
		{"one\n", "one\ntwo\n", false},
		{"one\ntwo\n", "one\n", false},
		{"1.5\n", "1x5\n", false},
		{"a ... c\n", "a b c\n", true},
		{"a ... c\n", "a\nb c\n", false},
		{"a...\n", "ab\nc\n", false},
		{"...\n", "", true},
		{"...\n", "a\nb\n", true},
		{"a\n...\nd\n", "a\nb\nc\nd\n", true},
		{"a\n...\nd\n", "a\nd\n", true},
		{"a\n...\nd\n", "a\nb\n", false},
	} {
		if got := fits(c.want, c.got); got != c.fits {
			t.Errorf("a page that says %q, and %q: fits %v, want %v", c.want, c.got, got, c.fits)
		}
	}
}

// fits reports whether what a page says fits what was printed.
func fits(want, got string) bool {
	var pattern strings.Builder
	for text := range strings.SplitAfterSeq(strings.TrimSpace(want)+"\n", "\n") {
		if text == "...\n" {
			pattern.WriteString(`(?:.*\n)*`)
			continue
		}
		parts := strings.Split(text, "...")
		for i := range parts {
			parts[i] = regexp.QuoteMeta(parts[i])
		}
		pattern.WriteString(strings.Join(parts, ".*"))
	}
	return regexp.MustCompile(`^` + pattern.String() + `\s*$`).MatchString(strings.TrimSpace(got) + "\n")
}

// pageShell is the shell of somebody who reads a page, in a directory and a home of his
// own.
type pageShell struct {
	t     *testing.T
	dir   string
	stdin io.Writer
	out   *bufio.Reader
	kill  func() // with all that it has started
}

func newPageShell(t *testing.T, tools *tools) *pageShell {
	dir := t.TempDir()
	cmd := exec.Command("bash", "--norc")
	cmd.Dir = dir
	cmd.Env = []string{"HOME=" + dir, "XDG_DATA_HOME=" + dir, "PATH=" + tools.bin + ":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = w, w
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	sh := &pageShell{t: t, dir: dir, stdin: stdin, out: bufio.NewReader(r)}
	sh.kill = func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	t.Cleanup(func() {
		stdin.Close()
		sh.kill()
		_ = cmd.Wait()
		r.Close()
	})
	// Pages are followed beside each other, and not with what is this machine's own: an
	// engine that is told no port has any that is free, and a directory of the page's.
	sh.do(fmt.Sprintf(`sampan() {
		local data="--data-dir %[1]s/engine"
		case "$1" in
		serve) shift; command sampan serve --listen 127.0.0.1:0 $data "$@" ;;
		stop|backup) local does="$1"; shift; command sampan "$does" $data "$@" ;;
		image) local what="$2"; shift 2; command sampan image "$what" $data "$@" ;;
		run) shift; command sampan run --image-dir %[1]s/engine/images "$@" ;;
		*) command sampan "$@" ;;
		esac
	}`, dir))
	return sh
}

// do types a command and returns what it prints and its exit status.
func (sh *pageShell) do(command string) (printed, status string) {
	const end = "=== that was it === "
	defer time.AfterFunc(2*time.Minute, sh.kill).Stop()
	fmt.Fprintf(sh.stdin, "%s\necho \"%s$?\"\n", command, end)
	var out bytes.Buffer
	for {
		line, err := sh.out.ReadString('\n')
		if i := strings.Index(line, end); i >= 0 {
			out.WriteString(line[:i])
			return out.String(), strings.TrimSpace(line[i+len(end):])
		}
		out.WriteString(line)
		if err != nil {
			sh.t.Fatalf("$ %s\nhas not ended in two minutes, or has ended the shell: %v\n%s", command, err, &out)
		}
	}
}
