package kind

import (
	"math"
	"testing"
	"time"
)

func TestSeconds(t *testing.T) {
	t.Parallel()
	const longest = 9_223_372_036 * time.Second
	for n, want := range map[int64]time.Duration{
		0: 0, 30: 30 * time.Second, -30: -30 * time.Second,
		9_223_372_036: longest, 9_223_372_037: longest, 99_999_999_999: longest, math.MaxInt64: longest,
		math.MinInt64: -longest,
	} {
		if got := Seconds(n); got != want {
			t.Errorf("Seconds(%d) = %v, want %v", n, got, want)
		}
	}
}
