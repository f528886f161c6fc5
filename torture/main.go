// Command torture brings trouble over Sampan and sees to it that its promises hold:
// what was acknowledged is there, what was refused is not, nothing is done twice,
// and nothing falls silent.
//
//	go run ./torture                                        everything, ten minutes
//	go run ./torture -minutes 60 -class sandbox -user nobody
//	go run ./torture -rounds kill,history -seed 42          what a former run printed
//
// It builds the binary, runs it on directories of its own, and uses it through the
// API as any client does, while it kills, stops, starves and damages it. What the
// clients were told is what the checks rest on (package model); nothing is asked of
// the engine that a user could not ask.
//
// A round is one kind of trouble (package round). Each ends with a look at what is
// left on the machine (package audit). The last lines are a table of what was done,
// with the seed, which decides all that is random but for what the machine decides:
// who is faster. The exit status is 1 when a promise was broken; the victims'
// directories then stay, for whoever looks for the reason.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/klog/v2"

	"github.com/sampan-batch/sampan/torture/program"
	"github.com/sampan-batch/sampan/torture/report"
	"github.com/sampan-batch/sampan/torture/round"
	"github.com/sampan-batch/sampan/torture/victim"
)

// options are what the command line says.
type options struct {
	rounds  []round.Round
	classes []string
	users   []victim.User
	time    time.Duration // of all rounds together
	scale   int
	seed    uint64
	dir     string
	keep    bool
}

func main() {
	o, err := parse(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "torture:", err)
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	r := report.New(os.Stderr)
	kept, err := run(ctx, o, r)
	r.Print(os.Stdout, o.seed)
	if err != nil {
		fmt.Fprintln(os.Stderr, "torture:", err)
	}
	if kept != "" {
		fmt.Printf("\nthe evidence is in %s\n", kept)
	}
	if err != nil || len(r.Findings()) > 0 {
		os.Exit(1)
	}
}

const usage = `Torture brings trouble over Sampan and sees to it that its promises hold.

  go run ./torture                              everything, ten minutes, class host
  go run ./torture -minutes 60 -class host,sandbox -user root,nobody
  go run ./torture -rounds kill,history -minutes 2 -seed 42
  go run ./torture -rounds overload -scale 10   a tenth of it

Rounds:
`

func parse(args []string) (*options, error) {
	o := &options{}
	f := flag.NewFlagSet("torture", flag.ContinueOnError)
	var names []string
	for _, r := range round.All() {
		names = append(names, r.Name)
	}
	rounds := f.String("rounds", strings.Join(names, ","), "which `rounds` to make, in this order")
	class := f.String("class", "host", "runtime `classes` of the pods: host, sandbox, or both")
	users := f.String("user", "", "who runs Sampan: `names` of users (default: who runs this program)")
	minutes := f.Float64("minutes", 10, "how long it goes on, in all")
	f.IntVar(&o.scale, "scale", 100, "size of the overload, in percent")
	f.Uint64Var(&o.seed, "seed", 0, "what a former run printed (default: a new one)")
	f.StringVar(&o.dir, "dir", "", "where to work (default: a new directory below /tmp)")
	f.BoolVar(&o.keep, "keep", false, "keep the victims' directories even if all is well")
	f.Usage = func() {
		fmt.Fprint(os.Stderr, usage)
		for _, r := range round.All() {
			fmt.Fprintf(os.Stderr, "  %-10s %s\n", r.Name, r.About)
		}
		fmt.Fprintln(os.Stderr, "\nFlags:")
		f.PrintDefaults()
	}
	if err := f.Parse(args); err != nil {
		if err == flag.ErrHelp {
			os.Exit(0)
		}
		os.Exit(2) // said by the flag set
	}
	if f.NArg() > 0 {
		return nil, fmt.Errorf("unexpected argument %q", f.Arg(0))
	}
	o.time = time.Duration(*minutes * float64(time.Minute))
	if o.seed == 0 {
		o.seed = rand.Uint64()
	}
	return o, o.choose(*rounds, *class, *users)
}

// choose resolves names.
func (o *options) choose(rounds, classes, users string) error {
	all := round.All()
	for name := range strings.SplitSeq(rounds, ",") {
		i := slices.IndexFunc(all, func(r round.Round) bool { return r.Name == name })
		if i < 0 {
			return fmt.Errorf("there is no round %q; -h lists them", name)
		}
		o.rounds = append(o.rounds, all[i])
	}
	for name := range strings.SplitSeq(classes, ",") {
		if name != "host" && name != "sandbox" {
			return fmt.Errorf("there is no class %q: want host or sandbox", name)
		}
		o.classes = append(o.classes, name)
	}
	for name := range strings.SplitSeq(users, ",") {
		u, err := victim.Lookup(name)
		if err != nil {
			return err
		}
		o.users = append(o.users, u)
	}
	return nil
}

// run makes all rounds, and returns where the evidence was kept, if it was.
func run(ctx context.Context, o *options, r *report.Report) (kept string, err error) {
	base := o.dir
	if base == "" {
		if base, err = os.MkdirTemp("/tmp", "sampan-torture-"); err != nil {
			return "", err
		}
	}
	// Others may run Sampan; what they must not read is deeper.
	if err := os.Chmod(base, 0o755); err != nil {
		return "", err
	}
	defer func() {
		if o.keep || err != nil || len(r.Findings()) > 0 {
			kept = base
		} else {
			err = os.RemoveAll(base)
		}
	}()
	klog.SetLogger(logr.Discard()) // the client library tells of every connection that is lost
	fmt.Fprintf(os.Stderr, "seed %d, in %s\n", o.seed, base)
	programs, err := program.Build(ctx, base)
	if err != nil {
		return "", err
	}
	return "", o.each(func(rd round.Round, class string, u victim.User) error {
		e := &round.Env{
			Programs: programs, Report: r.Begin(rd.Name, class+", "+u.Name), Dir: filepath.Join(base, rd.Name+"-"+class+"-"+u.Name),
			Class: class, User: u, Seed: o.seed, Scale: o.scale,
			For: o.time / time.Duration(len(o.rounds)*len(o.classes)*len(o.users)),
		}
		return round.Do(ctx, rd, e)
	})
}

// each calls do for every round with every class and user. One that cannot go on
// does not keep the others from being made.
func (o *options) each(do func(round.Round, string, victim.User) error) error {
	var errs []error
	for _, u := range o.users {
		for _, class := range o.classes {
			for _, rd := range o.rounds {
				err := do(rd, class, u)
				if errors.Is(err, context.Canceled) {
					return err
				}
				if err != nil {
					errs = append(errs, fmt.Errorf("%s (%s, %s): %w", rd.Name, class, u.Name, err))
				}
			}
		}
	}
	return errors.Join(errs...)
}
