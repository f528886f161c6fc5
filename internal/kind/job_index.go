package kind

import (
	"fmt"
	"strconv"
	"strings"
)

// interval is a run of completion indexes, both ends included.
type interval struct{ first, last int32 }

// countIndexes returns how many indexes the text ("1,3-5") holds. Each must be
// below completions, and greater than the one before.
func countIndexes(text string, completions int32) (int32, error) {
	if text == "" {
		return 0, nil
	}
	total, last := int32(0), int32(-1)
	for i, part := range strings.Split(text, ",") {
		run, err := parseInterval(part, completions)
		if err != nil {
			return 0, err
		}
		if i > 0 && last >= run.first {
			return 0, fmt.Errorf("non-increasing order, previous: %d, current: %d", last, run.first)
		}
		total += run.last - run.first + 1
		last = run.last
	}
	return total, nil
}

// parseInterval reads "3" or "3-5".
func parseInterval(text string, completions int32) (interval, error) {
	limits := strings.Split(text, "-")
	if len(limits) > 2 {
		return interval{}, fmt.Errorf("the fragment %q violates the requirement that an index interval "+
			"can have at most two parts separated by '-'", text)
	}
	first, err := parseIndex(limits[0], completions)
	if err != nil || len(limits) == 1 {
		return interval{first, first}, err
	}
	last, err := parseIndex(limits[1], completions)
	if err == nil && first >= last {
		err = fmt.Errorf("non-increasing order, previous: %d, current: %d", first, last)
	}
	return interval{first, last}, err
}

func parseIndex(text string, completions int32) (int32, error) {
	index, err := strconv.Atoi(text)
	if err != nil {
		return 0, fmt.Errorf("cannot convert string to integer for index: %q", text)
	}
	if index >= int(completions) {
		return 0, fmt.Errorf("too large index: %q", text)
	}
	return int32(index), nil
}

// firstCommonIndex finds an index that is in both lists. Parts that cannot be
// read are passed over; their format is somebody else's to check.
func firstCommonIndex(a, b string, completions int32) (int32, bool) {
	if a == "" || b == "" {
		return 0, false
	}
	as, bs := intervals(a, completions), intervals(b, completions)
	for len(as) > 0 && len(bs) > 0 {
		x, y := as[0], bs[0]
		switch {
		case x.first <= y.last && y.first <= x.last:
			return max(x.first, y.first), true
		case x.first <= y.first:
			as = as[1:]
		default:
			bs = bs[1:]
		}
	}
	return 0, false
}

// intervals returns the parts of the text that can be read.
func intervals(text string, completions int32) []interval {
	var runs []interval
	for part := range strings.SplitSeq(text, ",") {
		if run, err := parseInterval(part, completions); err == nil {
			runs = append(runs, run)
		}
	}
	return runs
}
