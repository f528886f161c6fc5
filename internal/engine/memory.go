package engine

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// HideMemory keeps what this process holds, Secrets and the keys of its
// authority, out of core dumps and from processes that trace it with the same
// user. That is a setting of the whole process; what it executes begins anew.
//
// It is root's only. A process that hides cannot, as an ordinary user, write the
// id maps of the children that it starts (they belong to root then), and what
// would be kept from the user's other processes lies in files of his, too. Nor
// is the limit of core files lowered: containers would inherit it.
func HideMemory(log *slog.Logger) {
	if os.Geteuid() != 0 {
		return
	}
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		log.Warn("core dumps would hold secrets", "err", err)
	}
}

// After a burst the runtime keeps what the burst needed: it collects garbage when as
// much again has been allocated, which an engine with nothing to do does not do for
// hours. So the engine looks now and then whether it is quiet, and gives back. Its
// start is a burst, too.
const (
	quietTick  = 10 * time.Second
	quietBytes = 20 << 20 // who allocates less than this between two ticks is quiet
	quietTicks = 3        // after so many the store has let go of the burst, too
	worthwhile = 64 << 20 // what has been allocated since memory was last given back
)

// giveBack returns to the machine, whenever the engine has become quiet, the memory
// that it needed before. It ends with ctx.
func (e *Engine) giveBack(ctx context.Context) error {
	return givesBack{allocated: allocated, free: e.free}.run(ctx)
}

// free lets go of whatever is not needed.
func (e *Engine) free() {
	for range 3 { // it gives way to whatever is written meanwhile
		done, err := e.store.Repack()
		if err != nil {
			e.config.Logger.Warn("the store was not repacked", "err", err)
		}
		if done || err != nil {
			break
		}
	}
	freeMemory()
}

// freeMemory lets go of what every process of this program has and does not need.
func freeMemory() {
	debug.FreeOSMemory()
	forgetProgram()
}

// forgetProgram unmaps the pages of this program's own file from this process. A start
// touches most of them, what follows a quarter, and as long as they are mapped they count as
// used. They stay in the page cache while the machine has room for them, so that one
// that is needed again costs a fault, and no read.
func forgetProgram() {
	program, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return
	}
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		return
	}
	for line := range strings.Lines(string(maps)) {
		// 00400000-031cf000 r-xp 00000000 fe:00 10027056    /usr/local/bin/sampan
		var from, to uintptr
		var rights string
		if _, err := fmt.Sscanf(line, "%x-%x %s", &from, &to, &rights); err != nil ||
			!strings.HasSuffix(strings.TrimSuffix(line, "\n"), " "+program) || strings.Contains(rights, "w") {
			continue // what may be written is not in the file any more
		}
		// Advice cannot fail in a way that matters.
		_, _, _ = syscall.Syscall(syscall.SYS_MADVISE, from, to-from, syscall.MADV_DONTNEED)
	}
}

type givesBack struct {
	allocated func() uint64 // bytes since the start of the process
	free      func()
}

func (g givesBack) run(ctx context.Context) error {
	tick := time.NewTicker(quietTick)
	defer tick.Stop()
	before, freed := uint64(0), uint64(0)
	quiet := 0
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		now := g.allocated()
		quiet++
		if now-before >= quietBytes {
			quiet = 0
		}
		if quiet >= quietTicks && (freed == 0 || now-freed >= worthwhile) {
			g.free()
			freed = now
		}
		before = now
	}
}

func allocated() uint64 {
	sample := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}
