package audit

import "testing"

// TestOurs tells the control groups of one data directory from those of others. That
// a real engine's are known by it, TestTorture sees.
func TestOurs(t *testing.T) {
	t.Parallel()
	const theirs = "/sys/fs/cgroup/pids/sampan/podx.00000000"
	m := &Machine{}
	if !m.ours(theirs) {
		t.Error("without a data directory all groups are looked at")
	}
	m.Expect("/srv/data")
	if m.ours(theirs) || !m.ours("/sys/fs/cgroup/pids/sampan/podx"+m.owners[0]) || m.owners[0] == m.owners[1] {
		t.Errorf("groups end in %q", m.owners)
	}
}
