package report

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"

	"github.com/sampan-batch/sampan/internal/board"
)

// JoblogHead is the first line of a log of jobs. The first eight columns are those of GNU
// parallel, in its order, so that what reads one reads the other.
const JoblogHead = "Seq\tHost\tStarttime\tJobRuntime\tSend\tReceive\tExitval\tSignal\tJob\tIndex\tAttempt\tReason"

// noExit is the Exitval of a pod of which no container had an end, as one that was evicted
// before it could start.
const noExit = -1

// JoblogLine is the line of a pod that has ended. job is what its Job or Pod is called.
func JoblogLine(seq int, job string, p *board.PodResult) string {
	exit, signal, received := int32(noExit), int32(0), int64(0)
	if p.ExitCode != nil {
		exit = *p.ExitCode
	}
	if p.Status == "Failed" && exit == 0 {
		exit = noExit // it failed all the same, by its deadline for one
	}
	for _, c := range p.Containers {
		received += c.OutputBytes
		if c.ExitCode == exit && signal == 0 {
			signal = c.Signal
		}
	}
	start := p.StartTime
	if start == nil {
		start = p.EndTime
	}
	index := ""
	if p.Index != nil {
		index = strconv.Itoa(*p.Index)
	}
	return fmt.Sprintf("%d\t%s\t%.3f\t%.3f\t0\t%d\t%d\t%d\t%s\t%s\t%d\t%s", seq, p.Name, float64(start.UnixMilli())/1000, p.Seconds,
		received, exit, signal, job, index, p.Attempt, oneCell(p.Reason))
}

// oneCell keeps a text in its column.
func oneCell(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, s)
}

// JoblogEntry is what has to be known of a line to go on after it.
type JoblogEntry struct {
	Seq       int
	Host, Job string
}

// ParseJoblogLine reads a line that JoblogLine wrote.
func ParseJoblogLine(line string) (JoblogEntry, error) {
	cells := strings.Split(line, "\t")
	if want := strings.Count(JoblogHead, "\t") + 1; len(cells) != want {
		return JoblogEntry{}, fmt.Errorf("%d columns instead of %d", len(cells), want)
	}
	seq, err := strconv.Atoi(cells[0])
	if err != nil || seq < 1 {
		return JoblogEntry{}, fmt.Errorf("%q is no Seq", cells[0])
	}
	return JoblogEntry{Seq: seq, Host: cells[1], Job: cells[8]}, nil
}
