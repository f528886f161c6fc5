package store

import (
	"bytes"
	"fmt"
	"os"
	"time"

	"go.etcd.io/bbolt"

	"github.com/sampan-batch/sampan/internal/change"
)

// The engine keeps what was deleted, or replaced, in pages that it may use
// again, perhaps never. Of the resources that Options.Erase names nothing is to
// stay: after a commit that took something of theirs away, all free pages are
// overwritten by zeros, a part in some of the transactions that follow, and in
// some that are made for it.
//
// That is as sound as the engine's own writing. Pages are only overwritten at
// the beginning of a transaction, where it may itself take any of them to write
// on: no reader needs them (there is none: the leader is alone with the file),
// and the state on disk, which is synced, does not refer to them.

const (
	// eraseStep is how many pages one transaction looks at: 16 MB, which takes it
	// some milliseconds.
	eraseStep = 4096
	// erasePause is how long the transactions after it are spared.
	erasePause = 250 * time.Millisecond
)

// eraser is where the overwriting is.
type eraser struct {
	wanted func(change.Resource) bool // nil: none
	file   *os.File
	// due: something was taken away since the present round began. next is the
	// first page that it has not come to; 0: no round is under way.
	due  bool
	next int
	last time.Time // when the last part was done
}

// pending reports whether pages are still to be looked at.
func (e *eraser) pending() bool { return e.due || e.next > 0 }

// note remembers what a batch that is on disk took away.
func (e *eraser) note(b *batch) {
	if e.wanted == nil {
		return
	}
	for _, commits := range [][]*commit{b.lazy, b.commits} {
		for _, c := range commits {
			for i := range c.steps {
				// A Create replaces nothing, but to tell would save nothing.
				e.due = e.due || e.wanted(c.steps[i].next.key.Resource)
			}
		}
	}
}

// begin does its part at the beginning of a transaction; all of it in the last.
func (e *eraser) begin(tx *bbolt.Tx, last bool) error {
	for e.pending() && (last || time.Since(e.last) >= erasePause) {
		e.last = time.Now()
		if err := e.step(tx, eraseStep); err != nil {
			e.due, e.next = true, 0 // once more, from the start
			return err
		}
	}
	return nil
}

// step overwrites free pages, of the next limit pages.
func (e *eraser) step(tx *bbolt.Tx, limit int) error {
	if e.next == 0 {
		e.due, e.next = false, 2 // behind the meta pages
	}
	size := tx.DB().Info().PageSize
	run := 0 // free pages right before id
	id := e.next
	for end := id + limit; id < end; {
		page, err := tx.Page(id)
		if err != nil {
			return err
		}
		if page != nil && page.Type == "free" && run < 64 {
			run, id = run+1, id+1
			continue
		}
		if err := e.zero(id-run, run, size); err != nil {
			return err
		}
		switch run = 0; {
		case page == nil: // the end
			e.next = 0
			return nil
		case page.Type != "free":
			id += 1 + page.OverflowCount
		}
	}
	e.next = id
	return e.zero(id-run, run, size)
}

// zero overwrites n pages, if they are not zero already.
func (e *eraser) zero(first, n, size int) error {
	if n == 0 {
		return nil
	}
	held, zeros := make([]byte, n*size), make([]byte, n*size)
	at := int64(first) * int64(size)
	if _, err := e.file.ReadAt(held, at); err != nil {
		return fmt.Errorf("erase: %w", err)
	}
	if bytes.Equal(held, zeros) {
		return nil
	}
	if _, err := e.file.WriteAt(zeros, at); err != nil {
		return fmt.Errorf("erase: %w", err)
	}
	return nil
}
