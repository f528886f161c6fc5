package engine

import (
	"log/slog"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

func TestHideMemory(t *testing.T) {
	dumpable := func() int {
		got, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	before := dumpable()
	defer unix.Prctl(unix.PR_SET_DUMPABLE, uintptr(before), 0, 0, 0)
	HideMemory(slog.New(slog.DiscardHandler))
	want := before
	if os.Geteuid() == 0 {
		want = 0
	}
	if got := dumpable(); got != want {
		t.Errorf("got %d, want %d (it was %d)", got, want, before)
	}
}
