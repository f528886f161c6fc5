package server

import (
	"context"
	"log/slog"
	"slices"

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
// mistake as debugging: the client has been told.
type warnings struct{ slog.Handler }

func clientMistakes() []string {
	return []string{"Couldn't parse request", "Unable to authenticate the request"}
}

func (h warnings) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= slog.LevelWarn && h.Handler.Enabled(ctx, level)
}

func (h warnings) Handle(ctx context.Context, r slog.Record) error {
	if slices.Contains(clientMistakes(), r.Message) {
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
