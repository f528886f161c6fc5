package board

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/sampan-batch/sampan/internal/explain"
	"github.com/sampan-batch/sampan/internal/kind"
)

// mark is how many had ended at a moment.
type mark struct {
	at    time.Time
	works int
	pods  int
}

// window is the time over which the rate is taken.
const window = 10 * time.Second

// mark takes note of how far the run is, ten times a second at most.
func (b *Board) mark(now time.Time) {
	m := mark{now, b.ended.sum(), b.units}
	if n := len(b.marks); n > 0 && now.Sub(b.marks[n-1].at) < window/100 {
		m.at = b.marks[n-1].at
		b.marks[n-1] = m
		return
	}
	old := 0
	for old < len(b.marks) && now.Sub(b.marks[old].at) > window {
		old++
	}
	b.marks = append(slices.Delete(b.marks, 0, max(0, old-1)), m)
}

// progress is how many of how many are done; total 0 means that nobody knows.
type progress struct {
	done, total int
	unit        string
}

// progress counts Jobs or, where there is but one, what it consists of.
func (b *Board) progress() progress {
	if len(b.order) != 1 || b.order[0].job == nil {
		return progress{b.ended.sum(), len(b.order), b.noun()}
	}
	j := b.order[0].job
	unit := "pods"
	if kind.Indexed(&j.Spec) {
		unit = "indexes"
	}
	if j.Spec.Completions == nil {
		return progress{int(j.Status.Succeeded), 0, unit}
	}
	return progress{int(j.Status.Succeeded), int(*j.Spec.Completions), unit}
}

// noun is what the works are.
func (b *Board) noun() string {
	jobs := slices.ContainsFunc(b.order, func(w *work) bool { return w.kind == "job" })
	pods := slices.ContainsFunc(b.order, func(w *work) bool { return w.kind == "pod" })
	switch {
	case jobs && pods:
		return "Jobs and Pods"
	case pods:
		return "Pods"
	}
	return "Jobs"
}

// state is how many pods do what.
type state struct {
	running, waiting, terminating int
	pulling                       string // how far a pull is that pods wait for: the least by name
}

func (b *Board) state() state {
	var s state
	for _, p := range b.pods {
		switch {
		case kind.PodEnded(p.Pod):
		case p.DeletionTimestamp != nil:
			s.terminating++
		case p.Status.Phase == corev1.PodRunning:
			s.running++
		default:
			s.waiting++
			if pull := explain.PullOf(p.Pod); pull != "" && (s.pulling == "" || pull < s.pulling) {
				s.pulling = pull
			}
		}
	}
	for _, c := range b.beside {
		for _, p := range c.pods {
			if pull := explain.PullOf(p.Pod); pull != "" && (s.pulling == "" || pull < s.pulling) {
				s.pulling = pull
			}
		}
	}
	return s
}

// failures is how many works failed, or, of a single Job, how many of its pods.
func (b *Board) failures() int {
	if len(b.order) == 1 && b.order[0].job != nil {
		return len(b.failed)
	}
	return b.ended.failed + b.ended.other
}

// rate is how many a second were done lately, and how long the rest takes at that rate;
// 0 where that cannot be said.
func (b *Board) rate(now time.Time, p progress) (perSecond float64, left time.Duration) {
	const enough = 3 // of them
	if len(b.marks) == 0 {
		return 0, 0
	}
	first, last := b.marks[0], b.marks[len(b.marks)-1]
	since := first.at
	done := last.works - first.works
	if len(b.order) == 1 && b.order[0].job != nil {
		done = last.pods - first.pods
	}
	if now.Sub(b.began) <= window {
		since = b.began
		done = p.done - b.before()
	}
	span := now.Sub(since).Seconds()
	if done < enough || span < 0.5 {
		return 0, 0
	}
	perSecond = float64(done) / span
	if p.total > p.done {
		left = time.Duration(float64(p.total-p.done) / perSecond * float64(time.Second))
	}
	return perSecond, left
}

// Line is the state of the run in a line: of columns, if that is more than 0.
func (b *Board) Line(now time.Time, columns int) string {
	p, s := b.progress(), b.state()
	count := fmt.Sprintf("%d/%d %s", p.done, p.total, p.unit)
	if p.total == 0 {
		count = fmt.Sprintf("%d %s", p.done, p.unit)
	}
	if len(b.order) == 1 {
		count = b.order[0].name(b) + "  " + strings.TrimSuffix(count, " Pods")
	}
	var does []string
	add := func(n int, what string) {
		if n > 0 {
			does = append(does, fmt.Sprintf("%d %s", n, what))
		}
	}
	add(b.failures(), "failed")
	add(s.running, "running")
	add(s.waiting, "waiting")
	add(s.terminating, "terminating")
	add(len(b.queued), "queued")
	if s.pulling != "" {
		does = append(does, s.pulling)
	}
	if names := b.Awaited(now); names != "" {
		does = append(does, "waiting for "+names)
	}
	parts := []part{{text: count}, {text: bar(p), rank: 4}, {text: strings.Join(does, ", "), rank: 1}}
	rate, left := b.rate(now, p)
	if rate > 0 {
		parts = append(parts, part{text: fmt.Sprintf("%.3g/s", rate), rank: 3})
	}
	parts = append(parts, part{text: clock(now.Sub(b.began)), rank: 1})
	if left > 0 {
		parts = append(parts, part{text: "~" + Duration(left.Round(time.Second)) + " left", rank: 2})
	}
	if columns <= 0 {
		parts = slices.DeleteFunc(parts, func(p part) bool { return p.rank == 4 })
	}
	return fitParts(parts, columns)
}

// part is a part of a line; those with the highest rank are left out first.
type part struct {
	text string
	rank int
}

func fitParts(parts []part, columns int) string {
	for {
		var texts []string
		worst := 0
		for i, p := range parts {
			if p.text != "" {
				texts = append(texts, p.text)
				if p.rank >= parts[worst].rank {
					worst = i
				}
			}
		}
		line := strings.Join(texts, "  ")
		if columns <= 0 || Width(line) < columns || parts[worst].rank == 0 {
			return Cut(line, columns)
		}
		parts = slices.Delete(parts, worst, worst+1)
	}
}

// bar is drawn in eighths of a column.
func bar(p progress) string {
	const columns = 20
	if p.total < 2 {
		return ""
	}
	eighths := columns * 8 * min(p.done, p.total) / p.total
	text := strings.Repeat("█", eighths/8)
	if part := eighths % 8; part > 0 {
		text += string([]rune("▏▎▍▌▋▊▉")[part-1])
	}
	return text + strings.Repeat(" ", columns-len([]rune(text)))
}

// Frame is what a terminal shows while the run goes on: the line, what failed last, and
// what runs longest, in at most a third of its rows.
func (b *Board) Frame(now time.Time, columns, rows int) []string {
	lines := []string{b.Line(now, columns)}
	room := max(1, rows/3) - 1
	if len(b.order) == 1 && b.order[0].job == nil || room <= 0 {
		return lines
	}
	failed := b.failedLines((room + 1) / 2)
	lines = append(lines, failed...)
	lines = append(lines, b.runningLines(now, room-len(failed))...)
	for i := range lines[1:] {
		lines[i+1] = Cut(lines[i+1], columns)
	}
	return lines
}

// failedLines names the last that failed.
func (b *Board) failedLines(room int) []string {
	var lines []string
	for _, r := range slices.Backward(b.failed) {
		if len(lines) == room {
			break
		}
		line := "  ✗ " + r.Name + "  " + r.How()
		if words := r.LastWords(); words != "" {
			line += ": " + words
		}
		lines = append(lines, line)
	}
	slices.Reverse(lines)
	return lines
}

// runningLines names those that have taken longest, and what keeps the others.
func (b *Board) runningLines(now time.Time, room int) []string {
	if room <= 0 || len(b.pods) < 2 {
		return nil
	}
	var longest []*pod // the longest first, at most room
	for _, p := range b.pods {
		if kind.PodEnded(p.Pod) {
			continue
		}
		at, _ := slices.BinarySearchFunc(longest, p, func(a, p *pod) int {
			return cmp.Or(a.began.Compare(p.began), cmp.Compare(a.Name, p.Name))
		})
		if at < room {
			longest = slices.Insert(longest, at, p)
			longest = longest[:min(room, len(longest))]
		}
	}
	lines := make([]string, len(longest))
	for i, p := range longest {
		line := fmt.Sprintf("  ▸ %s  %s", p.Name, Duration(now.Sub(p.began)))
		if o, ok := explain.ObstacleOf(now, p.Pod, b.events[p.UID]); ok {
			line = fmt.Sprintf("  … %s  %s  %s", p.Name, Duration(now.Sub(p.began)), o.Now)
			if !o.Until.IsZero() {
				line += "; next try in " + Duration(max(0, o.Until.Sub(now)).Round(time.Second))
			}
		} else if p.DeletionTimestamp != nil {
			line += "  terminating"
		}
		lines[i] = line
	}
	return lines
}

// clock is an elapsed time as clocks show it.
func clock(d time.Duration) string {
	s := int(d.Seconds())
	if s >= 3600 {
		return fmt.Sprintf("%d:%02d:%02d", s/3600, s/60%60, s%60)
	}
	return fmt.Sprintf("%02d:%02d", s/60, s%60)
}

// Duration is a time that something took, for people: "0.24s", "12s", "3m4s", "1h30m".
func Duration(d time.Duration) string {
	if d = max(0, d.Round(10*time.Millisecond)); d < 9950*time.Millisecond {
		return fmt.Sprintf("%.2gs", d.Seconds())
	}
	d = d.Round(time.Second)
	if d >= 2*time.Hour {
		d = d.Round(time.Minute)
	}
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

// Width is how many columns a text takes, rather more than fewer.
func Width(s string) int {
	n := 0
	for _, r := range s {
		n += columnsOf(r)
	}
	return n
}

// columnsOf: what terminals show in two columns is above U+1100, but for blocks and
// signs of ours.
func columnsOf(r rune) int {
	if r >= 0x1100 && (r < 0x2000 || r >= 0x2e80) || r >= 0x2600 && r < 0x2700 && r != '✗' {
		return 2
	}
	return 1
}

// Cut cuts a text so that it leaves the last column free; 0 columns cut nothing.
func Cut(s string, columns int) string {
	if columns <= 0 || Width(s) < columns {
		return s
	}
	n := 0
	for i, r := range s {
		if n += columnsOf(r); n >= columns-1 {
			return s[:i] + "…"
		}
	}
	return s
}
