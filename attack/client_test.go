package attack

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// clientAttacks are made on the engine, its files and its users.
func clientAttacks() []attack {
	return []attack{
		{name: "data directory that others can write", try: func(s *site) string {
			dir := s.path("shared")
			must(s, os.Mkdir(dir, 0o700))
			must(s, os.Chown(dir, s.user.id, -1))
			if !s.weak {
				must(s, os.Chmod(dir, 0o777))
			}
			return seen(s.run(job("keep", "", "", "echo", "started"), "--keep="+dir), "| started")
		}},
		{name: "data directory that belongs to somebody else", users: root, try: func(s *site) string {
			dir := s.path("theirs")
			must(s, os.Mkdir(dir, 0o700))
			if !s.weak {
				must(s, os.Chown(dir, nobody, nobody))
			}
			return seen(s.run(job("keep", "", "", "echo", "started"), "--keep="+dir), "| started")
		}},
		{name: "control sequences for the user's terminal", try: func(s *site) string {
			file := s.write("manifest.yaml", job("terminal", "", "", "/bin/attacker", "terminals"))
			cmd := s.sampan("run", "--timeout=60s", file)
			if !s.weak { // who asks for raw text, for a file, gets it
				cmd = s.command("script", "-qec", strings.Join([]string{filepath.Join(base, "bin", "sampan"), "run", "--timeout=60s", file}, " "), "/dev/null")
			}
			out, _ := s.output(cmd)
			if !strings.Contains(out, "shown") {
				s.Fatal(out)
			}
			return seen(out, "\x1b]0;", "\x1b[2J", "\x1b[6n")
		}},
		{name: "deleted secrets in the engine's files", try: deletedSecret},
		{name: "secrets of pods on the disk", try: secretOnDisk},
		{name: "idle connections of strangers", try: strangers},
	}
}

// serve starts an engine, with the image, that ends with the attack.
func (s *site) serve() (data string) {
	s.Helper()
	data = s.path("data")
	if out, err := s.output(s.sampan("image", "load", "--data-dir", data, filepath.Join(base, "attacker.tar"))); err != nil {
		s.Fatal(out)
	}
	serve := s.sampan("serve", "--data-dir", data, "--listen", "127.0.0.1:0")
	out, err := serve.StdoutPipe()
	must(s, err)
	must(s, serve.Start())
	s.Cleanup(func() {
		stop := s.sampan("stop", "--data-dir", data, "--grace-period", "1s")
		if out, err := stop.CombinedOutput(); err != nil {
			s.Errorf("stop: %v\n%s", err, out)
		}
		_ = serve.Wait()
	})
	line := make([]byte, 4096)
	if n, err := out.Read(line); err != nil || !strings.HasPrefix(string(line[:n]), "sampan is ready") {
		s.Fatalf("%s %v", line[:n], err)
	}
	return data
}

func (s *site) kubectl(args ...string) string {
	s.Helper()
	text, err := s.output(s.command(append([]string{"kubectl"}, args...)...))
	if err != nil {
		s.Fatal(err)
	}
	return text
}

// readsSecret is a pod that has a Secret in a volume and in its environment.
func readsSecret(s *site, word, command string) {
	s.kubectl("create", "secret", "generic", "mine", "--from-literal=word="+word)
	s.kubectl("create", "-f", s.write("manifest.yaml", job("reads", "volumes: [{name: v, secret: {secretName: mine}}]",
		"volumeMounts: [{name: v, mountPath: /secret}], env: [{name: WORD, valueFrom: {secretKeyRef: {name: mine, key: word}}}]", "sh", "-c", command)))
}

// deletedSecret looks for a Secret on disk, after it has been deleted.
func deletedSecret(s *site) string {
	word, data := "classified-"+s.id(), s.serve()
	readsSecret(s, word, "wc -c /secret/word")
	s.kubectl("wait", "--for=condition=complete", "--timeout=60s", "job/reads")
	if s.weak { // it is there as long as it is there
		return strings.Join(holds(data, word), " ")
	}
	s.kubectl("delete", "job/reads", "secret/mine")
	for end := time.Now().Add(20 * time.Second); len(holds(data, word)) > 0 && time.Now().Before(end); {
		time.Sleep(100 * time.Millisecond)
	}
	return strings.Join(holds(data, word), " ")
}

// secretOnDisk looks for a Secret beside the store while a pod has it.
func secretOnDisk(s *site) string {
	word, data := "classified-"+s.id(), s.serve()
	command := "echo ready; sleep 60"
	if s.weak { // the pod itself can put it there
		command = "cat /secret/word > /word; " + command
	}
	readsSecret(s, word, command)
	s.kubectl("wait", "--for=jsonpath={.status.ready}=1", "--timeout=60s", "job/reads")
	for range 50 {
		for _, file := range holds(data, word) {
			if filepath.Base(file) != "store.db" {
				return file
			}
		}
		if !s.weak {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	return ""
}

// strangers opens more connections to a server than it may have files, and says
// nothing on them.
func strangers(s *site) string {
	s.enter = []string{"prlimit", "--nofile=256:256"}
	var address string
	if s.weak { // as many servers do it
		plain := s.command(filepath.Join(base, "attacker"), "serve")
		out, err := plain.StdoutPipe()
		must(s, err)
		must(s, plain.Start())
		s.Cleanup(func() { _ = plain.Process.Kill(); _ = plain.Wait() })
		_, err = fmt.Fscan(out, &address)
		must(s, err)
	} else {
		s.serve()
		config := s.kubectl("config", "view", "-o", "jsonpath={.clusters[0].cluster.server}")
		address = strings.TrimPrefix(config, "https://")
	}
	for range 400 {
		conn, err := net.Dial("tcp", address)
		must(s, err)
		defer conn.Close()
	}
	get := []string{"kubectl", "get", "jobs", "--request-timeout=5s"}
	if s.weak {
		get = []string{filepath.Join(base, "attacker"), "get", "http://" + address}
	}
	if _, err := s.output(s.command(get...)); err != nil {
		return "no client is served any more"
	}
	return ""
}

// holds returns the files below dir that have a word in them, as it is or as JSON has it.
func holds(dir, word string) (found []string) {
	_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			text, _ := os.ReadFile(path)
			if slices.ContainsFunc(forms(word), func(form []byte) bool { return bytes.Contains(text, form) }) {
				found = append(found, path)
			}
		}
		return nil
	})
	return found
}

// forms are how a word may be written: as it is, and in base64 from each of the
// three places where it may begin.
func forms(word string) [][]byte {
	list := [][]byte{[]byte(word)}
	for skip := range 3 {
		coded := base64.StdEncoding.EncodeToString([]byte(word[skip:]))
		list = append(list, []byte(coded[:len(coded)/4*4-4]))
	}
	return list
}
