package sandbox

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sampan-batch/sampan/internal/runner"
	"github.com/sampan-batch/sampan/internal/runner/reap"
)

func BenchmarkStart(b *testing.B) {
	runtime.LockOSThread()
	dir := b.TempDir()
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil { b.Fatal(err) }
	unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")
	layer := filepath.Join(dir, "layer")
	os.MkdirAll(layer+"/bin", 0o755)
	data, err := os.ReadFile("/bin/busybox")
	if err != nil {
		b.Fatal(err)
	}
	os.WriteFile(layer+"/bin/true", data, 0o755)
	null, _ := os.OpenFile("/dev/null", os.O_RDWR, 0)
	b.Run("os-exec", func(b *testing.B) {
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				if err := exec.Command(layer + "/bin/true").Run(); err != nil {
					b.Error(err)
				}
			}
		})
	})
	var n atomic.Int64
	base := b.TempDir()
	os.MkdirAll(base, 0o700)
	l, err := New(runner.LauncherEnv{Dir: base, Reaper: reap.New()})
	if err != nil {
		b.Fatal(err)
	}
	b.Run("sandbox", func(b *testing.B) {
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				id := fmt.Sprint(n.Add(1))
				c, err := l.Launch(&runner.Spec{ID: id, Args: []string{"/bin/true"}, Layers: []string{layer}}, null, null, null)
				if err != nil {
					b.Error(err)
					return
				}
				ws, err := c.Wait()
				if err != nil || ws != 0 {
					b.Error(err, ws)
				}
				os.RemoveAll(filepath.Join(base, "c", id))
			}
		})
	})
}
