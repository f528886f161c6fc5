package report

import (
	"strings"
	"testing"
	"time"
)

// TestPrint shows that a table has what was done, and every finding.
func TestPrint(t *testing.T) {
	t.Parallel()
	var progress, table strings.Builder
	r := New(&progress)
	round := r.Begin("kill", "host, root")
	round.Count(Kills, 3)
	round.Count("reads", 7)
	round.Took("ready after", 20*time.Millisecond)
	round.Figure("one figure")
	for range findingsMax + 2 {
		round.Find("a promise was broken")
	}
	round.End()
	r.Print(&table, 42)
	for _, want := range []string{"seed 42", "kill    host, root", "3 kills, 7 reads", "ready after 20ms, at most 20ms (1)", "one figure", "a promise was broken", "and 2 more"} {
		if !strings.Contains(table.String(), want) {
			t.Errorf("the table lacks %q:\n%s", want, &table)
		}
	}
	if !strings.Contains(progress.String(), "kill: FOUND: a promise was broken") || len(r.Findings()) != findingsMax || r.Counted(Kills) != 3 {
		t.Errorf("%d findings, progress:\n%s", len(r.Findings()), &progress)
	}
}
