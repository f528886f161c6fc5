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
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestPages does what the pages of docs/users say, in the order in which they say it, and
// compares what happens with what they print. A fence "yaml NAME" is a file; one "console"
// has commands behind "$ ", for one shell per page, and below each what it prints on
// either stream: "..." stands for any text, alone on a line for any lines.
func TestPages(t *testing.T) {
	t.Parallel()
	tools := buildTools(t)
	pages, err := filepath.Glob("../../docs/users/*.md")
	if err != nil || len(pages) == 0 {
		t.Fatal("no pages", err)
	}
	for _, page := range pages {
		t.Run(strings.TrimSuffix(filepath.Base(page), ".md"), func(t *testing.T) {
			t.Parallel()
			text, err := os.ReadFile(page)
			if err != nil {
				t.Fatal(err)
			}
			sh := newPageShell(t, tools)
			follow(t, sh, string(text))
		})
	}
}

// follow does what a page says.
func follow(t *testing.T, sh *pageShell, page string) {
	line := 0
	for part := range strings.SplitSeq(page, "```") {
		kind, body, _ := strings.Cut(part, "\n")
		begin := line + 2
		line += strings.Count(part, "\n")
		word, name, _ := strings.Cut(kind, " ")
		switch word {
		case "yaml":
			if err := os.WriteFile(filepath.Join(sh.dir, name), []byte(body), 0o600); err != nil {
				t.Fatal(err)
			}
		case "console":
			for command := range strings.SplitSeq("\n"+body, "\n$ ") {
				if command == "" {
					continue
				}
				typed, want, _ := strings.Cut(command, "\n")
				got := sh.do(typed)
				if !fits(want, got) {
					t.Fatalf("after line %d of the page: $ %s\n--- it says\n%s\n--- but prints\n%s", begin, typed, want, got)
				}
			}
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
// own, in which busybox.tar is.
type pageShell struct {
	t     *testing.T
	dir   string
	stdin io.Writer
	out   *bufio.Reader
	kill  func() // with all that it has started
}

func newPageShell(t *testing.T, tools *tools) *pageShell {
	dir := t.TempDir()
	image, err := os.ReadFile(filepath.Join(tools.images, "busybox.tar"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "busybox.tar"), image, 0o600); err != nil {
		t.Fatal(err)
	}
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
		stop) shift; command sampan stop $data "$@" ;;
		image) local what="$2"; shift 2; command sampan image "$what" $data "$@" ;;
		run) shift; command sampan run --image-dir %[1]s/engine/images "$@" ;;
		*) command sampan "$@" ;;
		esac
	}`, dir))
	return sh
}

// do types a command and returns what it prints.
func (sh *pageShell) do(command string) string {
	const end = "=== that was it ==="
	defer time.AfterFunc(time.Minute, sh.kill).Stop()
	fmt.Fprintf(sh.stdin, "%s\necho '%s'\n", command, end)
	var out bytes.Buffer
	for {
		line, err := sh.out.ReadString('\n')
		if i := strings.Index(line, end); i >= 0 {
			out.WriteString(line[:i])
			return out.String()
		}
		out.WriteString(line)
		if err != nil {
			sh.t.Fatalf("$ %s\nhas not ended in a minute, or has ended the shell: %v\n%s", command, err, &out)
		}
	}
}
