package server

import (
	"context"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"testing/synctest"

	"k8s.io/apiserver/pkg/authentication/user"
	apirequest "k8s.io/apiserver/pkg/endpoints/request"
)

// TestLastingIsShared: who watches, or follows logs, without end, leaves the process its files and memory,
// and others some of both; requests that do not last, and those of this program, are not counted.
func TestLastingIsShared(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := withLasting(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }), newLasting(1000, 400))
		ctx, end := context.WithCancel(t.Context())
		defer end()
		var mu sync.Mutex
		var all sync.WaitGroup
		refused := 0
		// begins returns how many of n requests of a user begin.
		begins := func(name string, n int, info apirequest.RequestInfo) int {
			refused = 0
			info.IsResourceRequest = true
			for range n {
				all.Go(func() {
					w := httptest.NewRecorder()
					ctx := apirequest.WithUser(apirequest.WithRequestInfo(ctx, &info), &user.DefaultInfo{Name: name})
					h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil).WithContext(ctx))
					mu.Lock()
					defer mu.Unlock()
					if w.Code == http.StatusTooManyRequests && w.Header().Get("Retry-After") == "1" {
						refused++
					}
				})
			}
			synctest.Wait()
			return n - refused
		}
		watch, logs, list := apirequest.RequestInfo{Verb: "watch"}, apirequest.RequestInfo{Verb: "get", Subresource: "log"}, apirequest.RequestInfo{Verb: "list"}
		for _, c := range []struct {
			name string
			info apirequest.RequestInfo
			want int
		}{
			{"eve", watch, 200}, {"eve", logs, 20}, {"eve", list, 2000}, {user.APIServerUser, watch, 2000},
			{"ann", watch, 160}, {"ann", logs, 16}, {"system:serviceaccount:ns:a", logs, 13}, {"system:serviceaccount:ns:b", logs, 0},
		} {
			if got := begins(c.name, 2000, c.info); got != c.want {
				t.Errorf("%s: %d of %s %s begin, want %d", c.name, got, c.info.Verb, c.info.Subresource, c.want)
			}
		}
		end()
		all.Wait()
		ctx, end = context.WithCancel(t.Context())
		if got := begins("late", 300, watch); got != 200 {
			t.Errorf("%d watches begin when all others have ended, want 200", got)
		}
		end()
		all.Wait()
	})
}
