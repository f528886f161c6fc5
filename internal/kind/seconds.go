package kind

import (
	"math"
	"time"
)

// Seconds is how long so many seconds of an object's are. Validation lets more of them pass than
// a Duration holds, 292 years: they count as these, for multiplied they would be a time in the past.
func Seconds(n int64) time.Duration {
	const most = math.MaxInt64 / int64(time.Second)
	return time.Duration(max(-most, min(most, n))) * time.Second
}
