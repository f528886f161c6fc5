package server

import (
	"net/http"

	"k8s.io/apiserver/pkg/audit"
	genericapifilters "k8s.io/apiserver/pkg/endpoints/filters"
	"k8s.io/apiserver/pkg/endpoints/filters/impersonation"
	genericserver "k8s.io/apiserver/pkg/server"
	genericfilters "k8s.io/apiserver/pkg/server/filters"
)

// handlerChain is what every request passes, outermost last. It is
// k8s.io/apiserver's default chain without what has no effect here, or costs
// without giving: audit, tracing and latency tracking (nobody reads them), CORS
// and HSTS (no browser), priority and fairness (fair has the fairness), and the
// goroutine with a buffered response that enforces a timeout on handlers which
// enforce it themselves (docs/adr/0002-api-server.md).
func (s *Server) handlerChain(api http.Handler, c *genericserver.Config) http.Handler {
	h := withBulk(s.aggregated(s.late.handler(api)))
	h = genericapifilters.WithAuthorization(h, c.Authorization.Authorizer, c.Serializer)
	h = withLasting(h, newLasting(mostWatches, s.o.OpenFiles))
	h = withFairness(h, newFair(seats(), spareSeats), c.LongRunningFunc)
	h = impersonation.WithConstrainedImpersonation(h, c.Authorization.Authorizer, c.Serializer)

	failed := genericapifilters.Unauthorized(c.Serializer)
	h = genericapifilters.WithAuthentication(h, c.Authentication.Authenticator, failed,
		c.Authentication.APIAudiences, c.Authentication.RequestHeaderConfig)

	h = genericapifilters.WithWarningRecorder(h)
	h = genericapifilters.WithRequestDeadline(h, c.AuditBackend, c.AuditPolicyRuleEvaluator,
		c.LongRunningFunc, c.Serializer, c.RequestTimeout)
	h = genericfilters.WithWaitGroup(h, c.LongRunningFunc, c.NonLongRunningRequestWaitGroup)
	h = genericfilters.WithWatchTerminationDuringShutdown(h, shutdown{s.stopping.Done()}, s.watches)
	h = genericapifilters.WithCacheControl(h)
	h = genericapifilters.WithRequestInfo(h, c.RequestInfoResolver)
	h = genericapifilters.WithRequestReceivedTimestamp(h)
	h = withoutAudit(h)
	h = withDeepStack(h)
	h = withPanics(h, s.o.Logger)
	h = withPace(h, s.o.pace)
	h = withDoor(h, c.Authentication.Authenticator)
	return h
}

// withoutAudit gives a request the audit context that the handlers insist on,
// switched off.
func withoutAudit(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.ServeHTTP(w, r.WithContext(audit.WithAuditContext(r.Context())))
	})
}

// shutdown tells the watches that the server stops.
type shutdown struct{ stopping <-chan struct{} }

func (s shutdown) ShuttingDown() <-chan struct{} { return s.stopping }
