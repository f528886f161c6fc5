package server

import (
	"context"
	"net/http"
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	genericapirequest "k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/rest"
)

// sessionLimits are how many clients may have streams to pods at a time: by exec, attach and
// port-forward, which last, and of which each takes descriptors, goroutines and a process of a
// pod. They are not in the queues that other requests wait in.
type sessionLimits struct{ all, user int }

func defaultSessions() sessionLimits { return sessionLimits{all: 512, user: 256} }

// sessions counts them.
type sessions struct {
	limits sessionLimits

	mu    sync.Mutex
	all   int
	users map[string]int
}

func newSessions(limits sessionLimits) *sessions {
	return &sessions{limits: limits, users: map[string]int{}}
}

// enter takes a place for a session; it has to be left. Who has as many as are left for others gets no
// more, and some are for administrators only.
func (s *sessions) enter(who visitor) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	left := s.limits.all - s.all
	if !who.admin {
		left -= s.limits.all / administrators
	}
	if s.users[who.name] >= min(left, s.limits.user) {
		return false
	}
	s.all++
	s.users[who.name]++
	return true
}

func (s *sessions) leave(who visitor) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all--
	if s.users[who.name]--; s.users[who.name] == 0 {
		delete(s.users, who.name)
	}
}

// counted lets a session begin if there is a place for it; else its client is told to come again.
func (s *sessions) counted(ctx context.Context, h http.Handler, answer rest.Responder) http.Handler {
	var who visitor
	if user, known := genericapirequest.UserFrom(ctx); known {
		who = visitorOf(user)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !s.enter(who) {
			answer.Error(apierrors.NewTooManyRequests("too many clients have streams to pods, please try again later", comeAgain))
			return
		}
		defer s.leave(who)
		h.ServeHTTP(w, r)
	})
}
