package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utilduration "k8s.io/apimachinery/pkg/util/duration"
	"k8s.io/utils/ptr"

	"github.com/sampan-batch/sampan/internal/cron"
	"github.com/sampan-batch/sampan/internal/explain"
)

func newCron() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "cron",
		Short: "Look at the schedules of CronJobs",
		Long:  `Commands about schedules. "sampan explain cronjob/NAME" says why one has, or has not, run.`,
		Example: `  sampan cron next nightly
  sampan cron next "30 2 * * *" --time-zone America/Los_Angeles`,
		Args: noSuchCommand,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newCronNext())
	return cmd
}

type cronNextOptions struct {
	cluster cluster
	count   int
	zone    string
	output  outputFormat
}

// mostTimes keeps what one command prints within years that have four digits.
const mostTimes = 1000

func newCronNext() *cobra.Command {
	var o cronNextOptions
	cmd := &cobra.Command{
		Use:   `next NAME | next "SCHEDULE"`,
		Short: "Print when a CronJob, or a schedule, is due next",
		Long: `Next prints the next times of a CronJob, or of a schedule in quotes, in the schedule's time
zone and in this machine's. A schedule needs no API; it is read by the rules of spec.schedule.

Times that do not exist, because the clocks of the time zone go forward past them, are
marked as skipped: no Job is started for them. When the clocks go back, a time may come
twice, and so do its Jobs.

A schedule is read in --time-zone, else in this machine's. A CronJob is read in its
timeZone; without one it goes by the time zone that its controller lives in, which no
object tells: this machine's for Sampan, UTC for a cluster, unless its last slot shows that
it is the other. It is said which one was taken.

For scripts, -o json and -o yaml print schedule, timeZone, suspended if it is, and times: each
with its time, repeat if it comes for the second time, or what is skipped.

It exits with 0 also when no time matches; 1 when the CronJob was not found or could not be
read; 2 when the input is wrong.`,
		Example: `  sampan cron next "30 2 * * 1-5"
  sampan cron next "30 2 * * *" --time-zone America/Los_Angeles -n 30
  sampan cron next nightly
  sampan cron next nightly -n 1 -o json | jq -r '.times[0].time'`,
		Args: wantArgs(cobra.ExactArgs(1), `of what? Give the name of a CronJob, or a schedule in quotes`),
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.run(cmd.Context(), args[0], time.Now(), cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
		ValidArgsFunction: o.cluster.completeTargets(kindCronJob),
	}
	f := cmd.Flags()
	f.IntVarP(&o.count, "count", "n", 10, "how many times to print")
	o.output.addFlag(cmd, "a table")
	f.StringVar(&o.zone, "time-zone", "", `the time zone to read the schedule in, such as "Asia/Seoul" (default: the CronJob's, else this machine's)`)
	o.cluster.addFlags(cmd, f, "")
	_ = cmd.RegisterFlagCompletionFunc("time-zone", cobra.FixedCompletions(
		[]string{"UTC", "America/Los_Angeles", "America/New_York", "Asia/Seoul", "Asia/Shanghai", "Asia/Tokyo", "Europe/Berlin", "Europe/London"},
		cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func (o *cronNextOptions) run(ctx context.Context, arg string, now time.Time, out, notes io.Writer) error {
	if o.count < 1 || o.count > mostTimes {
		return usage(fmt.Errorf("-n: must be from 1 to %d", mostTimes))
	}
	if err := o.output.check(); err != nil {
		return err
	}
	var zone *time.Location
	if o.zone != "" {
		var err error
		if zone, err = time.LoadLocation(o.zone); err != nil || strings.EqualFold(o.zone, "local") {
			return usage(fmt.Errorf("--time-zone: there is no time zone %q", o.zone))
		}
	}
	var next nextTimes
	var timetable cron.Timetable
	var err error
	if isSchedule(arg) {
		next.Schedule = arg
		timetable, err = scheduleTimetable(arg, zone, now)
	} else {
		timetable, err = o.ofCronJob(ctx, arg, zone, now, &next, notes)
	}
	if err != nil {
		return err
	}
	next.add(timetable, now, o.count)
	if o.output != "" {
		return o.output.print(out, next)
	}
	_, err = io.WriteString(out, next.table(now, o.count))
	return err
}

// isSchedule: no CronJob has such a name.
func isSchedule(arg string) bool {
	return strings.ContainsAny(arg, " \t*@=")
}

func scheduleTimetable(schedule string, zone *time.Location, now time.Time) (cron.Timetable, error) {
	if strings.Contains(schedule, "TZ") {
		return cron.Timetable{}, usage(errors.New("cannot use TZ or CRON_TZ in schedule, use --time-zone (in a CronJob: timeZone field) instead"))
	}
	if zone == nil {
		zone = now.Location()
	}
	t, err := cron.NewTimetable(schedule, zone, now)
	if err != nil {
		return t, usage(fmt.Errorf("%q is no schedule: %w", schedule, err))
	}
	return t, nil
}

// ofCronJob reads a CronJob; zone overrides its own.
func (o *cronNextOptions) ofCronJob(ctx context.Context, arg string, zone *time.Location, now time.Time, next *nextTimes, notes io.Writer) (cron.Timetable, error) {
	at, err := oneTarget(arg, kindCronJob)
	if err != nil {
		return cron.Timetable{}, err
	}
	client, namespace, err := o.cluster.connect()
	if err != nil {
		return cron.Timetable{}, err
	}
	c, err := client.BatchV1().CronJobs(namespace).Get(ctx, at.name, metav1.GetOptions{})
	if err != nil {
		return cron.Timetable{}, err
	}
	next.Schedule, next.Suspended = c.Spec.Schedule, ptr.Deref(c.Spec.Suspend, false)
	if next.Suspended {
		fmt.Fprintf(notes, "cronjob/%s is suspended: no Job is started at these times.\n", plain(c.Name))
	}
	if zone != nil {
		c.Spec.TimeZone = nil
	} else {
		var how string
		if zone, how = explain.Zone(now, c); c.Spec.TimeZone == nil && how != "" {
			fmt.Fprintf(notes, "cronjob/%s has no timeZone: its schedule is read%s.\n", plain(c.Name), how)
		}
	}
	t, err := cron.TimetableOf(c, time.LoadLocation, zone)
	if err != nil {
		return t, fmt.Errorf("cronjob/%s: %w", c.Name, err)
	}
	if slot, due := t.Last(now); due && !next.Suspended && now.Sub(slot) > 15*time.Second {
		fmt.Fprintf(notes, "The slot of %s has not been started; `sampan explain cronjob/%s` says why.\n", slot.In(now.Location()).Format(clockLayout), plain(c.Name))
	}
	return t, nil
}

const clockLayout = "Mon 2006-01-02 15:04:05 MST"

// nextTimes is what `sampan cron next -o json` prints: scripts rely on it.
type nextTimes struct {
	Schedule  string     `json:"schedule"`
	TimeZone  string     `json:"timeZone"`
	Suspended bool       `json:"suspended,omitempty"` // nothing is started at these times
	Times     []nextTime `json:"times"`               // fewer than asked for: none follow within five years
	zone      *time.Location
}

// nextTime is when a Job is due, or what the clocks leave out.
type nextTime struct {
	Time *time.Time `json:"time,omitempty"` // in the schedule's time zone
	// Repeat: the clocks went back, and show this for the second time.
	Repeat bool `json:"repeat,omitempty"`
	// Skipped are times that do not exist as the clocks go forward past them.
	Skipped []string `json:"skipped,omitempty"`
}

// add fills in the next n slots after now.
func (x *nextTimes) add(t cron.Timetable, now time.Time, n int) {
	x.zone, x.TimeZone, x.Times = t.Zone(), explain.ZoneName(t.Zone(), now), []nextTime{}
	for _, e := range t.Upcoming(now, n) {
		if len(e.LeftOut) == 0 {
			at := e.Time.In(x.zone)
			x.Times = append(x.Times, nextTime{Time: &at, Repeat: e.Repeat})
			continue
		}
		var skipped []string
		for _, wall := range e.LeftOut {
			skipped = append(skipped, wall.Format("2006-01-02T15:04:05"))
		}
		x.Times = append(x.Times, nextTime{Skipped: skipped})
	}
}

// table shows the times; n were asked for.
func (x *nextTimes) table(now time.Time, n int) string {
	here := now.Location()
	both := slices.ContainsFunc(x.Times, func(t nextTime) bool {
		return t.Time != nil && t.Time.Format(time.DateTime) != t.Time.In(here).Format(time.DateTime)
	})
	head := []string{x.TimeZone}
	if both {
		head = append(head, "HERE ("+explain.ZoneName(here, now)+")")
	}
	rows := [][]string{append(head, "IN")}
	slots := 0
	for _, t := range x.Times {
		if t.Time == nil {
			row := slices.Repeat([]string{"-"}, len(rows[0]))
			rows = append(rows, append(row, x.skipped(t.Skipped)))
			continue
		}
		slots++
		row := []string{t.Time.Format(clockLayout)}
		if both {
			row = append(row, t.Time.In(here).Format(clockLayout))
		}
		row = append(row, utilduration.HumanDuration(t.Time.Sub(now)))
		if t.Repeat {
			row = append(row, fmt.Sprintf("again: %s comes twice on %s, when the clocks go back",
				t.Time.Format("15:04"), t.Time.Format(time.DateOnly)))
		}
		rows = append(rows, row)
	}
	switch text := table(rows); {
	case slots == 0:
		return "never: no time within the next five years matches\n"
	case slots < n:
		return text + "and then never: no further time within five years matches\n"
	default:
		return text
	}
}

// skipped says what the clocks leave out.
func (x *nextTimes) skipped(walls []string) string {
	date, first, _ := strings.Cut(walls[0], "T")
	_, last, _ := strings.Cut(walls[len(walls)-1], "T")
	where := fmt.Sprintf("on %s in %s", date, x.TimeZone)
	if len(walls) == 1 {
		return fmt.Sprintf("skipped: %s does not exist %s", first[:5], where)
	}
	return fmt.Sprintf("skipped: %s to %s (%d times) do not exist %s", first[:5], last[:5], len(walls), where)
}
