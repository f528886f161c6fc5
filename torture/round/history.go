package round

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"github.com/sampan-batch/sampan/torture/load"
	"github.com/sampan-batch/sampan/torture/model"
	"github.com/sampan-batch/sampan/torture/report"
)

const (
	historyClients = 5
	historyLength  = 1000
	// historyWithin is how long a checker may think about one history.
	historyWithin = time.Minute
)

// history lets concurrent clients write the same objects while the engine is killed,
// and looks for one order that explains what all of them were told.
func history(ctx context.Context, e *Env) error {
	v, err := e.victim(ctx, "victim", nil)
	if err != nil {
		return err
	}
	if err := e.start(ctx, v); err != nil {
		return err
	}
	if err := load.EnsureNamespace(ctx, v); err != nil {
		return err
	}
	random := load.Random(e.Seed, "history")
	n := 0
	err = e.until(ctx, func() error {
		n++
		h := &load.History{Victim: v, Report: e.Report, Seed: e.Seed, Clients: historyClients, Prefix: fmt.Sprintf("h%d-", n)}
		done := make(chan error, 1)
		go func() {
			ops, err := h.Run(ctx, historyLength)
			if err == nil {
				err = e.judge(ops, n)
			}
			done <- err
		}()
		for {
			select {
			case err := <-done:
				return err
			case <-time.After(time.Duration(200+random.IntN(1000)) * time.Millisecond):
			}
			v.Kill()
			e.Report.Count(report.Kills, 1)
			if err := e.start(ctx, v); err != nil {
				return err
			}
		}
	})
	e.stop(v, true)
	return err
}

// judge looks for the order.
func (e *Env) judge(ops []model.Operation, n int) error {
	drawing := filepath.Join(e.Dir, fmt.Sprintf("history-%d.html", n))
	began := time.Now()
	verdict, err := model.CheckHistory(ops, historyWithin, drawing)
	if err != nil {
		return err
	}
	e.Report.Took("history checked in", time.Since(began))
	e.Report.Count("histories", 1)
	for _, o := range ops {
		if o.Result == model.Done && o.Op != model.GetOp && o.Op != model.ListOp {
			e.Report.Count(report.Writes, 1)
		}
	}
	e.Report.Count("operations", len(ops))
	switch verdict {
	case model.NotLinearizable:
		e.Report.Find("history %d of %d operations is not linearizable: %s shows how far an order goes", n, len(ops), drawing)
	case model.Undecided:
		e.Report.Count("undecided histories", 1)
	}
	return nil
}
