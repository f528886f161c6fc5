package report

import (
	"bytes"
	"cmp"
	"encoding/xml"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/sampan-batch/sampan/internal/board"
)

// statusOK is how a Job ends that is no failure to anybody.
const statusOK = "Complete"

// JUnit writes a result as a report of tests: a suite for each Job and Pod, in which an
// index, or a pod where there are none, is a case. It has a failure or an error exactly if
// the run has: what failed and was made good by a later try, or is not needed by the Job's
// success policy, is told and does not count. The runner of a GitHub workflow finds none of
// its commands in it.
func JUnit(w io.Writer, res board.Result) error {
	all := suites{Name: "sampan run", Time: inSeconds(res.Seconds)}
	for i := range res.Jobs {
		s := suiteOf(&res.Jobs[i])
		all.add(s.counts)
		all.Suites = append(all.Suites, s)
	}
	body, err := xml.MarshalIndent(all, "", "  ")
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "%s%s\n", xml.Header, bytes.ReplaceAll(body, []byte("##["), []byte("##&#91;")))
	return err
}

type suites struct {
	XMLName xml.Name `xml:"testsuites"`
	Name    string   `xml:"name,attr"`
	counts
	Time   string  `xml:"time,attr"`
	Suites []suite `xml:"testsuite"`
}

type suite struct {
	Name string `xml:"name,attr"`
	counts
	Time      string     `xml:"time,attr"`
	Timestamp string     `xml:"timestamp,attr,omitempty"`
	Cases     []testcase `xml:"testcase"`
	SystemErr string     `xml:"system-err,omitempty"`
}

type counts struct {
	Tests    int `xml:"tests,attr"`
	Failures int `xml:"failures,attr"`
	Errors   int `xml:"errors,attr"`
	Skipped  int `xml:"skipped,attr"`
}

func (c *counts) add(o counts) {
	c.Tests += o.Tests
	c.Failures += o.Failures
	c.Errors += o.Errors
	c.Skipped += o.Skipped
}

type testcase struct {
	Name      string   `xml:"name,attr"`
	Class     string   `xml:"classname,attr"`
	Time      string   `xml:"time,attr"`
	Failure   *outcome `xml:"failure"`
	Error     *outcome `xml:"error"`
	Skipped   *outcome `xml:"skipped"`
	SystemErr string   `xml:"system-err,omitempty"`
}

// outcome is why a case is no success.
type outcome struct {
	Message string `xml:"message,attr"`
	Type    string `xml:"type,attr,omitempty"`
	Text    string `xml:",chardata"`
}

func suiteOf(w *board.WorkResult) suite {
	s := suite{Name: text(strings.ToLower(w.Kind) + "/" + w.Name), Time: inSeconds(w.Seconds)}
	if w.StartTime != nil {
		s.Timestamp = w.StartTime.UTC().Format(time.DateOnly + "T15:04:05")
	}
	culprit := board.Culprit(w.Pods)
	blameless := culprit == nil || culprit.StoppedByJob
	byIndex := make([]*board.PodResult, 0, len(w.Pods))
	for _, p := range w.Pods {
		switch {
		case p.Index != nil:
			byIndex = append(byIndex, p)
		case w.Status == statusOK && p.Status == "Failed":
			s.SystemErr += text(tried(p))
		default:
			s.Cases = append(s.Cases, caseOf(w, []*board.PodResult{p}, blameless))
		}
	}
	slices.SortStableFunc(byIndex, func(a, b *board.PodResult) int { return cmp.Compare(*a.Index, *b.Index) })
	for len(byIndex) > 0 {
		n := 1
		for n < len(byIndex) && *byIndex[n].Index == *byIndex[0].Index {
			n++
		}
		s.Cases = append(s.Cases, caseOf(w, byIndex[:n], blameless))
		byIndex = byIndex[n:]
	}
	s.count()
	if w.Status != statusOK && (s.Failures == 0 || w.Status != "Failed") {
		s.Cases = append(s.Cases, whole(w))
		s.count()
	}
	return s
}

func (s *suite) count() {
	s.counts = counts{Tests: len(s.Cases)}
	for _, c := range s.Cases {
		switch {
		case c.Failure != nil:
			s.Failures++
		case c.Error != nil:
			s.Errors++
		case c.Skipped != nil:
			s.Skipped++
		}
	}
}

// caseOf is the case of a pod or of all the tries of an index, of which the last counts.
// blameless: no pod failed by itself.
func caseOf(w *board.WorkResult, tries []*board.PodResult, blameless bool) testcase {
	last := tries[len(tries)-1]
	c := testcase{Name: text(last.Name), Class: text(w.Namespace + "." + w.Name), Time: inSeconds(last.Seconds)}
	if last.Index != nil {
		c.Name = fmt.Sprint("index ", *last.Index)
	}
	for _, p := range tries[:len(tries)-1] {
		c.SystemErr += text(tried(p))
	}
	if last.Status != "Failed" {
		return c
	}
	why := &outcome{Message: text(last.How()), Type: text(last.Reason), Text: text(tried(last))}
	switch {
	case w.Status == statusOK:
		why.Message = text("the Job is Complete without it: " + last.How())
		c.Skipped = why
	case last.StoppedByJob && !blameless:
		why.Message = text("the Job failed without it: " + last.How())
		c.Skipped = why
	default:
		c.Failure = why
	}
	return c
}

// whole is the case of a Job or Pod of which no pod says why it is no success.
func whole(w *board.WorkResult) testcase {
	c := testcase{Name: text(strings.ToLower(w.Kind) + "/" + w.Name), Class: text(w.Namespace + "." + w.Name), Time: inSeconds(w.Seconds)}
	why := &outcome{Message: text(strings.TrimSuffix(w.Reason+": "+w.Message, ": ")), Type: text(w.Reason)}
	switch w.Status {
	case "Failed":
		c.Failure = why
		return c
	case "Stuck":
		why.Message = text("it could not go on: " + w.Message)
	case "Stopped":
		why.Message = text(strings.TrimSuffix("it was stopped before it had ended: "+w.Message, ": "))
	case "Deleted":
		why.Message = "it was deleted before it had ended"
	case "Suspended":
		why.Message = "it was suspended before it had ended; another run goes on with it"
	case board.NotStarted:
		why.Message = "its turn had not come"
	}
	c.Error = why
	return c
}

// tried says how a pod failed, and what it wrote last.
func tried(p *board.PodResult) string {
	return fmt.Sprintf("pod %s: %s\n%s", p.Name, p.How(), lines(p.LastLines()))
}

func lines(all []string) string {
	if len(all) == 0 {
		return ""
	}
	return strings.Join(all, "\n") + "\n"
}

func inSeconds(s float64) string { return fmt.Sprintf("%.3f", s) }

// text makes of anything what XML can hold: of what it cannot, escapes that people read.
func text(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && n == 1, r < 0x20 && r != '\t' && r != '\n', r == 0x7f:
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case r >= 0x80 && r < 0xa0, r == 0xfffe, r == 0xffff:
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			b.WriteString(s[i : i+n])
		}
		i += n
	}
	return b.String()
}
