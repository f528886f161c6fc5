// Command bench measures what Sampan can do beside what this machine can: every
// figure of the engine is printed with the limit that the machine itself sets,
// measured in the same run.
//
//	go run ./bench                everything, in about half an hour
//	go run ./bench -only run      one part: run ("sampan run", beside GNU parallel where that is installed),
//	                              host and sandbox (one-pod Jobs of a class), engine (start, memory, punctuality),
//	                              services, pods (memory of those that do nothing)
//	go run ./bench -jobs 2000     more Jobs
//
// It builds the binary, runs it on a directory of its own, talks to it through
// the API as any client does, and leaves nothing behind.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"golang.org/x/sys/unix"
)

type options struct {
	jobs, clients, stored, jobsGone int
	items, lines, indexes           int
	rounds, pods, services          int
	only                            string
	dir, binary                     string
}

func main() {
	var o options
	flag.IntVar(&o.jobs, "jobs", 1000, "one-pod Jobs per throughput run")
	flag.IntVar(&o.clients, "clients", 16, "clients that create Jobs at the same time")
	flag.IntVar(&o.stored, "stored", 10000, "Jobs for the memory figure")
	flag.IntVar(&o.jobsGone, "gone", 30000, "Jobs that come and go before memory and rate are measured again")
	flag.IntVar(&o.items, "items", 5000, "items that run beside GNU parallel")
	flag.IntVar(&o.lines, "lines", 10000, "Jobs of a large `sampan run`")
	flag.IntVar(&o.indexes, "indexes", 100000, "indexes of a large Job")
	flag.IntVar(&o.rounds, "rounds", 3, "how often one-pod Jobs and their bare loop are measured, in turn")
	flag.IntVar(&o.pods, "pods", 500, "pods that do nothing, for their memory")
	flag.IntVar(&o.services, "services", 1000, "Services that there are when one of them is measured again")
	flag.StringVar(&o.only, "only", "", "one part alone: "+strings.Join(slices.Collect(partNames), ", "))
	flag.StringVar(&o.binary, "binary", "", "a sampan that is there already, in place of this source's")
	flag.StringVar(&o.dir, "dir", "", "where to work (default: a temporary directory)")
	flag.Parse()
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case bareCommand:
			os.Exit(bareMain(os.Args[2:]))
		case serverCommand, clientCommand:
			os.Exit(trafficMain(os.Args[1:]))
		case enterCommand:
			os.Exit(enterMain(os.Args[2:]))
		case sleepsCommand:
			os.Exit(sleepsMain(os.Args[2:]))
		}
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// report collects rows: what was measured, the figure, the machine's limit.
type report struct{ rows [][4]string }

func (r *report) add(what, figure, limit, note string) {
	r.rows = append(r.rows, [4]string{what, figure, limit, note})
	fmt.Fprintf(os.Stderr, "%s: %s\n", what, figure)
}

func (r *report) print() {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 3, ' ', 0)
	fmt.Fprintln(w, "WHAT\tSAMPAN\tTHIS MACHINE'S LIMIT\t")
	for _, row := range r.rows {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", row[0], row[1], row[2], row[3])
	}
	w.Flush()
}

func run(ctx context.Context, o options) error {
	if o.dir == "" {
		dir, err := os.MkdirTemp("", "sampan-bench-*")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		o.dir = dir
	}
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return err
	}
	b, err := prepare(ctx, o)
	if err != nil {
		return err
	}
	load := loadNow()
	fmt.Printf("%d cores, %s/%s, program %s\n\n", runtime.NumCPU(), runtime.GOOS, runtime.GOARCH, b.program)

	var r report
	for _, p := range parts {
		if o.only != "" && o.only != p.name {
			continue
		}
		if err := p.measure(b, ctx, &r); err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
	}
	fmt.Printf("load of this machine, before and after: %s, %s\n\n", load, loadNow())
	r.print()
	return nil
}

// parts are what can be measured alone.
var parts = []struct {
	name    string
	measure func(*bench, context.Context, *report) error
}{
	{"host", (*bench).hostJobs},
	{"sandbox", (*bench).sandboxJobs},
	{"engine", (*bench).engines},
	{"services", (*bench).serviceWays},
	{"pods", (*bench).podMemory},
	{"run", (*bench).batches},
}

func partNames(yield func(string) bool) {
	for _, p := range parts {
		if !yield(p.name) {
			return
		}
	}
}

// loadNow is what the machine has to do besides: figures are to be read with it.
func loadNow() string {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	one, _, _ := strings.Cut(string(text), " ")
	return one
}

func (b *bench) hostJobs(ctx context.Context, r *report) error { return b.class(ctx, r, "host") }

func (b *bench) sandboxJobs(ctx context.Context, r *report) error {
	if err := b.class(ctx, r, "sandbox"); err != nil {
		return err
	}
	start, err := b.bare("host")
	if err != nil {
		return err
	}
	exec, err := b.bare(execClass)
	if err != nil {
		return err
	}
	r.add("sandbox: commands executed inside a container, per second", fmt.Sprintf("%.0f", exec.perSecond),
		fmt.Sprintf("%.0f", start.perSecond), fmt.Sprintf("%.0f %% of fork and exec, by a bare loop", 100*exec.perSecond/start.perSecond))
	r.add("sandbox: CPU per command", ms(exec.cpu), ms(start.cpu), "")
	return nil
}

// engines measures what an engine takes, and whether it is on time.
func (b *bench) engines(ctx context.Context, r *report) error {
	if err := b.memory(ctx, r); err != nil {
		return err
	}
	if err := b.burst(ctx, r); err != nil {
		return err
	}
	return b.punctuality(ctx, r)
}

// goals are the rates that a class is to have, in percent of its bare loop's. A plain
// process is so cheap that most of a Job's cost is in the engine.
var goals = map[string]int{"host": 25, "sandbox": 70}

// class measures one runtime class: how soon the engine is ready, the latency
// of a Job, and how many run per second: in turn with the bare loop, for the machine may be
// slower a minute later.
func (b *bench) class(ctx context.Context, r *report, class string) error {
	var limits, all, shares []rate
	for i := range b.rounds {
		limit, err := b.bare(class)
		if err != nil {
			return err
		}
		limits = append(limits, limit)
		done, err := b.round(ctx, r, class, i == 0)
		if err != nil {
			return err
		}
		all = append(all, done)
		share := done.perSecond / limit.perSecond
		shares = append(shares, rate{perSecond: share})
		fmt.Fprintf(os.Stderr, "%s: %.0f Jobs per second at %s beside %.0f at %s of the bare loop: %.2f\n",
			class, done.perSecond, ms(done.cpu), limit.perSecond, ms(limit.cpu), share)
	}
	perSecond := func(r rate) float64 { return r.perSecond }
	cpu := func(r rate) float64 { return float64(r.cpu) }
	client := func(r rate) float64 { return float64(r.client) }
	r.add(class+": one-pod Jobs per second", fmt.Sprintf("%.0f", median(all, perSecond)), fmt.Sprintf("%.0f", median(limits, perSecond)),
		fmt.Sprintf("%.0f %% of the bare loop, medians of %d; goal %d %%", 100*median(shares, perSecond), b.rounds, goals[class]))
	// Others who use the machine take from the two in unequal parts, and nothing from this.
	r.add(class+": CPU per Job, engine and supervisor", ms(time.Duration(median(all, cpu))), ms(time.Duration(median(limits, cpu))),
		fmt.Sprintf("%s more is the client's; %.0f %% of all is the bare loop's", ms(time.Duration(median(all, client))),
			100*median(limits, cpu)/(median(all, cpu)+median(all, client))))
	return nil
}

// round measures the Jobs of a class once. The first also says how long a start takes, and one Job.
func (b *bench) round(ctx context.Context, r *report, class string, first bool) (rate, error) {
	e, err := b.serve(ctx, class)
	if err != nil {
		return rate{}, err
	}
	defer e.stop()
	latency, err := e.latency(ctx, 20)
	if err != nil {
		return rate{}, err
	}
	if first {
		r.add(class+": start until a Job can run", ms(e.ready), "", "")
		r.add(class+": one Job, create to Complete, median", ms(latency), "", "")
	}
	runtime.GC()
	return e.throughput(ctx, b.jobs, b.clients)
}

// median returns the one in the middle of what is taken from each.
func median[T any](all []T, of func(T) float64) float64 {
	values := make([]float64, len(all))
	for i := range all {
		values[i] = of(all[i])
	}
	slices.Sort(values)
	return values[len(values)/2]
}

// quietTime is how long an engine does nothing before it counts as idle: it gives memory
// back when it has been quiet for half a minute.
const quietTime = 45 * time.Second

// memory measures what the engine takes, idle and with many Jobs stored.
func (b *bench) memory(ctx context.Context, r *report) error {
	e, err := b.serve(ctx, "host")
	if err != nil {
		return err
	}
	defer e.stop()
	for _, m := range []struct {
		what string
		wait time.Duration
	}{{"memory, right after the start", 0}, {"memory, idle", quietTime}} {
		time.Sleep(m.wait)
		idle, err := e.resident()
		if err != nil {
			return err
		}
		r.add(m.what, mb(idle), "", "resident set of the engine")
	}
	began := time.Now()
	if err := e.store(ctx, b.stored, b.clients); err != nil {
		return err
	}
	r.add("API creates per second (suspended Jobs)", fmt.Sprintf("%.0f", float64(b.stored)/time.Since(began).Seconds()), "",
		fmt.Sprintf("%d clients", b.clients))
	full, err := e.resident()
	if err != nil {
		return err
	}
	r.add(fmt.Sprintf("memory, %d Jobs stored", b.stored), mb(full), "", "")
	info, err := os.Stat(filepath.Join(e.data, "store.db"))
	if err != nil {
		return err
	}
	r.add(fmt.Sprintf("disk, %d Jobs stored", b.stored), mb(info.Size()), "", "")
	return nil
}

func ms(d time.Duration) string { return fmt.Sprintf("%.1f ms", float64(d)/float64(time.Millisecond)) }
func mb(n int64) string         { return fmt.Sprintf("%.0f MB", float64(n)/1e6) }
