package engine

import (
	"context"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
)

// statusPeriod is how often the service manager is told how the engine fares, when
// it does not ask more often.
const statusPeriod = 10 * time.Second

// Supervised tells whether a service manager has started this process, and starts
// it again when it fails. systemd tells the processes of a service, and whatever they
// start, that they are in one; only to the first, that it is the one
// (systemd.exec(5), SYSTEMD_EXEC_PID).
func Supervised() bool {
	return os.Getenv("NOTIFY_SOCKET") != "" ||
		os.Getenv("INVOCATION_ID") != "" && os.Getenv("SYSTEMD_EXEC_PID") == strconv.Itoa(os.Getpid())
}

// notifier tells the service manager, if there is one, how the engine fares:
// sd_notify(3). It says that the engine lives as long as /livez does.
type notifier struct {
	live, ready func() error
	addr        string
	log         *slog.Logger
	send        func(state string) error
	// watchdog is how long the manager waits for a sign of life; 0: for ever.
	watchdog time.Duration
}

func newNotifier(h *health, addr string, log *slog.Logger) *notifier {
	watchdog, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		log.Warn("the service manager's watchdog is not understood", "err", err)
	}
	return &notifier{
		live:     func() error { return failing(h.live()) },
		ready:    func() error { return failing(h.ready()) },
		addr:     addr,
		log:      log,
		watchdog: watchdog,
		send: func(state string) error {
			_, err := daemon.SdNotify(false, state)
			return err
		},
	}
}

// run says that the engine is ready, then how it fares, until ctx ends. The
// watchdog waits for nothing that the status may have to wait for.
func (n *notifier) run(ctx context.Context, ready <-chan struct{}) {
	select {
	case <-ready:
	case <-ctx.Done():
		return
	}
	n.tell(daemon.SdNotifyReady)
	var telling sync.WaitGroup
	telling.Go(func() { every(ctx, statusPeriod, n.tellStatus()) })
	if n.watchdog > 0 {
		every(ctx, n.watchdog/2, n.tellLive)
	}
	<-ctx.Done()
	n.tell(daemon.SdNotifyStopping)
	telling.Wait()
}

// every calls do at once, and then once in period until ctx ends.
func every(ctx context.Context, period time.Duration, do func()) {
	ticker := time.NewTicker(period)
	defer ticker.Stop()
	for ctx.Err() == nil {
		do()
		select {
		case <-ticker.C:
		case <-ctx.Done():
		}
	}
}

func (n *notifier) tellLive() {
	if n.live() == nil {
		n.tell(daemon.SdNotifyWatchdog)
	}
}

// tellStatus returns what tells the status when it is another than before.
func (n *notifier) tellStatus() func() {
	said := ""
	return func() {
		if status := n.status(); status != said {
			said = status
			n.tell("STATUS=" + status)
		}
	}
}

// status is one line for people.
func (n *notifier) status() string {
	for _, fares := range []func() error{n.live, n.ready} {
		if err := fares(); err != nil {
			return "not ready: " + strings.ReplaceAll(err.Error(), "\n", "; ")
		}
	}
	return "ready: https://" + n.addr
}

func (n *notifier) tell(state string) {
	if err := n.send(state); err != nil {
		n.log.Warn("the service manager was not told", "state", state, "err", err)
	}
}
