// Package round has the rounds of a torture: each brings one kind of trouble over an
// engine that is in use, and sees to it that its promises hold.
package round

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/sampan-batch/sampan/torture/audit"
	"github.com/sampan-batch/sampan/torture/program"
	"github.com/sampan-batch/sampan/torture/report"
	"github.com/sampan-batch/sampan/torture/victim"
)

// Env is what a round is given.
type Env struct {
	Programs *program.Set
	Report   *report.Round
	Dir      string // the round's own
	Class    string
	User     victim.User
	Seed     uint64
	// For is about how long the round is to go on; what has a size of its own ends
	// earlier.
	For time.Duration
	// Scale is the size of an overload, in percent of the full one.
	Scale int

	machine *audit.Machine // as it was before
}

// Round is one kind of trouble.
type Round struct {
	Name, About string
	Run         func(ctx context.Context, e *Env) error
}

// All are the rounds that there are, in the order in which they are made.
func All() []Round {
	return []Round{
		{"kill", "kill -9 of engine, supervisors and both, at random moments, under mixed load", kill},
		{"start", "kill -9 of engines while they start", start},
		{"stopcont", "engine and supervisors are stopped and continued", stopcont},
		{"damage", "copies of a store with damaged pages: all of it, or a clear refusal", damage},
		{"disk", "a full disk, a limit of file sizes, every disk call of the store refused once", disk},
		{"overload", "10,000 Jobs at once, 1,000 watchers, 3,000 pods of one Job, slow readers, logs as fast as they can be written", overload},
		{"history", "concurrent clients across kills: is there one order that explains all answers?", history},
	}
}

// OwnGroups is the count of control groups that were seen of running pods: that they
// are gone in the end says something only if they were there.
const OwnGroups = "control groups seen"

// Do makes a round, from looking at the machine to looking what is left.
func Do(ctx context.Context, r Round, e *Env) error {
	defer e.Report.End()
	e.machine = audit.Look()
	if err := os.MkdirAll(e.Dir, 0o755); err != nil {
		return err
	}
	e.Report.Say("%s", r.About)
	err := r.Run(ctx, e)
	for _, left := range e.machine.Remains(e.Dir) {
		e.Report.Find("left behind: %s", left)
	}
	e.Report.Progress()
	return err
}

// victim makes an engine below the round's directory.
func (e *Env) victim(ctx context.Context, name string, change func(*victim.Config)) (*victim.Victim, error) {
	c := victim.Config{Programs: e.Programs, Dir: filepath.Join(e.Dir, name), Class: e.Class, User: e.User}
	if change != nil {
		change(&c)
	}
	v, err := victim.New(ctx, c)
	if err == nil {
		e.machine.Expect(v.Data)
	}
	return v, err
}

// stop ends a victim, and looks what it leaves: words of a crash in its logs, and
// files.
func (e *Env) stop(v *victim.Victim, keepLogs bool) {
	if said, err := v.Stop(); err != nil {
		e.Report.Find("%v", err)
	} else if strings.Contains(said, "warning") {
		e.Report.Find("sampan stop: %s", said)
	}
	e.awaitSupervisors(v)
	for _, line := range v.Crashes() {
		e.Report.Find("in a log: %s", line)
	}
	for _, left := range audit.Files(v.Data, keepLogs) {
		e.Report.Find("left in the data directory: %s", left)
	}
}

// goneWithin is how long a supervisor that was stopped may take to be gone as a
// process: `sampan stop` returns when it has given up its lock, at its very end.
const goneWithin = 5 * time.Second

func (e *Env) awaitSupervisors(v *victim.Victim) {
	began := time.Now()
	for len(v.Supervisors()) > 0 && time.Since(began) < goneWithin {
		time.Sleep(time.Millisecond)
	}
	e.Report.Took("supervisors gone after sampan stop:", time.Since(began))
}

// progressEvery is how often a round says how far it is.
const progressEvery = 10 * time.Second

// until calls do again and again until the round has gone on long enough.
func (e *Env) until(ctx context.Context, do func() error) error {
	said := time.Now()
	for end := time.Now().Add(e.For); time.Now().Before(end); {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := do(); err != nil {
			return err
		}
		if time.Since(said) > progressEvery {
			said = time.Now()
			e.Report.Progress()
		}
	}
	return nil
}

// started counts a start, and how long the engine took to be ready.
func (e *Env) start(ctx context.Context, v *victim.Victim) error {
	took, err := v.Start(ctx)
	if err != nil {
		if ctx.Err() == nil {
			e.Report.Find("start: %v", err)
		}
		return fmt.Errorf("start: %w", err)
	}
	e.Report.Took("ready after", took)
	return nil
}
