package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sampan-batch/sampan/internal/cron"
	"github.com/sampan-batch/sampan/internal/explain"
)

func newCron() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "cron",
		Short: "Look at the schedules of CronJobs",
		Long:  `Commands about schedules. "sampan explain cronjob/NAME" says why one has, or has not, run.`,
		Args:  wantArgs(cobra.NoArgs, "cron needs a subcommand: next"),
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newCronNext())
	return cmd
}

type cronNextOptions struct {
	cluster cluster
	count   int
	zone    string
}

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

Without a time zone a schedule is read in this machine's, a CronJob of another cluster in
UTC, which is what Kubernetes' own controller nearly always lives in.`,
		Example: `  sampan cron next "30 2 * * 1-5"
  sampan cron next "30 2 * * *" --time-zone America/Los_Angeles -n 30
  sampan cron next nightly`,
		Args: wantArgs(cobra.ExactArgs(1), `of what? Give the name of a CronJob, or a schedule in quotes`),
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.run(cmd.Context(), args[0], time.Now(), cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
		ValidArgsFunction: o.cluster.completeTargets(kindCronJob),
	}
	f := cmd.Flags()
	f.IntVarP(&o.count, "count", "n", 10, "how many times to print")
	f.StringVar(&o.zone, "time-zone", "", `the time zone to read the schedule in, such as "Asia/Seoul" (default: the CronJob's, else this machine's)`)
	o.cluster.addFlags(cmd, f, "")
	_ = cmd.RegisterFlagCompletionFunc("time-zone", cobra.FixedCompletions(
		[]string{"UTC", "America/Los_Angeles", "America/New_York", "Asia/Seoul", "Asia/Shanghai", "Asia/Tokyo", "Europe/Berlin", "Europe/London"},
		cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func (o *cronNextOptions) run(ctx context.Context, arg string, now time.Time, out, notes io.Writer) error {
	if o.count < 1 {
		return usage(errors.New("-n: must be at least 1"))
	}
	var zone *time.Location
	if o.zone != "" {
		var err error
		if zone, err = time.LoadLocation(o.zone); err != nil || strings.EqualFold(o.zone, "local") {
			return usage(fmt.Errorf("--time-zone: there is no time zone %q", o.zone))
		}
	}
	var timetable cron.Timetable
	var err error
	if isSchedule(arg) {
		timetable, err = scheduleTimetable(arg, zone, now)
	} else {
		timetable, err = o.ofCronJob(ctx, arg, zone, now, notes)
	}
	if err != nil {
		return err
	}
	_, err = io.WriteString(out, nextTimes(timetable, now, o.count))
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
func (o *cronNextOptions) ofCronJob(ctx context.Context, arg string, zone *time.Location, now time.Time, notes io.Writer) (cron.Timetable, error) {
	at, err := oneTarget([]string{arg}, kindCronJob, kindCronJob)
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
	if c.Spec.Suspend != nil && *c.Spec.Suspend {
		fmt.Fprintf(notes, "cronjob/%s is suspended: no Job is started at these times.\n", c.Name)
	}
	if zone != nil {
		c.Spec.TimeZone = nil
	} else if zone = explain.Zone(now, c); c.Spec.TimeZone == nil {
		fmt.Fprintf(notes, "cronjob/%s has no timeZone: its schedule is taken to be read in %s.\n", c.Name, zoneName(zone))
	}
	t, err := cron.TimetableOf(c, zone)
	if err != nil {
		return t, fmt.Errorf("cronjob/%s: %w", c.Name, err)
	}
	return t, nil
}

const clockLayout = "Mon 2006-01-02 15:04:05 MST"

// nextTimes is the table of the next n slots after now.
func nextTimes(t cron.Timetable, now time.Time, n int) string {
	local := now.Location()
	both := zoneName(local) != zoneName(t.Zone())
	head := []string{zoneName(t.Zone())}
	if both {
		head = append(head, "HERE ("+zoneName(local)+")")
	}
	rows := [][]string{append(head, "IN")}
	slots := 0
	for _, e := range t.Upcoming(now, n) {
		var row []string
		switch {
		case len(e.LeftOut) > 0:
			row = []string{"-", "-"}
			if both {
				row = append(row, "-")
			}
			row = append(row, skipped(e, t.Zone()))
		default:
			slots++
			row = []string{e.Time.In(t.Zone()).Format(clockLayout)}
			if both {
				row = append(row, e.Time.In(local).Format(clockLayout))
			}
			row = append(row, duration(e.Time.Sub(now)))
			if e.Repeat {
				row = append(row, fmt.Sprintf("again: %s comes twice on %s, when the clocks go back",
					e.Time.In(t.Zone()).Format("15:04"), e.Time.In(t.Zone()).Format(time.DateOnly)))
			}
		}
		rows = append(rows, row)
	}
	text := table(rows)
	switch {
	case slots == 0:
		return "never: no time within the next five years matches\n"
	case slots < n:
		text += "and then never: no further time within five years matches\n"
	}
	return text
}

// skipped says what the clocks leave out.
func skipped(e cron.Entry, zone *time.Location) string {
	first, last := e.LeftOut[0], e.LeftOut[len(e.LeftOut)-1]
	where := fmt.Sprintf("on %s in %s", first.Format(time.DateOnly), zoneName(zone))
	if len(e.LeftOut) == 1 {
		return fmt.Sprintf("skipped: %s does not exist %s", first.Format("15:04"), where)
	}
	return fmt.Sprintf("skipped: %s to %s (%d times) do not exist %s", first.Format("15:04"), last.Format("15:04"), len(e.LeftOut), where)
}

// zoneName names a time zone; this machine's has none of its own.
func zoneName(zone *time.Location) string {
	if zone == time.Local {
		name, _ := time.Now().In(zone).Zone()
		return name
	}
	return zone.String()
}
