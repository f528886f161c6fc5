package cli

import "sync"

// stage is where logs are shown whole, one after the other, instead of line by line as
// their containers write them: in the groups of a GitHub workflow, or those only of
// containers that have failed. It is safe for concurrent use.
type stage struct {
	console *console
	// onlyFailed shows no other logs.
	onlyFailed bool

	mu     sync.Mutex
	acts   map[logID]*act // that may still have to be shown
	judged map[logID]bool // whether they failed: containers whose logs have not begun
	open   int            // logs that are being written, and are waited for
}

// logID names the log of one life of a container.
type logID struct {
	logKey
	attempt int
}

// act is one log on its way to the stage.
type act struct {
	stage *stage
	id    logID
	name  string
	// endless: nobody waits for its end.
	endless bool

	held            spool // what was not shown yet
	ended           bool
	decided, failed bool
	// live: its lines are shown as they come, because no other log is being written.
	live  bool
	shown bool // some of it was
}

func newStage(c *console, onlyFailed bool) *stage {
	return &stage{console: c, onlyFailed: onlyFailed, acts: map[logID]*act{}, judged: map[logID]bool{}}
}

// begin takes a log.
func (s *stage) begin(name string, of *life) *act {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := &act{stage: s, id: logID{of.logKey, of.attempt}, name: name, endless: of.endless}
	a.failed, a.decided = s.judged[a.id]
	delete(s.judged, a.id)
	s.acts[a.id] = a
	if !a.endless {
		s.open++
	}
	s.light()
	return a
}

// light has the log shown as it is written that is the only one.
func (s *stage) light() {
	if s.onlyFailed || s.open != 1 {
		return
	}
	for _, a := range s.acts {
		if !a.ended && !a.endless && !a.live {
			a.live = true
			a.show()
		}
	}
}

// line takes a line of the log.
func (a *act) line(line string) {
	a.stage.mu.Lock()
	defer a.stage.mu.Unlock()
	if a.live {
		a.showLine(line)
	} else {
		_, _ = a.held.Write([]byte(line + "\n"))
	}
}

// end takes the end of the log.
func (a *act) end() {
	s := a.stage
	s.mu.Lock()
	defer s.mu.Unlock()
	a.ended = true
	if !a.endless {
		s.open--
	}
	s.settle(a)
	s.light()
}

// judge says whether a container failed, once, where that makes a difference.
func (s *stage) judge(id logID, failed bool) {
	if !s.onlyFailed {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.acts[id]
	if a == nil {
		s.judged[id] = failed
		return
	}
	a.decided, a.failed = true, failed
	s.settle(a)
}

// settle shows a log that has ended, or drops it, once it is known which.
func (s *stage) settle(a *act) {
	if !a.ended || s.onlyFailed && !a.decided {
		return
	}
	delete(s.acts, a.id)
	if !s.onlyFailed || a.failed {
		a.show()
		s.console.EndGroup(a.name)
	}
	a.held.close()
}

// show shows what is held.
func (a *act) show() {
	if err := a.held.lines(a.showLine); err != nil {
		a.stage.console.Note("warning: log of %s: %v", a.name, err)
	}
}

func (a *act) showLine(line string) {
	title := "pod " + a.name
	if a.shown {
		title += " (continued)"
	}
	a.stage.console.GroupLog(a.name, title, line)
	a.shown = true
}
