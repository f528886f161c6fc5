package supervisor

import (
	"slices"
	"testing"
)

func TestOwnEnviron(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "/run/systemd/notify")
	t.Setenv("WATCHDOG_USEC", "1000000")
	t.Setenv("SAMPAN_TEST", "kept")
	env := ownEnviron()
	if slices.Contains(env, "NOTIFY_SOCKET=/run/systemd/notify") || slices.Contains(env, "WATCHDOG_USEC=1000000") || !slices.Contains(env, "SAMPAN_TEST=kept") {
		t.Errorf("%q", env)
	}
}
