package supervisor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sampan-batch/sampan/internal/runner"
)

// TestLostOutput: what a container wrote while its log's disk was full is counted
// to the byte, told while it runs and with its end, and known to the next engine.
func TestLostOutput(t *testing.T) {
	t.Parallel()
	dir, disk := t.TempDir(), t.TempDir()
	if err := unix.Mount("small", disk, "tmpfs", 0, "size=256k"); err != nil {
		t.Fatalf("mount a small file system, which only root may: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(disk, unix.MNT_DETACH) })
	t.Cleanup(func() { stopDir(t, dir) })
	c := openClient(t, dir)
	told := make(chan runner.Status, 100)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go c.Losses(ctx, func(st runner.Status) { told <- st })

	go1, go2 := filepath.Join(dir, "go1"), filepath.Join(dir, "go2")
	spec := shellSpec(dir, "a", fmt.Sprintf(
		`echo first; until [ -e %s ]; do sleep 0.02; done; seq 10000 29999; until [ -e %s ]; do sleep 0.02; done; echo last`, go1, go2))
	spec.LogPath = filepath.Join(disk, "0.log")
	mustStart(t, c, spec)
	eventually(t, "it has begun", func() bool { return logOf(t, spec) == "first\n" })
	touch := func(path string) {
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	touch(go1)
	var running runner.Status
	select {
	case running = <-told:
	case <-time.After(time.Minute):
		t.Fatal("nobody is told")
	}
	if loss := running.OutputLost; running.Phase != runner.Running || loss.Bytes == 0 || loss.At.IsZero() ||
		!strings.HasSuffix(loss.Message, unix.ENOSPC.Error()) {
		t.Errorf("told %+v", running)
	}
	if err := os.WriteFile(filepath.Join(disk, "more"), nil, 0o600); err != nil && !errors.Is(err, unix.ENOSPC) {
		t.Fatal(err)
	}
	if err := unix.Mount("", disk, "", unix.MS_REMOUNT, "size=4m"); err != nil {
		t.Fatal(err)
	}
	touch(go2)
	st := mustWait(t, c, spec.ID)
	got := logOf(t, spec)
	if !strings.HasSuffix(got, "\nlast\n") {
		t.Errorf("it ends with %.50q", got[max(len(got)-50, 0):])
	}
	said := int64(len("first\n") + 20_000*len("10000\n") + len("last\n"))
	if missing := said - int64(len(got)); st.OutputLost.Bytes != missing {
		t.Errorf("%d bytes are said to be lost, %d are", st.OutputLost.Bytes, missing)
	}
	next := openClient(t, dir)
	if again := mustWait(t, next, spec.ID); again.OutputLost.Bytes != st.OutputLost.Bytes {
		t.Errorf("the next engine is told %+v", again.OutputLost)
	}
}
