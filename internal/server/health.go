package server

import (
	"slices"

	"k8s.io/apiserver/pkg/server/healthz"
	"k8s.io/apiserver/pkg/server/statusz"
)

// installHealth serves /livez, /readyz and the older /healthz in Kubernetes' own
// format, with ?verbose, ?exclude=NAME and a path for every check. /healthz is
// what /livez is. Anybody may ask the three; what a single check has to say names
// files, and is for those who have shown who they are.
//
// It stands, with /statusz, for the library's PrepareRun, whose check "shutdown"
// hears only of the library's own Run.
func (s *Server) installHealth() {
	mux := s.generic.Handler.NonGoRestfulMux
	live := slices.Concat(s.generic.HealthzChecks(), s.o.Live)
	ready := slices.Concat(live, s.o.Ready, []healthz.HealthChecker{healthz.NewShutdownHealthz(s.stopping.Done())})
	healthz.InstallHandler(mux, live...)
	healthz.InstallLivezHandler(mux, live...)
	healthz.InstallReadyzHandler(mux, ready...)
	statusz.Install(mux, "apiserver", statusz.NewRegistry(s.generic.EffectiveVersion, statusz.WithListedPaths(s.generic.ListedPaths())))
}
