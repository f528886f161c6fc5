package control

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// TestZoneCache reads a zone once an hour, whoever asks; keeps a bounded number; and
// does not remember what there is not.
func TestZoneCache(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		reads := make(map[string]int)
		c := zoneCache{now: time.Now, load: func(name string) (*time.Location, error) {
			mu.Lock()
			defer mu.Unlock()
			reads[name]++
			if name == "Nowhere" && reads[name] == 1 {
				return nil, errors.New("unknown time zone Nowhere")
			}
			return time.FixedZone(name, 0), nil
		}}
		find := func(name string, known bool, total int) {
			t.Helper()
			if zone, err := c.find(name); (err == nil) != known || known && zone.String() != name {
				t.Errorf("%s: %v, %v", name, zone, err)
			}
			mu.Lock()
			defer mu.Unlock()
			if reads[name] != total {
				t.Errorf("%s was read %d times, want %d", name, reads[name], total)
			}
		}
		find("Asia/Seoul", true, 1)
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() { find("Asia/Seoul", true, 1) })
		}
		all.Wait()
		find("Nowhere", false, 1)
		find("Nowhere", true, 2)

		time.Sleep(zoneAge - time.Second)
		find("Asia/Seoul", true, 1)
		time.Sleep(time.Second)
		find("Asia/Seoul", true, 2)

		for i := range 10 * maxZones {
			find(fmt.Sprint("Zone/", i), true, 1)
			if len(c.known) > maxZones {
				t.Fatalf("%d zones are remembered", len(c.known))
			}
		}
	})
}
