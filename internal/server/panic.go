package server

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// What is logged of a panic: what it said, which may be as long as a request, and who called whom.
const (
	mostOfReason = 1 << 10
	mostOfStack  = 4 << 10
)

// withPanics answers a request whose handler panics, which is an error of ours or of a library's,
// and of which the next request must know nothing: 500, as Kubernetes says that something went
// wrong inside of it, on a connection that goes on. An answer that has begun is broken off.
// (k8s.io/apiserver logs three times, 64 KiB each, and then lets net/http end the connection.)
func withPanics(h http.Handler, log *slog.Logger) http.Handler {
	log = slog.New(newSparing(log.Handler())) // whoever has found one can repeat it
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		paced := pacedOf(w)
		defer func() {
			what := recover()
			if what == nil {
				return
			}
			if what == http.ErrAbortHandler { // a handler's own way to break off
				panic(what)
			}
			said, stack := panicked(what)
			log.Error("a request has made its handler panic", "verb", r.Method, "path", r.URL.Path[:min(len(r.URL.Path), mostOfReason)], "err", said, "stack", stack)
			if paced != nil && paced.begun {
				panic(http.ErrAbortHandler)
			}
			answerPanic(w)
		}()
		h.ServeHTTP(w, r)
	})
}

// pacedOf returns the writer that withPace has put into w, nil if it could not.
func pacedOf(w http.ResponseWriter) *pacedWriter {
	switch w := w.(type) {
	case *pacedWriter:
		return w
	case *pacedHijacker:
		return w.pacedWriter
	}
	return nil
}

// panicked returns what a panic said, and its stack. A handler that had a goroutine of its own has
// put both into one text.
func panicked(what any) (said, stack string) {
	said, stack, own := strings.Cut(fmt.Sprint(what), "\ngoroutine ")
	if !own {
		stack = string(debug.Stack())
	}
	// The frames that recover and panic again say nothing.
	if _, since, found := strings.Cut(stack, "\npanic("); found {
		stack = since
	}
	return said[:min(len(said), mostOfReason)], stack[:min(len(stack), mostOfStack)]
}

func answerPanic(w http.ResponseWriter) {
	err := apierrors.NewInternalError(errors.New("this request caused the server to panic; its log says where"))
	err.ErrStatus.TypeMeta = metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}
	body, failed := json.Marshal(err.ErrStatus)
	if failed != nil {
		panic(failed) // a Status has a form in JSON
	}
	header := w.Header()
	clear(header)
	header.Set("Content-Type", "application/json")
	header.Set("Cache-Control", "no-cache, private")
	w.WriteHeader(http.StatusInternalServerError)
	_, _ = w.Write(append(body, '\n'))
}
