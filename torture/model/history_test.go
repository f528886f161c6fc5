package model

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

// call is an operation from one moment to another, in milliseconds.
func call(client int, from, to int, o Operation) Operation {
	began := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	o.Client, o.Key = client, "k"
	o.Call, o.Return = began.Add(time.Duration(from)*time.Millisecond), began.Add(time.Duration(to)*time.Millisecond)
	return o
}

func saw(rev uint64, value string) map[string]State {
	if value == "" {
		return map[string]State{}
	}
	return map[string]State{"k": {Rev: rev, Value: value}}
}

// TestHistory judges histories that have an order, and ones that have none.
func TestHistory(t *testing.T) {
	t.Parallel()
	create := call(1, 0, 10, Operation{Op: CreateOp, Value: "a", Result: Done, Saw: saw(5, "a")})
	update := call(1, 20, 30, Operation{Op: UpdateOp, Upon: "a", Value: "b", Result: Done, Saw: saw(6, "b")})
	lost := call(1, 20, 60, Operation{Op: UpdateOp, Upon: "a", Value: "b", Result: Lost})
	get := func(from, to int, value string) Operation {
		return call(2, from, to, Operation{Op: GetOp, Result: Done, Saw: saw(0, value)})
	}
	gone := func(from, to int) Operation { return call(2, from, to, Operation{Op: GetOp, Result: NotFound}) }
	for _, c := range []struct {
		name    string
		history []Operation
		want    Verdict
	}{
		{"one after the other", []Operation{create, get(12, 15, "a"), update, get(40, 50, "b")}, Linearizable},
		{"a read beside a write sees either", []Operation{create, update, get(22, 28, "a"), get(24, 29, "b")}, Linearizable},
		{"an acknowledged write is lost", []Operation{create, gone(12, 15)}, NotLinearizable},
		{"a read of what was before", []Operation{create, update, get(40, 50, "a")}, NotLinearizable},
		{"two reads see a write come and go", []Operation{create, update, get(21, 24, "b"), get(25, 29, "a")}, NotLinearizable},
		{"two updates upon the same", []Operation{create, update, call(3, 20, 30, Operation{Op: UpdateOp, Upon: "a", Value: "c", Result: Done, Saw: saw(7, "c")})}, NotLinearizable},
		{"two updates upon the same, of which one conflicts", []Operation{create, update, call(3, 20, 30, Operation{Op: UpdateOp, Upon: "a", Value: "c", Result: Conflict})}, Linearizable},
		{"a conflict for which there is no reason", []Operation{create, call(3, 20, 30, Operation{Op: UpdateOp, Upon: "a", Value: "c", Result: Conflict})}, NotLinearizable},
		{"a name that is said to be taken, and is not", []Operation{call(3, 0, 5, Operation{Op: CreateOp, Value: "z", Result: Exists}), create}, Linearizable},
		{"a name that is said to be taken, and is not yet", []Operation{call(3, 0, 5, Operation{Op: CreateOp, Value: "z", Result: Exists}), call(1, 7, 10, Operation{Op: CreateOp, Value: "a", Result: Done, Saw: saw(5, "a")})}, NotLinearizable},
		{"a call without an answer has happened", []Operation{create, lost, get(70, 80, "b")}, Linearizable},
		{"a call without an answer has not happened", []Operation{create, lost, get(70, 80, "a")}, Linearizable},
		{"a call without an answer happens long after", []Operation{create, lost, get(70, 80, "a"), get(85, 90, "b")}, NotLinearizable},
		{"a deletion", []Operation{create, call(1, 20, 30, Operation{Op: DeleteOp, Upon: "a", Result: Done}), gone(40, 50)}, Linearizable},
		{"what was deleted is there", []Operation{create, call(1, 20, 30, Operation{Op: DeleteOp, Upon: "a", Result: Done}), get(40, 50, "a")}, NotLinearizable},
		{"a list", []Operation{create, call(2, 12, 15, Operation{Op: ListOp, Result: Done, Saw: saw(5, "a")})}, Linearizable},
		{"a list that lacks something", []Operation{create, call(2, 12, 15, Operation{Op: ListOp, Result: Done, Saw: saw(0, "")})}, NotLinearizable},
		{"revisions run backwards", []Operation{create, call(1, 20, 30, Operation{Op: UpdateOp, Upon: "a", Value: "b", Result: Done, Saw: saw(4, "b")})}, NotLinearizable},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			drawing := filepath.Join(t.TempDir(), "drawing.html")
			got, err := CheckHistory(c.history, time.Minute, drawing)
			if err != nil || got != c.want {
				t.Errorf("%v, want %v: %v", got, c.want, err)
			}
			if _, err := os.Stat(drawing); (err == nil) != (c.want == NotLinearizable) {
				t.Errorf("the drawing: %v", err)
			}
		})
	}
}
