package job

import (
	"iter"
	"math"
	"slices"
	"strconv"
	"strings"
)

// Indexes is a set of completion indexes, kept as what status.completedIndexes
// and status.failedIndexes spell out ("1,3-5,7"): ascending spans that neither
// overlap nor touch. A hundred thousand indexes that end in order are one span.
type Indexes []span

// span is a closed range of indexes.
type span struct{ first, last int32 }

// ParseIndexes reads the indexes below completions from s. Items that are not
// an index or an ascending range, or that do not come after the ones before
// them, are left out, as are the indexes from completions on: status may be
// from a time when the Job had more.
func ParseIndexes(s string, completions int32) Indexes {
	set, _ := parseIndexes(s, completions)
	return set
}

// parseIndexes also reports whether s is exactly what the set prints as.
func parseIndexes(s string, completions int32) (set Indexes, exact bool) {
	exact = true
	if n := strings.Count(s, ","); n > 0 {
		set = make(Indexes, 0, n+1)
	}
	for more := s != ""; more; {
		var item span
		var ok, short bool
		item, s, more, ok, short = parseItem(s)
		n := len(set)
		if !ok || item.first >= completions || n > 0 && item.first <= set[n-1].last {
			exact = false
			continue
		}
		if item.last >= completions {
			item.last, exact = completions-1, false
		}
		if n > 0 && item.first == set[n-1].last+1 {
			// "3,4" is how a span of two prints; a longer one prints as a range.
			exact = exact && short && item.first == item.last && set[n-1].first == set[n-1].last
			set[n-1].last = item.last
			continue
		}
		exact = exact && short
		set = append(set, item)
	}
	return set, exact
}

// parseItem reads "7" or "3-5" up to a comma or the end. short says that the
// item has no needless digits and, if a range, holds more than two indexes.
func parseItem(s string) (item span, rest string, more, ok, short bool) {
	end := 0
	for end < len(s) && s[end] != ',' {
		end++
	}
	text := s[:end]
	if end < len(s) {
		rest, more = s[end+1:], true
	}
	var plain bool
	if item.first, text, ok, short = parseIndex(text); !ok {
		return item, rest, more, false, false
	}
	item.last = item.first
	if text == "" {
		return item, rest, more, true, short
	}
	if text[0] != '-' {
		return item, rest, more, false, false
	}
	if item.last, text, ok, plain = parseIndex(text[1:]); !ok || text != "" || item.last < item.first {
		return item, rest, more, false, false
	}
	return item, rest, more, true, short && plain && item.last > item.first+1
}

// parseIndex reads a decimal number that fits an int32; like Kubernetes it takes
// a plus sign before it. plain says that there is none, and no leading zero.
func parseIndex(s string) (n int32, rest string, ok, plain bool) {
	digits := strings.TrimPrefix(s, "+")
	i, v := 0, int64(0)
	for ; i < len(digits) && digits[i] >= '0' && digits[i] <= '9'; i++ {
		if v = v*10 + int64(digits[i]-'0'); v > math.MaxInt32 {
			return 0, "", false, false
		}
	}
	plain = len(digits) == len(s) && (i == 1 || i > 0 && s[0] != '0')
	return int32(v), digits[i:], i > 0, plain
}

// String spells the set as Kubernetes does: "1,3-5,7,8".
func (x Indexes) String() string {
	buf := make([]byte, 0, 8*len(x))
	for i, s := range x {
		if i > 0 {
			buf = append(buf, ',')
		}
		buf = strconv.AppendInt(buf, int64(s.first), 10)
		switch {
		case s.last == s.first:
			continue
		case s.last == s.first+1:
			buf = append(buf, ',')
		default:
			buf = append(buf, '-')
		}
		buf = strconv.AppendInt(buf, int64(s.last), 10)
	}
	return string(buf)
}

// Len is how many indexes the set holds.
func (x Indexes) Len() int32 {
	var n int32
	for _, s := range x {
		n += s.last - s.first + 1
	}
	return n
}

// Has reports whether i is in the set.
func (x Indexes) Has(i int32) bool {
	at, _ := slices.BinarySearchFunc(x, i, func(s span, i int32) int { return int(s.last) - int(i) })
	return at < len(x) && x[at].first <= i
}

// All yields the indexes in ascending order.
func (x Indexes) All() iter.Seq[int32] {
	return func(yield func(int32) bool) {
		for _, s := range x {
			for i := s.first; i <= s.last; i++ {
				if !yield(i) {
					return
				}
			}
		}
	}
}

// union returns what is in x or y.
func (x Indexes) union(y Indexes) Indexes {
	if len(y) == 0 {
		return x
	}
	if len(x) == 0 {
		return y
	}
	out := make(Indexes, 0, len(x)+len(y))
	for len(x) > 0 || len(y) > 0 {
		var next span
		if len(y) == 0 || len(x) > 0 && x[0].first <= y[0].first {
			next, x = x[0], x[1:]
		} else {
			next, y = y[0], y[1:]
		}
		if n := len(out); n > 0 && next.first <= out[n-1].last+1 {
			out[n-1].last = max(out[n-1].last, next.last)
		} else {
			out = append(out, next)
		}
	}
	return out
}

// minus returns what is in x and not in y.
func (x Indexes) minus(y Indexes) Indexes {
	var out Indexes
	for _, s := range x {
		for len(y) > 0 && y[0].last < s.first {
			y = y[1:]
		}
		rest := y
		for ; len(rest) > 0 && rest[0].first <= s.last; rest = rest[1:] {
			if rest[0].first > s.first {
				out = append(out, span{s.first, rest[0].first - 1})
			}
			s.first = rest[0].last + 1
		}
		if s.first <= s.last {
			out = append(out, s)
		}
	}
	return out
}

// overlap is how many indexes x and y share.
func (x Indexes) overlap(y Indexes) int32 {
	var n int32
	for len(x) > 0 && len(y) > 0 {
		if first, last := max(x[0].first, y[0].first), min(x[0].last, y[0].last); first <= last {
			n += last - first + 1
		}
		if x[0].last < y[0].last {
			x = x[1:]
		} else {
			y = y[1:]
		}
	}
	return n
}

// missing returns the lowest n indexes below completions that are in none of
// the sets.
func missing(n, completions int32, sets ...Indexes) []int32 {
	out := make([]int32, 0, max(0, min(n, completions)))
	var i int32
next:
	for int32(len(out)) < n && i < completions {
		for at, x := range sets {
			for len(x) > 0 && x[0].last < i {
				x = x[1:]
			}
			sets[at] = x
			if len(x) > 0 && x[0].first <= i {
				i = x[0].last + 1
				continue next
			}
		}
		out = append(out, i)
		i++
	}
	return out
}

// collector gathers indexes in any order.
type collector struct{ indexes []int32 }

func (c *collector) add(i int32) { c.indexes = append(c.indexes, i) }

// set returns what was gathered; distinct says that nothing came twice.
func (c *collector) set() (set Indexes, distinct bool) {
	if !slices.IsSorted(c.indexes) {
		slices.Sort(c.indexes)
	}
	distinct = true
	for _, i := range c.indexes {
		switch n := len(set); {
		case n > 0 && i == set[n-1].last:
			distinct = false
		case n > 0 && i == set[n-1].last+1:
			set[n-1].last = i
		default:
			set = append(set, span{i, i})
		}
	}
	return set, distinct
}
