package main

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"sync"
	"time"
)

// queues are what the server keeps in memory.
type queues struct {
	*http.ServeMux
	mu     sync.Mutex
	byName map[string]*queue
}

type queue struct {
	items []message
	stat
}

type message struct {
	Kind    string `json:"kind"`
	ID      string `json:"id"`
	Body    string `json:"body"`
	Created string `json:"creationTimestamp"`
}

type stat struct {
	Name     string `json:"name"`
	Depth    int    `json:"depth"`
	Enqueued int    `json:"enqueued"`
	Dequeued int    `json:"dequeued"`
	Drained  int    `json:"drained"`
}

func newQueues() *queues {
	q := &queues{ServeMux: http.NewServeMux(), byName: map[string]*queue{}}
	q.HandleFunc("GET /healthy", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "ok") })
	q.HandleFunc("GET /ready", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "ok") })
	q.HandleFunc("GET /memq/server/stats", q.stats)
	q.HandleFunc("PUT /memq/server/queues/{name}", q.create)
	q.HandleFunc("DELETE /memq/server/queues/{name}", q.with(func(of *queue, w http.ResponseWriter, _ *http.Request) { delete(q.byName, of.Name) }))
	q.HandleFunc("POST /memq/server/queues/{name}/drain", q.with((*queue).drain))
	q.HandleFunc("POST /memq/server/queues/{name}/enqueue", q.with((*queue).enqueue))
	q.HandleFunc("POST /memq/server/queues/{name}/dequeue", q.with((*queue).dequeue))
	return q
}

func (q *queues) create(w http.ResponseWriter, r *http.Request) {
	q.mu.Lock()
	defer q.mu.Unlock()
	name := r.PathValue("name")
	if q.byName[name] != nil {
		http.Error(w, "already exists", http.StatusBadRequest)
		return
	}
	q.byName[name] = &queue{stat: stat{Name: name}}
}

// with lets do work on the queue that a request names.
func (q *queues) with(do func(*queue, http.ResponseWriter, *http.Request)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		q.mu.Lock()
		defer q.mu.Unlock()
		if of := q.byName[r.PathValue("name")]; of != nil {
			do(of, w, r)
		} else {
			http.Error(w, "does not exist", http.StatusBadRequest)
		}
	}
}

func (q *queue) enqueue(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<20))
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	id := make([]byte, 16)
	_, _ = rand.Read(id)
	m := message{Kind: "message", ID: hex.EncodeToString(id), Body: string(body), Created: time.Now().Format(time.RFC3339Nano)}
	q.items = append(q.items, m)
	q.Enqueued++
	answer(w, m)
}

func (q *queue) dequeue(w http.ResponseWriter, _ *http.Request) {
	if len(q.items) == 0 {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	answer(w, q.items[0])
	q.items = q.items[1:]
	q.Dequeued++
}

func (q *queue) drain(http.ResponseWriter, *http.Request) {
	q.Drained += len(q.items)
	q.items = nil
}

func (q *queues) stats(w http.ResponseWriter, _ *http.Request) {
	q.mu.Lock()
	defer q.mu.Unlock()
	out := struct {
		Kind   string `json:"kind"`
		Queues []stat `json:"queues"`
	}{"stats", []stat{}}
	for _, of := range q.byName {
		of.Depth = len(of.items)
		out.Queues = append(out.Queues, of.stat)
	}
	answer(w, out)
}

func answer(w http.ResponseWriter, object any) {
	for name, value := range map[string]string{
		"Content-Type": "application/json", "Cache-Control": "no-cache, private, max-age=0",
		"Pragma": "no-cache", "Expires": time.Unix(0, 0).Format(time.RFC1123),
	} {
		w.Header().Set(name, value)
	}
	_ = json.NewEncoder(w).Encode(object)
}
