package engine

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// The runtime collects garbage whenever as much has been allocated as there is in use, and each time
// looks at all that is in use. An engine has little in use, 20 MB, and allocates that several times a
// second when Jobs come and go: a sixth of what it did then was to collect. Who collects often and has
// little is given room; who has much, or collects seldom, has what everybody has, so that neither an
// overload nor an idle engine takes more for it.
const (
	// garbageRoom is how much may be allocated between two collections, at most, in place of as much as
	// there is in use.
	garbageRoom = 64 << 20
	// seldom is how long after another a collection may come without anybody noticing.
	seldom = time.Second
)

// CollectSeldom has this process collect garbage less often when it is busy. Like HideMemory it is about
// the whole process. Who has set GOGC has decided already.
func CollectSeldom() {
	if os.Getenv("GOGC") != "" {
		return
	}
	c := &collecting{
		percent: usualPercent, last: time.Now(), before: allocated(),
		live: liveBytes, allocated: allocated, set: func(percent int) { debug.SetGCPercent(percent) },
	}
	c.arm()
}

const usualPercent = 100

// collecting sets the runtime's percentage anew after each collection.
type collecting struct {
	percent   int
	last      time.Time     // when one was over
	before    uint64        // what had been allocated by then
	live      func() uint64 // what the last collection has found in use
	allocated func() uint64 // since the start of the process
	set       func(percent int)
}

// arm has collected called when the next collection is over.
func (c *collecting) arm() {
	// What nobody holds: the collection finds that out.
	runtime.SetFinalizer(&struct{ c *collecting }{c}, func(*struct{ c *collecting }) {
		c.collected(time.Now())
		c.arm()
	})
}

// collected decides how soon the next collection comes.
func (c *collecting) collected(now time.Time) {
	total := c.allocated()
	percent := percentAfter(c.live(), total-c.before, now.Sub(c.last))
	c.last, c.before = now, total
	if percent != c.percent {
		c.percent = percent
		c.set(percent)
	}
}

// percentAfter returns how much may be allocated before the next collection, in percent of what is live,
// when that much had been allocated before this one, since the one before. One that came with less is not
// the runtime's: somebody has asked for it, to give memory back.
func percentAfter(live, allocated uint64, since time.Duration) int {
	if since >= seldom || live >= garbageRoom || allocated < max(live/2, 2<<20) {
		return usualPercent
	}
	const step, most = 50, 1000 // few different ones, as to set one stops everybody for a moment
	percent := int(100 * garbageRoom / max(live, 1<<20))
	return min(max(percent/step*step, usualPercent), most)
}

func liveBytes() uint64 {
	sample := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}
