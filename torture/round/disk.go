package round

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/sampan-batch/sampan/torture/fault"
	"github.com/sampan-batch/sampan/torture/load"
	"github.com/sampan-batch/sampan/torture/report"
	"github.com/sampan-batch/sampan/torture/victim"
)

const (
	diskMegabytes = 128
	// reachedWithin is how long it may take until a disk call is made, by an engine
	// that is in use.
	reachedWithin = 10 * time.Second
)

// faultLabels are the disk calls of the store, as internal/store/file.go names them.
// After "sync" an engine does not know what the disk holds, and writes no more.
var faultLabels = []string{"begin", "put", "commit", "sync", "open"}

// disk lets the disk refuse: every disk call of the store once and again, files of a
// limited size, and, if the torture is root, a disk that is full. What was
// acknowledged is there, what was refused is not, and everything goes on when the
// disk does.
func disk(ctx context.Context, e *Env) (err error) {
	bad := &badDisk{env: e, random: load.Random(e.Seed, "disk"), orders: filepath.Join(e.Dir, "orders", "fault")}
	if err := bad.prepare(ctx); err != nil {
		return err
	}
	err = e.underLoad(ctx, trial{change: bad.configure, lenient: true, after: bad.heal, do: func(v *victim.Victim) error {
		bad.victim = v
		pause(ctx, time.Duration(300+bad.random.IntN(1500))*time.Millisecond)
		return bad.trouble(ctx)
	}})
	if bad.small != nil {
		err = errors.Join(err, bad.small.Close())
	}
	return err
}

// badDisk is a disk that gives trouble.
type badDisk struct {
	env    *Env
	victim *victim.Victim
	random *rand.Rand
	orders string      // the file by which a faulty engine is told what to refuse
	small  *fault.Disk // nil: only root can have one
	rounds int
}

func (b *badDisk) prepare(ctx context.Context) (err error) {
	dir := filepath.Dir(b.orders)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if err := b.env.User.Own(dir); err != nil { // the engine removes the order
		return err
	}
	if os.Geteuid() == 0 {
		b.small, err = fault.NewDisk(ctx, b.env.Dir, diskMegabytes, b.env.User.UID, b.env.User.GID)
	}
	return err
}

func (b *badDisk) configure(c *victim.Config) {
	c.Binary, c.Env = c.Programs.Faulty, []string{"SAMPAN_FAULT=" + b.orders}
	c.Flags = []string{"--eviction-hard=nodefs.available<0%"} // nothing is to be evicted
	if b.small != nil {
		c.Data = filepath.Join(b.small.Dir, "data")
	}
}

// trouble makes the next one.
func (b *badDisk) trouble(ctx context.Context) error {
	b.rounds++
	b.env.Report.Count(report.Faults, 1)
	switch n := b.rounds % (len(faultLabels) + 2); {
	case n < len(faultLabels):
		return b.refuse(ctx, faultLabels[n])
	case n == len(faultLabels):
		return b.limitFiles(ctx)
	case b.small == nil:
		return nil
	}
	return b.full(ctx)
}

// refuse lets the next disk call with a label fail.
func (b *badDisk) refuse(ctx context.Context, label string) error {
	if err := os.WriteFile(b.orders, []byte(label), 0o644); err != nil {
		return err
	}
	b.env.Report.Count("refused: "+label, 1)
	if label == "open" {
		return b.refuseOpen(ctx)
	}
	for end := time.Now().Add(reachedWithin); ; pause(ctx, 5*time.Millisecond) {
		if _, err := os.Stat(b.orders); err != nil {
			break
		}
		if time.Now().After(end) {
			b.env.Report.Find("no disk call %q within %s: the engine does not write any more", label, reachedWithin)
			break
		}
	}
	if label != "sync" {
		return nil
	}
	pause(ctx, time.Duration(b.random.IntN(1000))*time.Millisecond)
	b.victim.Kill()
	b.env.Report.Count(report.Kills, 1)
	return b.env.start(ctx, b.victim)
}

// refuseOpen starts an engine that cannot open its store: it says so, and ends.
func (b *badDisk) refuseOpen(ctx context.Context) error {
	b.victim.Kill()
	b.env.Report.Count(report.Kills, 1)
	if _, err := b.victim.Start(ctx); err == nil {
		b.env.Report.Find("an engine is ready that could not open its store")
		return nil
	} else if !strings.Contains(err.Error(), "store.db") {
		b.env.Report.Find("a start that fails does not say that it is the store: %v", err)
	}
	return b.env.start(ctx, b.victim)
}

// limitFiles lets no file of the engine's become longer than the store is, for a
// while.
func (b *badDisk) limitFiles(ctx context.Context) error {
	info, err := os.Stat(filepath.Join(b.victim.Data, "store.db"))
	if err != nil {
		return err
	}
	b.env.Report.Count("limits of file sizes", 1)
	if err := b.limit(ctx, fmt.Sprint(info.Size())); err != nil {
		return err
	}
	pause(ctx, time.Duration(500+b.random.IntN(2000))*time.Millisecond)
	return b.limit(ctx, "unlimited")
}

func (b *badDisk) limit(ctx context.Context, size string) error {
	out, err := b.victim.Run(ctx, "prlimit", "--pid", fmt.Sprint(b.victim.PID()), "--fsize="+size+":unlimited")
	if err != nil {
		return fmt.Errorf("prlimit: %w: %s", err, out)
	}
	return nil
}

// full fills the disk, and every second time starts an engine on it.
func (b *badDisk) full(ctx context.Context) error {
	if err := b.small.Fill(); err != nil {
		return err
	}
	defer b.small.Free()
	b.env.Report.Count("full disks", 1)
	pause(ctx, time.Duration(500+b.random.IntN(2000))*time.Millisecond)
	if err := b.small.Fill(); err != nil { // what was freed meanwhile
		return err
	}
	if b.random.IntN(2) == 0 {
		b.victim.Kill()
		b.env.Report.Count(report.Kills, 1)
		b.env.Report.Count("starts on a full disk", 1)
		if err := b.env.start(ctx, b.victim); err != nil {
			return err
		}
		pause(ctx, time.Duration(b.random.IntN(1000))*time.Millisecond)
	}
	return b.small.Free()
}

// heal takes away what troubles the disk.
func (b *badDisk) heal() error {
	if err := os.Remove(b.orders); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if b.small == nil {
		return nil
	}
	return b.small.Free()
}
