package cli

import (
	"crypto/rand"
	"fmt"
	"io"
	"os"

	"github.com/sampan-batch/sampan/internal/report"
)

// inWorkflow: this is a step of a GitHub workflow, whose runner reads what it prints.
func inWorkflow() bool { return os.Getenv("GITHUB_ACTIONS") == "true" }

// workflow speaks to the runner of a GitHub workflow, which obeys every line that looks
// like one of its commands, whoever has written it. So it is told to obey none, but for
// the moment of one of ours: all text stands behind a command stop-commands, which only a
// token ends that nobody can guess. To stay in this order, all of it goes to one stream.
type workflow struct {
	out   io.Writer
	token string // that ends the text; "" while commands are obeyed
	group string // the name of the one that is open
}

// text makes text of what follows.
func (w *workflow) text() {
	if w.token == "" {
		w.token = rand.Text()
		fmt.Fprintln(w.out, report.Command("stop-commands", "", w.token))
	}
}

// command has the runner do something.
func (w *workflow) command(name, title, message string) {
	w.release()
	fmt.Fprintln(w.out, report.Command(name, title, message))
}

// release has the runner obey commands again.
func (w *workflow) release() {
	if w.token != "" {
		fmt.Fprintf(w.out, "::%s::\n", w.token)
		w.token = ""
	}
}

// begin begins a group, which people can fold, unless it is the one that is open.
func (w *workflow) begin(name, title string) {
	if w.group == name {
		return
	}
	w.end()
	w.command("group", "", title)
	w.group = name
}

// end ends the group that is open.
func (w *workflow) end() {
	if w.group != "" {
		w.command("endgroup", "", "")
		w.group = ""
	}
}
