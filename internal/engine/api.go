package engine

import (
	"context"
	"net/netip"
	"time"

	"github.com/google/uuid"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/endpoint"
)

// advertised is the address of the API that the Service kubernetes stands for: where it
// listens, or, when that means something else to each machine, the machine's own. It is
// not valid when there is none.
func advertised(listen netip.AddrPort, machine []string) netip.AddrPort {
	if endpoint.Publishable(listen.Addr()) {
		return listen
	}
	for _, text := range machine {
		if addr, err := netip.ParseAddr(text); err == nil && addr.Is4() && endpoint.Publishable(addr) {
			return netip.AddrPortFrom(addr, listen.Port())
		}
	}
	return netip.AddrPort{}
}

// announceAPI writes the Service kubernetes and what belongs to it as it has to be. That
// the controller would do as well, but only after loading what validates such objects,
// which no engine needs otherwise. When somebody has taken the Service's address, the
// controller says so in the log, and all else works.
func (e *Engine) announceAPI(api endpoint.API) {
	set := api.Decide(e.store.View().Get)
	now := metav1.NewTime(time.Now().Truncate(time.Second))
	for _, w := range set.Writes {
		if w.Op == change.Create {
			w.Object.SetUID(types.UID(uuid.NewString()))
			w.Object.SetCreationTimestamp(now)
		}
	}
	if len(set.Writes) == 0 {
		return
	}
	if _, err := e.store.Apply(context.Background(), set); err != nil {
		e.config.Logger.Warn("the Service by which pods find the API is not as it should be", "err", err)
	}
}
