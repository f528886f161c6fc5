package control

import (
	"context"
	"errors"
	"strings"
	"sync"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/kind"
	"github.com/sampan-batch/sampan/internal/work"
)

// Admission judges new objects, as the API does those of clients: by webhooks and policies that
// users have stored. It may take as long as the slowest of these.
type Admission interface {
	// Sits reports whether there is anything to judge by.
	Sits() bool
	// Mutate lets all that may change obj change it, Refuse returns why it may not be. The
	// errors are those of the API. controller is the account of who creates it. wait is called,
	// by any goroutine, before somebody is asked who may not answer soon; when it fails, he is
	// not asked.
	Mutate(ctx context.Context, controller string, k *kind.Kind, obj change.Object, wait func() error) error
	Refuse(ctx context.Context, controller string, k *kind.Kind, obj change.Object, wait func() error) error
}

// judgements is how many objects of a set are judged at a time.
const judgements = 8

// judgement is Admission's Mutate, or its Refuse.
type judgement = func(ctx context.Context, controller string, k *kind.Kind, obj change.Object, wait func() error) error

// judge returns the step that has all new objects of a set judged. While webhooks are asked,
// another worker does the work of this one: who does not answer holds up the keys that need him,
// and no others.
func (l *Loop) judge(name string, by func(Admission) judgement) step {
	return step{name: name, all: func(ctx context.Context, c *completion, created []creation) error {
		if len(created) == 0 || !l.Admission.Sits() {
			return nil
		}
		c.judged = true
		out := outside{aside: func() (func(), bool) { return work.Aside(ctx) }}
		defer out.end()
		err := judgeAll(ctx, created, func(n creation) error {
			return by(l.Admission)(ctx, accountOf(c.by, n.kind.Resource), n.kind, n.write.Object, out.begin)
		})
		if out.crowded {
			return work.ErrCrowded // whatever the verdict: not everybody was asked
		}
		return err
	}}
}

// outside is a decision that waits for somebody outside of the engine, or does not yet.
type outside struct {
	aside func() (back func(), ok bool)

	mu      sync.Mutex
	back    func() // nil: it does not
	crowded bool   // it was not let
}

// begin lets another worker take the place of this one.
func (o *outside) begin() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.back != nil {
		return nil
	}
	back, ok := o.aside()
	if !ok {
		o.crowded = true
		return work.ErrCrowded
	}
	o.back = back
	return nil
}

func (o *outside) end() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.back != nil {
		o.back()
	}
}

// judgeAll judges some objects at a time. The error is of the first one that is refused, and says
// how many before it are not.
func judgeAll(ctx context.Context, created []creation, judge func(creation) error) error {
	errs := make([]error, len(created))
	turn := make(chan struct{}, judgements)
	var all sync.WaitGroup
	for i, n := range created {
		turn <- struct{}{}
		all.Go(func() {
			errs[i] = judge(n)
			<-turn
		})
	}
	all.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	for i, err := range errs {
		if err != nil {
			return &change.Refusal{Err: brief(err), Taken: i}
		}
	}
	return nil
}

// mostWords is how long a reason may be that a webhook gives, in bytes: Events have it.
const mostWords = 1 << 10

// brief is an error that is no longer than it may be.
func brief(err error) error {
	text := err.Error()
	if len(text) <= mostWords {
		return err
	}
	return errors.New(strings.ToValidUTF8(text[:mostWords], "") + "…")
}

// accountOf is the ServiceAccount, of kube-system, by which a controller creates objects of a
// resource in Kubernetes.
func accountOf(controller string, resource change.Resource) string {
	switch resource {
	case kind.EndpointSlices:
		return "endpointslice-controller"
	case kind.ServiceAccounts:
		return "service-account-controller"
	case kind.ConfigMaps:
		return "root-ca-cert-publisher"
	case kind.PersistentVolumes:
		return "persistent-volume-binder"
	}
	switch controller {
	case "daemonset":
		return "daemon-set-controller"
	case "replicationcontroller":
		return "replication-controller"
	}
	return strings.ToLower(controller) + "-controller"
}
