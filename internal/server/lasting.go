package server

import (
	"net/http"

	"k8s.io/apiserver/pkg/authentication/user"
	apirequest "k8s.io/apiserver/pkg/endpoints/request"

	"github.com/sampan-batch/sampan/internal/share"
)

const (
	// mostWatches is how many watches there may be: each takes some 40 kB and three goroutines.
	mostWatches = 16 << 10
	// logFiles is the part of the process's files, one in so many, that may be logs which are read.
	logFiles = 4
)

// lasting are the places of requests that last, and so are not in the queues of those that are worked
// on: watches, and logs that are read. Who takes all that he gets leaves some to others. (Sessions of
// exec, attach and port-forward, and what is proxied, are counted by sessions.)
type lasting struct{ watches, logs *share.Pool[string] }

func newLasting(watches int, files uint64) *lasting {
	return &lasting{watches: share.New[string](watches), logs: share.New[string](max(1, int(files/logFiles)))}
}

// withLasting lets requests that last begin if there is a place for them.
func withLasting(h http.Handler, l *lasting) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		who, known := apirequest.UserFrom(r.Context())
		pool := l.of(r)
		if pool == nil || !known || who.GetName() == user.APIServerUser {
			h.ServeHTTP(w, r)
			return
		}
		release, ok := pool.Take(visitorOf(who).name)
		if !ok {
			turnAway(w, "Too many requests that last, please try again later.")
			return
		}
		defer release()
		h.ServeHTTP(w, r)
	})
}

// of returns whose places a request needs one of; nil: it needs none.
func (l *lasting) of(r *http.Request) *share.Pool[string] {
	info, ok := apirequest.RequestInfoFrom(r.Context())
	switch {
	case !ok || !info.IsResourceRequest:
		return nil
	case info.Verb == "watch":
		return l.watches
	case info.Subresource == "log":
		return l.logs
	}
	return nil
}
