package round

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/sampan-batch/sampan/torture/fault"
	"github.com/sampan-batch/sampan/torture/load"
	"github.com/sampan-batch/sampan/torture/report"
	"github.com/sampan-batch/sampan/torture/victim"
)

const (
	// damageObjects is how many objects the store has: enough for branch pages.
	damageObjects = 400
	// openWithin is how long an engine may take to open a damaged store, or to refuse it.
	openWithin = 30 * time.Second
	// complaintMax is how many lines a refusal may have.
	complaintMax = 10
)

// damage damages copies of a store. The engine opens each with exactly the objects
// that there were, or says what is wrong with which file; it never crashes, and
// never has less without a word.
func damage(ctx context.Context, e *Env) error {
	v, err := e.victim(ctx, "victim", nil)
	if err != nil {
		return err
	}
	p := &patient{env: e, victim: v, random: load.Random(e.Seed, "damage"), refusals: map[string]int{}}
	if err := p.prepare(ctx); err != nil {
		e.stop(v, false)
		return err
	}
	damages := fault.Damages()
	n := 0
	err = e.until(ctx, func() error {
		n++
		return p.try(ctx, damages[n%len(damages)])
	})
	p.say(damages)
	_ = p.write(p.whole) // what is looked for at the end is not what damage leaves
	e.stop(v, false)
	return err
}

// patient is a store that is damaged again and again.
type patient struct {
	env        *Env
	victim     *victim.Victim
	random     *rand.Rand
	whole, old []byte
	want       map[string]string // all objects: resource/name → UID, revision, value
	refusals   map[string]int    // by the kind of damage
}

// prepare fills a store, and keeps it as it is after a clean stop, and as it was
// some writes before.
func (p *patient) prepare(ctx context.Context) error {
	if err := p.env.start(ctx, p.victim); err != nil {
		return err
	}
	if err := load.Fill(ctx, p.victim, p.env.Seed, damageObjects); err != nil {
		return err
	}
	if _, err := p.victim.Stop(); err != nil {
		return err
	}
	var err error
	if p.old, err = p.read(); err != nil {
		return err
	}
	if err := p.env.start(ctx, p.victim); err != nil {
		return err
	}
	if err := load.Change(ctx, p.victim, p.env.Seed, damageObjects); err != nil {
		return err
	}
	if p.want, err = load.Inventory(ctx, p.victim); err != nil {
		return err
	}
	p.victim.Kill() // the last transaction is an acknowledged write
	p.whole, err = p.read()
	return err
}

func (p *patient) path() string { return filepath.Join(p.victim.Data, "store.db") }

func (p *patient) read() ([]byte, error) { return os.ReadFile(p.path()) }

// write puts a store in place of the one that is there.
func (p *patient) write(file []byte) error {
	// What an engine that found damage may have set aside or written beside it goes
	// with the store that it belongs to.
	beside, _ := filepath.Glob(p.path() + "?*")
	for _, name := range append(beside, p.path()) {
		_ = os.Remove(name)
	}
	if err := os.WriteFile(p.path(), file, 0o600); err != nil {
		return err
	}
	return p.env.User.Own(p.path())
}

// try damages the store once, and looks what an engine makes of it.
func (p *patient) try(ctx context.Context, d fault.Damage) error {
	file, what := d.Apply(p.random, p.whole, p.old)
	if err := p.write(file); err != nil {
		return err
	}
	p.env.Report.Count(report.Faults, 1)
	before := len(p.env.Report.Texts())
	opened := p.open(ctx, what, p.want)
	if opened {
		p.goOn(ctx, what)
	} else {
		p.refusals[d.Name]++
	}
	if len(p.env.Report.Texts()) > before {
		return os.WriteFile(filepath.Join(p.env.Dir, fmt.Sprintf("damaged-%d.db", before)), file, 0o600)
	}
	return ctx.Err()
}

// goOn writes to a store that was opened, and opens it again: damage may show only
// when pages are written anew.
func (p *patient) goOn(ctx context.Context, what string) {
	defer p.victim.Kill()
	if err := load.Change(ctx, p.victim, p.env.Seed, 20); err != nil {
		if complained(p.victim.Log(p.victim.Generation())) || strings.Contains(err.Error(), "store") {
			p.env.Report.Count("stores that refused to be written", 1)
			return // said, and nothing is acknowledged
		}
		p.env.Report.Find("%s: opened, but then: %v", what, err)
		return
	}
	want, err := load.Inventory(ctx, p.victim)
	if err != nil {
		p.env.Report.Find("%s: opened and written, but then: %v", what, err)
		return
	}
	p.victim.Kill()
	if !p.open(ctx, what+", then written", want) {
		p.env.Report.Find("%s: opened and written, then refused: %s", what, firstLines(p.victim.Log(p.victim.Generation())))
	}
}

// open starts an engine on the store, and returns whether it opened it. It must have
// exactly what is wanted, or refuse in words.
func (p *patient) open(ctx context.Context, what string, want map[string]string) bool {
	ready, err := p.victim.Launch()
	if err != nil {
		p.env.Report.Find("%s: %v", what, err)
		return false
	}
	select {
	case <-ready:
	case <-p.victim.Gone():
		p.refused(what)
		return false
	case <-time.After(openWithin):
		p.env.Report.Find("%s: neither opened nor refused within %s", what, openWithin)
		p.victim.Kill()
		return false
	case <-ctx.Done():
		p.victim.Kill()
		return false
	}
	got, err := load.Inventory(ctx, p.victim)
	if err != nil {
		p.env.Report.Find("%s: opened, but then: %v", what, err)
		return true
	}
	p.env.Report.Count("stores opened", 1)
	said := p.victim.Log(p.victim.Generation())
	if lost := differences(want, got); len(lost) > 0 {
		if complained(said) {
			p.env.Report.Count("stores opened with less, and a warning", 1)
		} else {
			p.env.Report.Find("%s: opened without a word, and %d objects are not as they were: %s", what, len(lost), strings.Join(lost[:min(3, len(lost))], "; "))
		}
	}
	return true
}

// refused looks at how a store was refused.
func (p *patient) refused(what string) {
	p.env.Report.Count("stores refused", 1)
	said := p.victim.Log(p.victim.Generation())
	_, said, _ = strings.Cut(said, "\n") // the line of the torture's own
	switch {
	case strings.Contains(said, "goroutine ") || strings.Contains(said, "panic:") || strings.Contains(said, "fatal error"):
		p.env.Report.Find("%s: the engine crashed: %s", what, firstLines(said))
	case !strings.Contains(said, "store.db"):
		p.env.Report.Find("%s: refused without naming the file: %s", what, firstLines(said))
	case strings.Count(said, "\n") > complaintMax:
		p.env.Report.Find("%s: refused in %d lines: %s", what, strings.Count(said, "\n"), firstLines(said))
	}
}

// complained: an engine's log warns of its store.
func complained(log string) bool {
	for line := range strings.Lines(log) {
		if (strings.Contains(line, "WARN") || strings.Contains(line, "ERROR")) && strings.Contains(line, "store.db") {
			return true
		}
	}
	return false
}

// firstLines are enough to know a message by.
func firstLines(text string) string {
	text = strings.TrimSpace(text)
	if len(text) > 300 {
		text = text[:300] + "…"
	}
	return strings.ReplaceAll(text, "\n", " | ")
}

// differences are what two inventories do not agree about.
func differences(want, got map[string]string) (list []string) {
	for _, key := range slices.Sorted(maps.Keys(want)) {
		if got[key] != want[key] {
			list = append(list, fmt.Sprintf("%s was %q, is %q", key, want[key], got[key]))
		}
	}
	for _, key := range slices.Sorted(maps.Keys(got)) {
		if _, ok := want[key]; !ok {
			list = append(list, fmt.Sprintf("%s is %q, and was not there", key, got[key]))
		}
	}
	return list
}

func (p *patient) say(damages []fault.Damage) {
	var parts []string
	for _, d := range damages {
		parts = append(parts, fmt.Sprintf("%s %d", d.Name, p.refusals[d.Name]))
	}
	p.env.Report.Figure("refused: %s", strings.Join(parts, ", "))
}
