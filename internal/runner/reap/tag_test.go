package reap

import (
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestTags: a tag is seen on what a child has started, by either way of reading.
func TestTags(t *testing.T) {
	t.Parallel()
	tags := OwnTags()
	tag, other := tags.Of("/a/b"), tags.Of("/a/c")
	if tag == 0 {
		t.Skip("this process's own limit of locks leaves no room")
	}
	if tag == other || tag != tags.Of("/a/b") || tag < leastTag {
		t.Errorf("tags %d and %d", tag, other)
	}
	cmd := exec.Command("sh", "-c", "read x; setsid env -i sh -c 'echo $$; exec sleep 1000' & read x")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if got := tags.Carried(cmd.Process.Pid); got != 0 {
		t.Errorf("without a tag: %d", got)
	}
	if err := unix.Prlimit(cmd.Process.Pid, LimitOfLocks, &unix.Rlimit{Cur: tag, Max: tag}, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := in.Write([]byte("go\n")); err != nil {
		t.Fatal(err)
	}
	var text [16]byte
	n, err := out.Read(text[:])
	if err != nil {
		t.Fatal(err)
	}
	var pid int
	for _, c := range strings.TrimSpace(string(text[:n])) {
		pid = pid*10 + int(c-'0')
	}
	if got := tags.Carried(pid); got != tag {
		t.Errorf("the grandchild carries %d, want %d", got, tag)
	}
	if got := readLocks(pid); got != tag {
		t.Errorf("its file says %d, want %d", got, tag)
	}
	if err := unix.Kill(pid, unix.SIGKILL); err != nil {
		t.Error(err)
	}
	in.Close()
	_ = cmd.Wait()
	if got := tags.Carried(1 << 30); got != 0 {
		t.Errorf("of nobody: %d", got)
	}
}
