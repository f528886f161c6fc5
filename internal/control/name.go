package control

import (
	"fmt"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/kind"
)

// An API server makes a name of up to 63 characters out of generateName: what
// fits of it, and 5 random ones.
const (
	nameLimit    = 63
	suffixLength = 5
	alphabet     = "bcdfghjklmnpqrstvwxz2456789"
)

// giveName makes a name as an API server does from generateName, but with the cause
// in the place of chance: the object that was decided about, at the revision that
// it was decided from, and the ordinal of the name in the set. A decision that is
// taken twice collides with itself.
func giveName(c *completion, _ *kind.Kind, w *change.Write) error {
	if w.Key.Name != "" {
		return nil
	}
	prefix := w.Object.GetGenerateName()
	if prefix == "" || c.cause == nil {
		return fmt.Errorf("create %s: it has no name, and nothing to make one of", w.Key)
	}
	prefix = prefix[:min(len(prefix), nameLimit-suffixLength)]
	for {
		w.Key.Name = prefix + suffix(string(c.cause.GetUID()), c.cause.GetResourceVersion(), c.ordinal)
		c.ordinal++
		if _, taken := c.view.Get(w.Key); !taken && !c.given[w.Key.Name] {
			break
		}
	}
	if c.given == nil {
		c.given = make(map[string]bool)
	}
	c.given[w.Key.Name] = true
	w.Object.SetName(w.Key.Name)
	return nil
}

// suffix is five characters of Kubernetes' own alphabet for names.
func suffix(uid, rev string, ordinal uint64) string {
	const offset, prime = 14695981039346656037, 1099511628211 // FNV-1a
	h := uint64(offset)
	for _, s := range []string{uid, rev} {
		for i := range len(s) {
			h = (h ^ uint64(s[i])) * prime
		}
		h = (h ^ 0xff) * prime
	}
	// The finalizer of splitmix64 lets every bit of the ordinal reach every
	// character.
	h += ordinal * 0x9e3779b97f4a7c15
	h = (h ^ h>>30) * 0xbf58476d1ce4e5b9
	h = (h ^ h>>27) * 0x94d049bb133111eb
	h ^= h >> 31
	var out [suffixLength]byte
	for i := range out {
		out[i] = alphabet[h%uint64(len(alphabet))]
		h /= uint64(len(alphabet))
	}
	return string(out[:])
}
