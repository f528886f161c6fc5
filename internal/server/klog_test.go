package server

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"
)

func TestKlogWarnings(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	log := slog.New(warnings{slog.NewTextHandler(&out, nil)})
	log.Info("chatter")
	log.Error("Couldn't parse request", "err", errors.New("nonsense"))
	log.Error("Failed to encode watch event", "err", errors.New("http2: stream closed"))
	log.Error("Failed to encode watch event", "err", errors.New("unable to encode watch object"))
	log.Warn("a warning")
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != 2 || !strings.Contains(lines[0], "unable to encode") || !strings.Contains(lines[1], "a warning") {
		t.Errorf("got %q", lines)
	}
}
