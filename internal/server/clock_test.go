package server

import (
	"sync/atomic"
	"time"
)

// fakeClock runs ahead of the real one.
type fakeClock struct{ ahead atomic.Int64 }

func (c *fakeClock) now() time.Time { return time.Now().Add(time.Duration(c.ahead.Load())) }

func (c *fakeClock) add(d time.Duration) { c.ahead.Add(int64(d)) }
