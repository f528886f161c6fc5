package server

import (
	"net/http"
	"strings"
	"sync"

	"k8s.io/apimachinery/pkg/runtime/schema"
	genericserver "k8s.io/apiserver/pkg/server"
	metricsv1beta1 "k8s.io/metrics/pkg/apis/metrics/v1beta1"

	"github.com/sampan-batch/sampan/internal/kind"
)

// late are the API groups that are installed when somebody first asks for one of them,
// or for all groups: those of which every kind is rare, and those of reviews. A start, and a private engine,
// do not pay for them. (A group takes k8s.io/apiserver some milliseconds and 400 KB.)
type late struct {
	names   map[string]bool
	install func() error
}

// newLate returns the groups of rows that can wait, that of measurements, and others that do.
// install installs them all.
func newLate(rows []*kind.Kind, others []schema.GroupVersion, install func() error) *late {
	l := &late{names: map[string]bool{metricsv1beta1.GroupName: true}, install: sync.OnceValue(install)}
	for _, k := range rows {
		for _, gvk := range k.GVKs() {
			l.names[gvk.Group] = true
		}
	}
	for _, k := range rows {
		for _, gvk := range k.GVKs() {
			if !k.Rare {
				delete(l.names, gvk.Group)
			}
		}
	}
	for _, gv := range others {
		l.names[gv.Group] = true
	}
	return l
}

// handler installs the groups before it lets a request through that is about one of them.
func (l *late) handler(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if l.about(r.URL.Path) {
			if err := l.install(); err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
				return
			}
		}
		h.ServeHTTP(w, r)
	})
}

// about reports whether what answers path has to know of the groups.
func (l *late) about(path string) bool {
	rest, found := strings.CutPrefix(path, "/apis")
	if !found {
		return path == "/" || strings.HasPrefix(path, "/openapi")
	}
	group, _, _ := strings.Cut(strings.TrimPrefix(rest, "/"), "/")
	return group == "" || l.names[group]
}

// split returns the groups that a start installs, and those that come later.
func (l *late) split(groups []*genericserver.APIGroupInfo) (now, later []*genericserver.APIGroupInfo) {
	for _, g := range groups {
		if l.names[g.PrioritizedVersions[0].Group] {
			later = append(later, g)
		} else {
			now = append(now, g)
		}
	}
	return now, later
}
