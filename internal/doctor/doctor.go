// Package doctor finds out what of a machine Jobs can use, what is not enforced on it
// and why, and what to do about that. It tries: a container of each class is run as an
// engine would, in a directory of its own, and tells what it sees (see inside.go). What
// files say is only asked for reasons.
//
// A probe answers within its time, or is left behind. Nothing is changed on the machine.
package doctor

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/sampan-batch/sampan/internal/runner"
)

// Status of a Finding.
type Status string

const (
	// OK: it works.
	OK Status = "ok"
	// Limited: Jobs run, but something does not hold, or will not for long.
	Limited Status = "limited"
	// Broken: Jobs do not run in the sandbox, or the engine does not start, before that
	// is mended.
	Broken Status = "broken"
)

// Finding is what is known of one thing.
type Finding struct {
	Name   string `json:"name"`
	Status Status `json:"status"`
	// Message says how it is, in one line; Advice what to do, "" if that is nothing.
	Message string `json:"message"`
	Advice  string `json:"advice,omitempty"`
}

func ok(name, format string, args ...any) Finding {
	return Finding{Name: name, Status: OK, Message: fmt.Sprintf(format, args...)}
}

func limited(name, advice, format string, args ...any) Finding {
	return Finding{name, Limited, fmt.Sprintf(format, args...), advice}
}

func broken(name, advice, format string, args ...any) Finding {
	return Finding{name, Broken, fmt.Sprintf(format, args...), advice}
}

// Report is all that was found.
type Report struct {
	// Sandbox and Host tell whether a container of that class could be run.
	Sandbox  bool      `json:"sandbox"`
	Host     bool      `json:"host"`
	Findings []Finding `json:"findings"`
}

// Broken returns the names of what is broken.
func (r *Report) Broken() []string {
	var names []string
	for _, f := range r.Findings {
		if f.Status == Broken {
			names = append(names, f.Name)
		}
	}
	return names
}

// Probe finds out about one thing or a few.
type Probe struct {
	// Name is said when the probe does not answer.
	Name string
	Ask  func(context.Context) []Finding
}

// Options tell what is asked about.
type Options struct {
	DataDir string
	Listen  string
	// Trial is the command that tells what a container sees (see Inside), of this program.
	Trial []string
	// More are further probes, which come last.
	More []Probe
	// Patience is how long a probe may take; 0: half a minute.
	Patience time.Duration
}

// Examine asks all probes at once.
func Examine(ctx context.Context, o Options) *Report {
	if o.Patience == 0 {
		o.Patience = 30 * time.Second
	}
	probes := slices.Concat([]Probe{
		{"kernel", kernel},
		{"sandbox", func(ctx context.Context) []Finding { return o.sandbox(ctx) }},
		{"host", func(ctx context.Context) []Finding { return o.host(ctx) }},
		{"temporary directory", func(ctx context.Context) []Finding { return o.temporary(ctx) }},
		{"data directory", func(context.Context) []Finding { return o.directories() }},
		{"devices", func(context.Context) []Finding { return devices() }},
		{"limits", func(context.Context) []Finding { return limits() }},
		{"clock", func(context.Context) []Finding { return clock(time.Now()) }},
		{"port", func(context.Context) []Finding { return o.port() }},
	}, o.More)
	answers := make([]chan []Finding, len(probes))
	for i, p := range probes {
		answers[i] = make(chan []Finding, 1)
		go func() { answers[i] <- p.ask(ctx, o.Patience) }()
	}
	r := &Report{}
	for _, answer := range answers {
		r.Findings = append(r.Findings, <-answer...)
	}
	r.Sandbox, r.Host = r.holds(string(runner.Sandbox)), r.holds(string(runner.Host))
	return r
}

// holds tells whether a thing is there, and not broken.
func (r *Report) holds(name string) bool {
	return slices.ContainsFunc(r.Findings, func(f Finding) bool { return f.Name == name && f.Status != Broken })
}

// ask asks a probe, and waits no longer than its patience for the answer, whatever the
// kernel does with the one who asks.
func (p Probe) ask(ctx context.Context, patience time.Duration) []Finding {
	// A probe that heeds ctx has a little more time to say what it was about.
	asking, cancel := context.WithTimeout(ctx, patience*2/3)
	defer cancel()
	answer := make(chan []Finding, 1)
	go func() { answer <- p.Ask(asking) }()
	late := time.NewTimer(patience)
	defer late.Stop()
	select {
	case findings := <-answer:
		return findings
	case <-ctx.Done():
		return []Finding{broken(p.Name, "", "interrupted")}
	case <-late.C:
		return []Finding{broken(p.Name, "look for a file system that does not answer (`mount`, `dmesg`)", "no answer within %s", patience)}
	}
}

// sysctl returns a setting of the kernel, "" if there is none of that name.
func sysctl(name string) string {
	text, err := os.ReadFile("/proc/sys/" + name)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(text))
}
