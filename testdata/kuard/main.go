// Command kuard stands in for gcr.io/kuar-demo/kuard in tests: its keygen workload, and
// the queue of work that it serves on port 8080. Flags, log lines, exit status, paths and
// answers are those of the original; the keys are of a kind that does not keep two cores
// busy for minutes.
package main

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"net/http"
	"os"
	"time"
)

func main() {
	address := flag.String("address", ":8080", "")
	enable := flag.Bool("keygen-enable", false, "")
	exit := flag.Bool("keygen-exit-on-complete", false, "")
	code := flag.Int("keygen-exit-code", 0, "")
	n := flag.Int("keygen-num-to-gen", 0, "")
	server := flag.String("keygen-memq-server", "", "")
	queue := flag.String("keygen-memq-queue", "", "")
	flag.Parse()
	// As the original it ends when its port is taken, whatever else it has to do.
	ended := make(chan error)
	go func() { ended <- http.ListenAndServe(*address, newQueues()) }()
	log.Printf("Serving on HTTP on %s", *address)
	if *enable {
		go func() {
			if *server != "" && *queue != "" {
				fromQueue(*server+"/queues/"+*queue+"/dequeue", *exit)
			} else {
				generateAll(*n)
			}
			if *exit {
				os.Exit(*code)
			}
		}()
	}
	log.Fatal(<-ended)
}

// generateAll makes n keys; infinitely many if n is 0.
func generateAll(n int) {
	log.Print("(ID 0) Workload starting")
	of := fmt.Sprint(n)
	if n == 0 {
		of = "Inf"
	}
	for i := 0; n == 0 || i < n; i++ {
		log.Printf("(ID 0 %d/%s) Item done: %s", i+1, of, key())
	}
	log.Print("(ID 0) Workload exiting")
}

// fromQueue makes a key for each item of the queue, until that is empty.
func fromQueue(url string, exit bool) {
	log.Print("MemQ Worker starting")
	for {
		item, err := dequeue(url)
		switch {
		case err != nil:
			log.Printf("Error talking to server: %v. Retrying after 1s.", err)
			time.Sleep(time.Second)
		case item != nil:
			log.Printf("Item done: %s", key())
		case exit:
			return
		default:
			log.Print("Queue is empty. Retrying after 1s.")
			time.Sleep(time.Second)
		}
	}
}

func key() string {
	key, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		log.Fatal(err)
	}
	sum := sha256.Sum256(key)
	return "SHA256:" + base64.RawStdEncoding.EncodeToString(sum[:])
}

// dequeue takes an item from the queue; there is none when the queue is empty.
func dequeue(url string) (*message, error) {
	answer, err := http.Post(url, "", nil)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	if answer.StatusCode >= 300 {
		return nil, fmt.Errorf("HTTP Error: %s", answer.Status)
	}
	if answer.StatusCode == http.StatusNoContent {
		return nil, nil
	}
	item := new(message)
	return item, json.NewDecoder(answer.Body).Decode(item)
}
