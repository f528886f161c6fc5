package main

import (
	"encoding/json"
	"io"
	"net/http"
	"sync"
)

// queues are what the server keeps in memory.
type queues struct {
	*http.ServeMux
	mu     sync.Mutex
	byName map[string]*queue
}

type queue struct {
	items              []string
	enqueued, dequeued int
}

func newQueues() *queues {
	q := &queues{ServeMux: http.NewServeMux(), byName: map[string]*queue{}}
	q.HandleFunc("GET /healthy", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "ok") })
	q.HandleFunc("PUT /memq/server/queues/{name}", q.create)
	q.HandleFunc("POST /memq/server/queues/{name}/enqueue", q.with((*queue).enqueue))
	q.HandleFunc("POST /memq/server/queues/{name}/dequeue", q.with((*queue).dequeue))
	q.HandleFunc("GET /memq/server/stats", q.stats)
	return q
}

func (q *queues) create(w http.ResponseWriter, r *http.Request) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if name := r.PathValue("name"); q.byName[name] == nil {
		q.byName[name] = &queue{}
	}
	w.WriteHeader(http.StatusCreated)
}

// with lets do work on the queue that a request names.
func (q *queues) with(do func(*queue, http.ResponseWriter, *http.Request)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		q.mu.Lock()
		defer q.mu.Unlock()
		if of := q.byName[r.PathValue("name")]; of != nil {
			do(of, w, r)
		} else {
			http.NotFound(w, r)
		}
	}
}

func (q *queue) enqueue(w http.ResponseWriter, r *http.Request) {
	item, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<20))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	q.items = append(q.items, string(item))
	q.enqueued++
}

func (q *queue) dequeue(w http.ResponseWriter, _ *http.Request) {
	if len(q.items) == 0 {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	io.WriteString(w, q.items[0])
	q.items = q.items[1:]
	q.dequeued++
}

func (q *queues) stats(w http.ResponseWriter, _ *http.Request) {
	q.mu.Lock()
	defer q.mu.Unlock()
	type stat struct {
		Name     string `json:"name"`
		Depth    int    `json:"depth"`
		Enqueued int    `json:"enqueued"`
		Dequeued int    `json:"dequeued"`
	}
	out := struct {
		Kind   string `json:"kind"`
		Queues []stat `json:"queues"`
	}{Kind: "stats"}
	for name, of := range q.byName {
		out.Queues = append(out.Queues, stat{name, len(of.items), of.enqueued, of.dequeued})
	}
	json.NewEncoder(w).Encode(out)
}
