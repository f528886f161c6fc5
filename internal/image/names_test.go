package image

import (
	"archive/tar"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestNamesWhenAnInodeNumberReturns: another process replaces the table of names,
// twice, and the second file has the inode number, the time and the size of the
// one that was read.
func TestNamesWhenAnInodeNumberReturns(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var disk unix.Statfs_t
	must(t, unix.Statfs(dir, &disk))
	if disk.Type != unix.EXT4_SUPER_MAGIC {
		t.Fatalf("%s is not on ext4 but on a file system of type %#x; give TMPDIR a directory on ext4", dir, disk.Type)
	}
	reader, err := Open(dir)
	must(t, err)
	writer, err := Open(dir)
	must(t, err)
	set := func(digest string) (inode uint64) {
		must(t, writer.rename(func(names map[string]entry) { names["x"] = entry{Digest: digest} }))
		must(t, os.Chtimes(writer.namesPath(), time.Unix(1, 0), time.Unix(1, 0)))
		info, err := os.Stat(writer.namesPath())
		must(t, err)
		return info.Sys().(*syscall.Stat_t).Ino
	}
	for range 25 { // somebody else may take the number
		first, last := set("sha256:0"), ""
		must(t, reader.reloadLocked())
		for _, last = range []string{"sha256:1", "sha256:2", "sha256:3"} {
			if set(last) == first {
				break
			}
		}
		must(t, reader.reloadLocked())
		if got := reader.names["x"].Digest; got != last {
			t.Fatalf("it reads %s, it is %s", got, last)
		}
	}
}

// TestTimeOfADirectoryThatIsNamedTwice: what a layer says last counts, also of one
// that replaces another and has its inode number.
func TestTimeOfADirectoryThatIsNamedTwice(t *testing.T) {
	t.Parallel()
	then, now := time.Unix(1_500_000_000, 0), time.Unix(1_600_000_000, 0)
	directory := func(at time.Time) tar.Header {
		return tar.Header{Name: "d/", Typeflag: tar.TypeDir, Mode: 0o755, ModTime: at}
	}
	for name, between := range map[string][]tar.Header{
		"the same": nil, "another": {{Name: "d", Mode: 0o644, ModTime: then}},
	} {
		root := filepath.Join(t.TempDir(), "root")
		headers := append([]tar.Header{directory(then)}, between...)
		must(t, unpackInto(root, layer(t, append(headers, directory(now))...), Limits{}))
		if info, err := os.Stat(filepath.Join(root, "d")); err != nil || !info.ModTime().Equal(now) {
			t.Errorf("%s: %v, %v", name, info.ModTime(), err)
		}
	}
}
