// Command kuard stands in for gcr.io/kuar-demo/kuard in tests. Of its keygen workload
// the flags, the log lines and the exit status are those of the original, the keys are
// of a kind that does not keep two cores busy for minutes. Without flags it is a server,
// as the original is; nothing that is asked of it is answered but that it is there.
package main

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"flag"
	"io"
	"log"
	"net/http"
	"os"
	"time"
)

func main() {
	enable := flag.Bool("keygen-enable", false, "")
	exit := flag.Bool("keygen-exit-on-complete", false, "")
	code := flag.Int("keygen-exit-code", 0, "")
	n := flag.Int("keygen-num-to-gen", 0, "")
	flag.Parse()
	if flag.NFlag() == 0 {
		serve()
	}
	if !*enable || !*exit || *n <= 0 {
		log.Fatal("only --keygen-enable --keygen-exit-on-complete --keygen-num-to-gen=N")
	}
	log.Print("(ID 0) Workload starting")
	for i := range *n {
		key, _, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			log.Fatal(err)
		}
		sum := sha256.Sum256(key)
		log.Printf("(ID 0 %d/%d) Item done: SHA256:%s", i+1, *n, base64.RawStdEncoding.EncodeToString(sum[:]))
	}
	log.Print("(ID 0) Workload exiting")
	os.Exit(*code)
}

// serve serves until the process is ended. Somebody else may have the port, as long as
// pods share the machine's network; it waits for it then.
func serve() {
	http.HandleFunc("/healthy", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "ok") })
	for {
		log.Print(http.ListenAndServe(":8080", nil))
		time.Sleep(time.Second)
	}
}
