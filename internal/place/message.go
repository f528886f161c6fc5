package place

import (
	"fmt"
	"sort"
	"strings"
)

// unhelpful is said of nodes on which nobody's going would help.
const unhelpful = "Preemption is not helpful for scheduling"

// nowhere words why no node at all can have a pod, as kube-scheduler does.
func nowhere(nodes int, why string) string {
	return fmt.Sprintf("0/%d nodes are available: %s. preemption: %s", nodes, why, histogram(nodes, map[string]int{unhelpful: nodes}))
}

// unavailable words the refusals of all nodes as kube-scheduler does.
func (t *trial) unavailable() string {
	why := map[string]int{}
	for _, r := range t.refusals {
		for _, reason := range r.why {
			why[reason]++
		}
	}
	return histogram(len(t.rooms), why)
}

// histogram says how many nodes there are to which what applies.
func histogram(nodes int, why map[string]int) string {
	var parts []string
	for reason, n := range why {
		parts = append(parts, fmt.Sprintf("%d %s", n, reason))
	}
	sort.Strings(parts)
	return fmt.Sprintf("0/%d nodes are available: %s.", nodes, strings.Join(parts, ", "))
}
