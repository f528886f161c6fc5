package verb

import "testing"

func TestNear(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		typed, known string
		want         bool
	}{
		{"jobs", "jobs", true}, {"jbs", "jobs", true}, {"jobbs", "jobs", true}, {"jobz", "jobs", true}, {"jbos", "jobs", true},
		{"", "jobs", false}, {"j", "jobs", false}, {"jo", "jobs", false}, {"sboj", "jobs", false}, {"pods", "jobs", false}, {"node", "nodes", true},
	} {
		if got := near(c.typed, c.known); got != c.want {
			t.Errorf("near(%q, %q) = %v", c.typed, c.known, got)
		}
	}
}
