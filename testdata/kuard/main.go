// Command kuard stands in for gcr.io/kuar-demo/kuard in tests. Of its keygen workload the
// flags, the log lines and the exit status are those of the original, the keys are of a
// kind that does not keep two cores busy for minutes. Without flags it serves the queue of
// such workloads on port 8080, under the paths of the original.
package main

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"flag"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
)

func main() {
	enable := flag.Bool("keygen-enable", false, "")
	exit := flag.Bool("keygen-exit-on-complete", false, "")
	code := flag.Int("keygen-exit-code", 0, "")
	n := flag.Int("keygen-num-to-gen", 0, "")
	server := flag.String("keygen-memq-server", "", "")
	queue := flag.String("keygen-memq-queue", "", "")
	flag.Parse()
	switch {
	case flag.NFlag() == 0:
		log.Fatal(http.ListenAndServe(":8080", newQueues()))
	case !*enable || !*exit || (*n <= 0) == (*server == "" || *queue == ""):
		log.Fatal("only --keygen-enable --keygen-exit-on-complete with --keygen-num-to-gen=N, or --keygen-memq-server=URL --keygen-memq-queue=NAME")
	}
	log.Print("(ID 0) Workload starting")
	for i := range *n {
		generate(fmt.Sprintf("%d/%d", i+1, *n))
	}
	for *server != "" {
		item, ok := dequeue(*server + "/queues/" + *queue + "/dequeue")
		if !ok {
			break
		}
		generate(item)
	}
	log.Print("(ID 0) Workload exiting")
	os.Exit(*code)
}

// generate works on one item.
func generate(item string) {
	key, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		log.Fatal(err)
	}
	sum := sha256.Sum256(key)
	log.Printf("(ID 0 %s) Item done: SHA256:%s", item, base64.RawStdEncoding.EncodeToString(sum[:]))
}

// dequeue takes an item from the queue; there is none when the queue is empty.
func dequeue(url string) (item string, ok bool) {
	answer, err := http.Post(url, "", nil)
	if err != nil {
		log.Fatal(err)
	}
	defer answer.Body.Close()
	switch answer.StatusCode {
	case http.StatusOK:
	case http.StatusNoContent:
		return "", false
	default:
		log.Fatalf("%s: %s", url, answer.Status)
	}
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		log.Fatal(err)
	}
	return string(text), true
}
