package cli

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"time"
)

func TestCronNextOfSchedules(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 7, 12, 0, 0, 0, time.UTC)
	for _, tc := range []struct {
		name, schedule, zone string
		n                    int
		want                 string
	}{
		{"one zone", "*/20 * * * *", "", 2, `
UTC                           IN
Sat 2026-03-07 12:20:00 UTC   20m
Sat 2026-03-07 12:40:00 UTC   40m
`},
		{"two zones and a time that does not exist", "30 2 * * *", "America/Los_Angeles", 2, `
America/Los_Angeles           HERE (UTC)                    IN
-                             -                             -       skipped: 02:30 does not exist on 2026-03-08 in America/Los_Angeles
Mon 2026-03-09 02:30:00 PDT   Mon 2026-03-09 09:30:00 UTC   45h
Tue 2026-03-10 02:30:00 PDT   Tue 2026-03-10 09:30:00 UTC   2d21h
`},
		{"several that do not exist", "*/20 2 8 3 *", "America/Los_Angeles", 1, `
America/Los_Angeles           HERE (UTC)                    IN
-                             -                             -      skipped: 02:00 to 02:40 (3 times) do not exist on 2026-03-08 in America/Los_Angeles
Mon 2027-03-08 02:00:00 PST   Mon 2027-03-08 10:00:00 UTC   365d
`},
		{"a time that comes twice", "30 1 1 11 *", "America/Los_Angeles", 2, `
America/Los_Angeles           HERE (UTC)                    IN
Sun 2026-11-01 01:30:00 PDT   Sun 2026-11-01 08:30:00 UTC   238d
Sun 2026-11-01 01:30:00 PST   Sun 2026-11-01 09:30:00 UTC   238d   again: 01:30 comes twice on 2026-11-01, when the clocks go back
`},
		{"never", "0 0 31 2 *", "", 3, `
never: no time within the next five years matches
`},
		{"every", "@every 1h30m", "Asia/Seoul", 1, `
Asia/Seoul                    HERE (UTC)                    IN
Sat 2026-03-07 22:30:00 KST   Sat 2026-03-07 13:30:00 UTC   90m
`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			var out bytes.Buffer
			o := cronNextOptions{count: tc.n, zone: tc.zone}
			if err := o.run(t.Context(), tc.schedule, now, &out, &out); err != nil {
				t.Fatal(err)
			}
			if got := "\n" + out.String(); got != tc.want {
				t.Errorf("got %swant %s", got, tc.want)
			}
		})
	}
}

func TestCronNextRefuses(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		arg, zone string
		n         int
		want      string
	}{
		{"* * * * 7", "", 1, `"* * * * 7" is no schedule: end of range (7) above maximum (6): 7`},
		{"TZ=UTC * * * * *", "", 1, "cannot use TZ or CRON_TZ in schedule, use --time-zone (in a CronJob: timeZone field) instead"},
		{"* * * * *", "Nowhere/Else", 1, `--time-zone: there is no time zone "Nowhere/Else"`},
		{"* * * * *", "Local", 1, `--time-zone: there is no time zone "Local"`},
		{"* * * * *", "", 0, "-n: must be from 1 to 1000"},
		{"* * * * *", "", 1001, "-n: must be from 1 to 1000"},
		{"job/x", "", 1, "job/x: give cronjob/NAME"},
	} {
		var out bytes.Buffer
		o := cronNextOptions{count: tc.n, zone: tc.zone}
		err := o.run(t.Context(), tc.arg, time.Now(), &out, &out)
		var exit *exitError
		if !errors.As(err, &exit) || exit.code != exitUsage || err.Error() != tc.want {
			t.Errorf("%s: got %v, want a usage error: %s", tc.arg, err, tc.want)
		}
	}
}

func TestCronNextForScripts(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	o := cronNextOptions{count: 3, zone: "America/Los_Angeles", output: "yaml"}
	if err := o.run(t.Context(), "30 1,2 * * *", time.Date(2026, 3, 8, 0, 0, 0, 0, time.UTC), &out, &out); err != nil {
		t.Fatal(err)
	}
	const want = `schedule: 30 1,2 * * *
timeZone: America/Los_Angeles
times:
- time: "2026-03-08T01:30:00-08:00"
- skipped:
  - 2026-03-08T02:30:00
- time: "2026-03-09T01:30:00-07:00"
- time: "2026-03-09T02:30:00-07:00"
`
	if out.String() != want {
		t.Errorf("got %s", &out)
	}

	// The farthest times that can be asked for still have a year of four digits.
	o = cronNextOptions{count: mostTimes, output: "json"}
	if err := o.run(t.Context(), "0 0 29 2 *", time.Now(), io.Discard, io.Discard); err != nil {
		t.Error(err)
	}
}

func TestReadTargets(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ args, want string }{
		{"job/a", "job/a"}, {"job a", "job/a"}, {"jobs a b", "job/a job/b"}, {"job/a cj/b pod/c", "job/a cronjob/b pod/c"},
		{"jobs", "all job/*"}, {"cronjob", "all cronjob/*"},
		{"job/a b", ""}, {"job a job/b", ""}, {"node a", ""}, {"node", ""}, {"a/b/c", ""}, {"job/", ""},
	} {
		targets, all, err := readTargets(strings.Fields(tc.args), kindJob, kindCronJob, kindPod)
		var words []string
		if all {
			words = append(words, "all")
		}
		for _, at := range targets {
			words = append(words, at.kind+"/"+at.name)
		}
		if got := strings.Join(words, " "); got != tc.want || (err == nil) != (tc.want != "") {
			t.Errorf("%s: got %q, %v; want %q", tc.args, got, err, tc.want)
		}
	}
}

func TestParseTarget(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ arg, plain, want string }{
		{"job/x", "", "job/x"}, {"jobs.batch/x", "", "job/x"}, {"Job/x", "", "job/x"},
		{"cj/x", "", "cronjob/x"}, {"cronjob.batch/x", "", "cronjob/x"},
		{"po/x", "", "pod/x"}, {"pods/x", "", "pod/x"}, {"x", kindJob, "job/x"},
		{"x", "", ""}, {"job/", "", ""}, {"/x", "", ""}, {"job/x/y", "", ""}, {"deploy/x", "", ""}, {"", kindJob, ""},
	} {
		got, err := parseTarget(tc.arg, tc.plain)
		text := got.kind + "/" + got.name
		if err != nil {
			text = ""
		}
		if text != tc.want {
			t.Errorf("parseTarget(%q, %q) = %q, %v; want %q", tc.arg, tc.plain, text, err, tc.want)
		}
	}
}
