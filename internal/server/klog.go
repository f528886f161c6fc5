package server

import (
	"context"
	"log/slog"
	"strings"

	"github.com/go-logr/logr"
	"k8s.io/klog/v2"
)

// RouteKlog sends what the Kubernetes libraries log, warnings and errors, to
// logger. klog is one for the whole process: call this once, before anything
// uses the libraries.
func RouteKlog(logger *slog.Logger) {
	klog.SetLoggerWithOptions(logr.FromSlogHandler(warnings{logger.Handler()}), klog.ContextualLogger(true))
}

// warnings passes on warnings and errors only, and what is only a client's
// doing as debugging.
type warnings struct{ slog.Handler }

// ofClient reports whether the library complains about a client: one that has
// sent nonsense and was told so, or one that has left in the middle of a watch.
func ofClient(r slog.Record) bool {
	switch r.Message {
	case "Couldn't parse request", "Unable to authenticate the request":
		return true
	case "Failed to encode watch event", "Failed to flush watch response", "Failed to close watch response writer":
		ours := false
		r.Attrs(func(a slog.Attr) bool {
			ours = a.Key == "err" && strings.Contains(a.Value.String(), "unable to encode")
			return !ours
		})
		return !ours
	}
	return false
}

func (h warnings) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= slog.LevelWarn && h.Handler.Enabled(ctx, level)
}

func (h warnings) Handle(ctx context.Context, r slog.Record) error {
	if ofClient(r) {
		if r.Level = slog.LevelDebug; !h.Handler.Enabled(ctx, r.Level) {
			return nil
		}
	}
	return h.Handler.Handle(ctx, r)
}

func (h warnings) WithAttrs(attrs []slog.Attr) slog.Handler {
	return warnings{h.Handler.WithAttrs(attrs)}
}

func (h warnings) WithGroup(name string) slog.Handler { return warnings{h.Handler.WithGroup(name)} }
