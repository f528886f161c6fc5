package cli

import (
	"errors"
	"fmt"
	"math"
	"os"
	"strconv"
	"strings"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sampan-batch/sampan/internal/board"
	corejob "github.com/sampan-batch/sampan/internal/job"
	"github.com/sampan-batch/sampan/internal/report"
)

const (
	complete = string(batchv1.JobComplete)
	failed   = string(batchv1.JobFailed)

	// rowsOfResults is up to how many works the closing table has a row for each; of more,
	// those that succeeded are a number.
	rowsOfResults = 20
	// mostFailures is how many failures are shown with their last words.
	mostFailures = 10
	mostRows     = 50
)

// result is what became of what was followed until err: nil when all has ended.
func (f *follower) result(err error) (board.Result, error) {
	now := time.Now()
	res := board.Result{Status: complete, ExitCode: exitOK, StartTime: &metav1.MicroTime{Time: f.board.Began().UTC().Truncate(time.Millisecond)}}
	var stuck *stuckError
	var early *failedFast
	switch {
	case errors.As(err, &early):
		res.Status, res.ExitCode, res.Reason = failed, exitFailed, early.why
	case errors.As(err, &stuck):
		res.Status, res.ExitCode, res.Reason = failed, exitFailed, stuck.why
	case errors.Is(err, errInterrupted):
		res.Status, res.ExitCode = "Interrupted", exitInterrupted
	case errors.Is(err, errTimedOut):
		res.Status, res.ExitCode = "TimedOut", exitTimedOut
	case err != nil:
		return res, err
	}
	res.Jobs, res.Seconds = f.board.Results(now), f.board.Seconds(now)
	if err != nil {
		return res, nil
	}
	for _, w := range res.Jobs {
		if w.Status != complete {
			res.Status, res.ExitCode = failed, exitFailed
		}
	}
	return res, nil
}

// formatJUnit is the format of a report of tests.
const formatJUnit = "junit"

// conclude tells a result, and returns its exit status.
func conclude(res board.Result, format string, out *console) error {
	if err := tell(res, format, out); err != nil {
		return err
	}
	if res.ExitCode == exitOK {
		return out.err()
	}
	exit := &exitError{code: res.ExitCode}
	if res.Reason != "" {
		exit.err = errors.New(res.Reason)
	}
	return exit
}

// tell prints a result: for machines to standard output, for people to out.
func tell(res board.Result, format string, out *console) error {
	if format == "" {
		tellPeople(res.Jobs, out)
	}
	return tellMachines(res, format)
}

func tellMachines(res board.Result, format string) error {
	switch format {
	case "":
		return nil
	case formatJUnit:
		return report.JUnit(os.Stdout, res)
	}
	return outputFormat(format).print(os.Stdout, res)
}

// tellPeople prints the closing table, and how what failed did.
func tellPeople(works []board.WorkResult, out *console) {
	text := "\n"
	rows, more := resultRows(works)
	if len(rows) > 1 {
		text += table(rows)
	}
	if more != "" {
		text += more + "\n"
	}
	out.Print(text)
	shown := 0
	for i := range works {
		w := &works[i]
		if w.Status == complete {
			continue
		}
		if how := failure(w); how != "" && shown < mostFailures {
			shown++
			out.Failure(plain(strings.ToLower(w.Kind)+"/"+w.Name+" "+w.Status), how)
		}
	}
}

// resultRows are the rows of the table, and what is said of those that have none.
func resultRows(works []board.WorkResult) (rows [][]string, more string) {
	namespaces := map[string]bool{}
	for _, w := range works {
		namespaces[w.Namespace] = true
	}
	head := []string{"JOB", "STATUS", "COMPLETIONS", "FAILED", "DURATION"}
	if len(namespaces) > 1 {
		head = append([]string{"NAMESPACE"}, head...)
	}
	rows = [][]string{head}
	all, good, left := len(works) <= rowsOfResults, 0, 0
	var longest *board.WorkResult
	for i := range works {
		w := &works[i]
		if !all && w.Status == complete {
			good++
			if longest == nil || w.Seconds > longest.Seconds {
				longest = w
			}
			continue
		}
		if len(rows) > mostRows {
			left++
			continue
		}
		row := resultRow(w)
		if len(namespaces) > 1 {
			row = append([]string{w.Namespace}, row...)
		}
		rows = append(rows, row)
	}
	if left > 0 {
		more = fmt.Sprintf("and %d more that are not Complete\n", left)
	}
	if longest != nil {
		more += fmt.Sprintf("%d Complete (the longest took %s: %s)", good, took(longest), plain(longest.Name))
	}
	return rows, strings.TrimSuffix(more, "\n")
}

func resultRow(w *board.WorkResult) []string {
	name, status := w.Name, w.Status
	if w.Kind == "Pod" {
		name = "pod/" + name
	}
	if w.Status == failed && w.Reason != "" {
		status += " (" + w.Reason + ")"
	}
	count := strconv.Itoa(int(w.Succeeded))
	if w.Completions != nil {
		count = fmt.Sprintf("%d/%d", w.Succeeded, *w.Completions)
	}
	return []string{name, status, count, strconv.Itoa(int(w.Failed)), took(w)}
}

func took(w *board.WorkResult) string {
	return board.Duration(time.Duration(w.Seconds * float64(time.Second)))
}

// fewIndexes is a list of indexes in a length that suits a line; -o json has all of them.
func fewIndexes(all string) string {
	const most = 100
	if len(all) <= most {
		return all
	}
	return fmt.Sprintf("%s,… (%d)", all[:strings.LastIndexByte(all[:most], ',')], corejob.ParseIndexes(all, math.MaxInt32).Len())
}

// failure says how a work failed: its last pod that did, and what that wrote last.
func failure(w *board.WorkResult) string {
	var text strings.Builder
	head := "✗ " + strings.ToLower(w.Kind) + "/" + w.Name
	if w.FailedIndexes != "" {
		head += "  failed indexes: " + fewIndexes(w.FailedIndexes)
	}
	switch w.Status {
	case "Stuck":
		return plain(head+": "+w.Message) + "\n"
	case "Stopped":
		if w.Message == "" { // it only had not come to its end
			return ""
		}
		return plain(head+" was stopped: "+w.Message) + "\n"
	}
	last := board.Culprit(w.Pods)
	if last == nil {
		if w.Message == "" {
			return ""
		}
		return plain(head+": "+w.Message) + "\n"
	}
	if w.Kind == "Job" {
		head += ": pod " + last.Name
	}
	fmt.Fprintln(&text, plain(head+": "+last.How()))
	for _, line := range last.LastLines() {
		fmt.Fprintln(&text, "    "+logLine(line, false))
	}
	return text.String()
}
