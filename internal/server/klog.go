package server

import (
	"bytes"
	"context"
	"log/slog"
	"runtime"
	"slices"
	"strings"

	"github.com/go-logr/logr"
	"k8s.io/klog/v2"
)

// RouteKlog sends what the Kubernetes libraries log, warnings and errors, to
// logger. klog is one for the whole process: call this once, before anything
// uses the libraries.
func RouteKlog(logger *slog.Logger) {
	klog.SetLoggerWithOptions(logr.FromSlogHandler(warnings{newSparing(logger.Handler())}), klog.ContextualLogger(true))
}

// warnings passes on warnings and errors only, and what is only a client's
// doing as debugging.
type warnings struct{ slog.Handler }

// ofClient reports whether the library complains about a client: one that has
// sent nonsense and was told so, or one that has left before it was answered.
func ofClient(r slog.Record) bool {
	switch r.Message {
	case "Couldn't parse request", "Unable to authenticate the request", "Timeout or abort while handling":
		return true
	case "Failed to encode watch event", "Failed to flush watch response", "Failed to flush watch response after initial events",
		"Failed to close watch response writer":
		return !strings.Contains(errorOf(r), "unable to encode")
	case "Unhandled Error":
		return unanswered(errorOf(r)) || nonsense(errorOf(r))
	}
	// Kubernetes compares two forms of its own rules by what clients get wrong.
	return strings.HasPrefix(r.Message, "Unexpected difference between hand written validation and declarative validation")
}

// ofStream reports whether the library speaks of a stream that somebody has to a pod:
// whatever becomes of that, its client has been told, or has gone.
func ofStream(r slog.Record) bool {
	frame, _ := runtime.CallersFrames([]uintptr{r.PC}).Next()
	return slices.ContainsFunc([]string{
		"k8s.io/streaming/", "k8s.io/cri-streaming/", "k8s.io/client-go/tools/remotecommand.",
		"k8s.io/apiserver/pkg/util/proxy.", "k8s.io/apimachinery/pkg/util/proxy.",
	}, func(of string) bool { return strings.HasPrefix(frame.Function, of) })
}

// errorOf is the text of a record's error.
func errorOf(r slog.Record) (text string) {
	r.Attrs(func(a slog.Attr) bool {
		if a.Key == "err" {
			text = a.Value.String()
		}
		return text == ""
	})
	return text
}

// unanswered: an answer did not reach its client, for a reason that is not ours.
func unanswered(text string) bool {
	answering := slices.ContainsFunc([]string{
		"apiserver was unable to write a ", "apiserver was unable to close cleanly the response writer",
		"apiserver received an error that is not an metav1.Status: ",
	}, func(begin string) bool { return strings.HasPrefix(text, begin) })
	return answering && slices.ContainsFunc([]string{
		"connection reset by peer", "broken pipe", "i/o timeout", "use of closed network connection", // of TCP
		"client disconnected", "stream closed", "http2: ", // of HTTP/2
		"context canceled", "context deadline exceeded", "http: Handler timeout", "short write", // of what stands between
	}, func(why string) bool { return strings.Contains(text, why) })
}

// nonsense: the library has answered that a request is wrong, and takes its own
// answer for an accident.
func nonsense(text string) bool {
	const accident = "apiserver received an error that is not an metav1.Status: "
	return text == "exceeded max warning header size, truncating" ||
		strings.HasPrefix(text, accident) &&
			slices.ContainsFunc(nonsensical(), func(part string) bool { return strings.Contains(text, part) })
}

// nonsensical are parts of what is said of patches that mean nothing.
func nonsensical() []string {
	return []string{
		"failed to create typed patch object", "failed to convert new object", "(*field.Error)",
		// of a strategic merge (k8s.io/apimachinery/pkg/util/mergepatch, strategicpatch)
		"list element types are not identical", "expected a []interface {}, but received", "expected a map[string]interface {}, but received",
		"unknown patch type", "does not contain declared merge key", "cannot merge lists without merge key", "unable to find api field in struct",
		"lists of lists are not supported", "invalid patch format", "the order in patch list", "The order in patch list",
		"can't find json tag", "unexpected list type", "The items in $setElementOrder",
	}
}

func (h warnings) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= slog.LevelWarn && h.Handler.Enabled(ctx, level)
}

func (h warnings) Handle(ctx context.Context, r slog.Record) error {
	if ofClient(r) || ofStream(r) {
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

// webNoise is the log of the HTTP server. What anybody can cause who can connect,
// as any port scan does, is debugging.
type webNoise struct{ logger *slog.Logger }

func (w webNoise) Write(p []byte) (int, error) {
	level := slog.LevelWarn
	for _, ofStranger := range []string{"TLS handshake error", "http2: ", "URL query contains semicolon"} {
		if bytes.Contains(p, []byte(ofStranger)) {
			level = slog.LevelDebug
		}
	}
	w.logger.Log(context.Background(), level, "http server", "err", string(bytes.TrimSpace(p)))
	return len(p), nil
}
