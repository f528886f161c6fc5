package server

import (
	"context"
	"log/slog"

	"github.com/go-logr/logr"
	"k8s.io/klog/v2"
)

// RouteKlog sends what the Kubernetes libraries log, warnings and errors, to
// logger. klog is one for the whole process: call this once, before anything
// uses the libraries.
func RouteKlog(logger *slog.Logger) {
	klog.SetLoggerWithOptions(logr.FromSlogHandler(warnings{logger.Handler()}), klog.ContextualLogger(true))
}

// warnings passes on warnings and errors only.
type warnings struct{ slog.Handler }

func (h warnings) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= slog.LevelWarn && h.Handler.Enabled(ctx, level)
}

func (h warnings) WithAttrs(attrs []slog.Attr) slog.Handler {
	return warnings{h.Handler.WithAttrs(attrs)}
}

func (h warnings) WithGroup(name string) slog.Handler { return warnings{h.Handler.WithGroup(name)} }
