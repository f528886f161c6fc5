// Package report gathers what a torture did and what it found, and says it to
// people: progress while it goes on, a table at the end.
//
// A finding is a promise that was broken. Everything that is only worth knowing
// is a count.
package report

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"
	"time"
)

// Names of the counts that the table has a column for.
const (
	Kills  = "kills"
	Writes = "writes"
	Jobs   = "jobs"
	Slots  = "slots"
	Faults = "faults"
)

var columns = []string{Kills, Writes, Jobs, Slots, Faults}

// Finding is a promise that was broken.
type Finding struct {
	Round string
	At    time.Duration // since the round began
	Text  string
}

// findingsMax bounds how many findings of a round are kept: what is broken is often
// broken thousands of times.
const findingsMax = 50

// Report is what all rounds write to. Its methods may be called by several
// goroutines at once.
type Report struct {
	out   io.Writer
	began time.Time

	mu     sync.Mutex
	rounds []*Round
}

// New returns a report that says its progress to out.
func New(out io.Writer) *Report { return &Report{out: out, began: time.Now()} }

// Round is the part of a report that one round writes.
type Round struct {
	// Name is the round's, Where the class and the user that it was made with.
	Name, Where string

	report   *Report
	began    time.Time
	took     time.Duration
	counts   map[string]int64
	times    map[string][]time.Duration
	figures  []string
	findings []Finding
	dropped  int
}

// Begin opens the part of a round.
func (r *Report) Begin(name, where string) *Round {
	r.mu.Lock()
	defer r.mu.Unlock()
	round := &Round{Name: name, Where: where, report: r, began: time.Now(), counts: map[string]int64{}, times: map[string][]time.Duration{}}
	r.rounds = append(r.rounds, round)
	return round
}

// End closes the part of a round.
func (r *Round) End() {
	r.report.mu.Lock()
	defer r.report.mu.Unlock()
	r.took = time.Since(r.began)
}

// Count adds n to what is counted under name.
func (r *Round) Count(name string, n int) {
	r.report.mu.Lock()
	defer r.report.mu.Unlock()
	r.counts[name] += int64(n)
}

// Took notes how long something took; the report has the middle and the longest.
func (r *Round) Took(what string, d time.Duration) {
	r.report.mu.Lock()
	defer r.report.mu.Unlock()
	r.times[what] = append(r.times[what], d)
}

// Figure notes a figure for the end of the report.
func (r *Round) Figure(format string, args ...any) {
	r.report.mu.Lock()
	defer r.report.mu.Unlock()
	r.figures = append(r.figures, fmt.Sprintf(format, args...))
}

// Find notes a finding, and says it at once.
func (r *Round) Find(format string, args ...any) {
	r.report.mu.Lock()
	defer r.report.mu.Unlock()
	text := strings.TrimSpace(fmt.Sprintf(format, args...))
	if len(r.findings) >= findingsMax {
		r.dropped++
		return
	}
	r.findings = append(r.findings, Finding{Round: r.Name + " " + r.Where, At: time.Since(r.began), Text: text})
	fmt.Fprintf(r.report.out, "%8s  %s: FOUND: %s\n", since(r.report.began), r.Name, text)
}

// Texts are the findings of a round so far.
func (r *Round) Texts() (all []string) {
	r.report.mu.Lock()
	defer r.report.mu.Unlock()
	for _, f := range r.findings {
		all = append(all, f.Text)
	}
	return all
}

// Say says a line of progress, with the counts so far.
func (r *Round) Say(format string, args ...any) {
	r.report.mu.Lock()
	defer r.report.mu.Unlock()
	fmt.Fprintf(r.report.out, "%8s  %s %s: %s\n", since(r.report.began), r.Name, r.Where, fmt.Sprintf(format, args...))
}

// Progress is a line of progress: everything that was counted.
func (r *Round) Progress() {
	r.report.mu.Lock()
	counts, found := r.countsLocked(), len(r.findings)
	r.report.mu.Unlock()
	r.Say("%s, %d findings", counts, found)
}

func (r *Round) countsLocked() string {
	var names, parts []string
	for name := range r.counts {
		if !slices.Contains(columns, name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range append(slices.Clone(columns), names...) {
		if n := r.counts[name]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, name))
		}
	}
	return strings.Join(parts, ", ")
}

// Findings returns all findings.
func (r *Report) Findings() (all []Finding) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, round := range r.rounds {
		all = append(all, round.findings...)
	}
	return all
}

// Counted returns what all rounds have counted under name.
func (r *Report) Counted(name string) (n int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, round := range r.rounds {
		n += round.counts[name]
	}
	return n
}

// Print writes the table, the other figures, and the findings.
func (r *Report) Print(w io.Writer, seed uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	fmt.Fprintf(w, "\nseed %d, %s\n\n", seed, since(r.began))
	table := tabwriter.NewWriter(w, 0, 0, 3, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "ROUND\tCLASS, USER\tTIME\tKILLS\tWRITES CHECKED\tJOBS\tCRON SLOTS\tFAULTS INJECTED\tFINDINGS\t")
	for _, round := range r.rounds {
		fmt.Fprintf(table, "%s\t%s\t%s\t", round.Name, round.Where, round.took.Round(time.Second))
		for _, name := range columns {
			fmt.Fprintf(table, "%d\t", round.counts[name])
		}
		fmt.Fprintf(table, "%d\t\n", len(round.findings)+round.dropped)
	}
	table.Flush()
	for _, round := range r.rounds {
		round.printLocked(w)
	}
}

func (r *Round) printLocked(w io.Writer) {
	fmt.Fprintf(w, "\n%s (%s): %s\n", r.Name, r.Where, r.countsLocked())
	for _, what := range slices.Sorted(maps.Keys(r.times)) {
		all := slices.Sorted(slices.Values(r.times[what]))
		fmt.Fprintf(w, "    %s %s, at most %s (%d)\n", what, all[len(all)/2].Round(time.Millisecond), all[len(all)-1].Round(time.Millisecond), len(all))
	}
	for _, figure := range r.figures {
		fmt.Fprintln(w, "   ", figure)
	}
	for _, f := range r.findings {
		fmt.Fprintf(w, "    FOUND after %s: %s\n", f.At.Round(time.Millisecond), f.Text)
	}
	if r.dropped > 0 {
		fmt.Fprintf(w, "    and %d more\n", r.dropped)
	}
}

func since(t time.Time) string { return time.Since(t).Round(time.Second).String() }
