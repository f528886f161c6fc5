package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
)

// NodesPath answers GET with the nodes that the engine runs itself, to an administrator, and
// POST to NodesPath/NAME/stop, kill or start by doing so. It is not how a node is drained or
// deleted, which is the API's business: it is the machine's switch.
const NodesPath = "/sampan/nodes"

// MachineNode is a node that the engine runs itself.
type MachineNode struct {
	Name string `json:"name"`
	// State is Running, Stopped (nobody looks after its pods) or Killed (they are gone).
	State string `json:"state"`
	// Directory is where its files are.
	Directory string `json:"directory"`
}

// Machine has nodes that can be stopped and started.
type Machine interface {
	Nodes() []MachineNode
	// Switch does what it is told to ("stop", "kill", "start") with a node. The error is
	// ErrNoNode, ErrNoSwitch, or says why that cannot be done now.
	Switch(ctx context.Context, node, what string) error
}

// Errors of a Machine.
var (
	ErrNoNode   = errors.New("this engine runs no node of that name")
	ErrNoSwitch = errors.New("want start, stop or kill")
)

// machineNodes is the endpoint.
type machineNodes struct{ machine Machine }

func (m machineNodes) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	rest := strings.Trim(strings.TrimPrefix(r.URL.Path, NodesPath), "/")
	name, what, switches := strings.Cut(rest, "/")
	method := http.MethodGet
	if switches {
		method = http.MethodPost
	}
	switch {
	case rest != "" && !switches:
		http.NotFound(w, r)
		return
	case r.Method != method:
		w.Header().Set("Allow", method)
		http.Error(w, "want "+method, http.StatusMethodNotAllowed)
		return
	}
	if switches {
		if err := m.machine.Switch(r.Context(), name, what); err != nil {
			http.Error(w, fmt.Sprintf("%s node %q: %v", what, name, err), switchCode(err))
			return
		}
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(m.machine.Nodes()) // who has gone needs no answer
}

func switchCode(err error) int {
	switch {
	case errors.Is(err, ErrNoNode):
		return http.StatusNotFound
	case errors.Is(err, ErrNoSwitch):
		return http.StatusBadRequest
	}
	return http.StatusConflict
}
