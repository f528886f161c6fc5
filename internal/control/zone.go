package control

import (
	"sync"
	"time"
)

const (
	// maxZones is how many time zones are remembered. There are some 600 names; the
	// CronJobs of one machine use a few.
	maxZones = 128
	// zoneAge is for how long: the rules of a zone change with an update of the
	// machine's time zones, which an engine learns without a restart.
	zoneAge = time.Hour
)

// zoneCache remembers the time zones of CronJobs: reading one takes longer than all
// else that is decided about a CronJob.
type zoneCache struct {
	load func(name string) (*time.Location, error)
	now  func() time.Time

	mu    sync.Mutex
	known map[string]knownZone
}

type knownZone struct {
	zone *time.Location
	read time.Time
}

// find returns the time zone of a name. A name that there is no zone for is not
// remembered: the API takes none, so it is a zone that this machine has lost, and may
// have again. The lock is not held while the disk is read.
func (c *zoneCache) find(name string) (*time.Location, error) {
	c.mu.Lock()
	known, ok := c.known[name]
	c.mu.Unlock()
	if ok && c.now().Sub(known.read) < zoneAge {
		return known.zone, nil
	}
	zone, err := c.load(name)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.known == nil || len(c.known) >= maxZones {
		c.known = make(map[string]knownZone)
	}
	c.known[name] = knownZone{zone, c.now()}
	return zone, nil
}
