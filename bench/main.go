// Command bench measures what Sampan can do beside what this machine can: every
// figure of the engine is printed with the limit that the machine itself sets,
// measured in the same run.
//
//	go run ./bench            everything, in about twenty minutes
//	go run ./bench -only run  what measures "sampan run", beside GNU parallel where that is installed
//	go run ./bench -jobs 2000 more Jobs
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
	"text/tabwriter"
	"time"

	"golang.org/x/sys/unix"
)

type options struct {
	jobs, clients, stored, jobsGone int
	items, lines, indexes           int
	only                            string
	dir                             string
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
	flag.StringVar(&o.only, "only", "", `"run": only what measures "sampan run"`)
	flag.StringVar(&o.dir, "dir", "", "where to work (default: a temporary directory)")
	flag.Parse()
	if len(os.Args) > 1 && os.Args[1] == bareCommand {
		os.Exit(bareMain(os.Args[2:]))
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
	fmt.Printf("%d cores, %s/%s, program %s\n\n", runtime.NumCPU(), runtime.GOOS, runtime.GOARCH, b.program)

	var r report
	if o.only != "" && o.only != "run" {
		return fmt.Errorf("-only: %q is not known; it may be run", o.only)
	}
	if o.only == "" {
		if err := b.engines(ctx, &r); err != nil {
			return err
		}
	}
	if err := b.batches(ctx, &r); err != nil {
		return err
	}
	r.print()
	return nil
}

// engines measures what an engine can do.
func (b *bench) engines(ctx context.Context, r *report) error {
	limits, err := b.limits()
	if err != nil {
		return err
	}
	for _, class := range []string{"host", "sandbox"} {
		if err := b.class(ctx, r, class, limits[class]); err != nil {
			return fmt.Errorf("%s: %w", class, err)
		}
	}
	exec, start := limits[execClass], limits["host"]
	r.add("sandbox: commands executed inside a container, per second", fmt.Sprintf("%.0f", exec.perSecond),
		fmt.Sprintf("%.0f", start.perSecond), fmt.Sprintf("%.0f %% of fork and exec, by a bare loop", 100*exec.perSecond/start.perSecond))
	r.add("sandbox: CPU per command", ms(exec.cpu), ms(start.cpu), "")
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
// of a Job, and how many run per second.
func (b *bench) class(ctx context.Context, r *report, class string, limit rate) error {
	e, err := b.serve(ctx, class)
	if err != nil {
		return err
	}
	defer e.stop()
	r.add(class+": start until a Job can run", ms(e.ready), "", "")
	latency, err := e.latency(ctx, 20)
	if err != nil {
		return err
	}
	r.add(class+": one Job, create to Complete, median", ms(latency), ms(limit.each()), "one start, by a bare loop")
	runtime.GC()
	done, err := e.throughput(ctx, b.jobs, b.clients)
	if err != nil {
		return err
	}
	r.add(class+": one-pod Jobs per second", fmt.Sprintf("%.0f", done.perSecond), fmt.Sprintf("%.0f", limit.perSecond),
		fmt.Sprintf("%.0f %% of the bare loop; goal %d %%", 100*done.perSecond/limit.perSecond, goals[class]))
	r.add(class+": CPU per Job, engine and supervisor", ms(done.cpu), ms(limit.cpu), "")
	return nil
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
