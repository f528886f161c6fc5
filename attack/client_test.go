package attack

import (
	"bytes"
	"encoding/base64"
	"io/fs"
	"os"
	"path/filepath"
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
	}
}

// deletedSecret looks for a Secret on disk, after it has been deleted.
func deletedSecret(s *site) string {
	word := "classified-" + s.id()
	data := s.path("data")
	if _, err := s.output(s.sampan("image", "load", "--data-dir", data, filepath.Join(base, "attacker.tar"))); err != nil {
		s.Fatal(err)
	}
	serve := s.sampan("serve", "--data-dir", data, "--listen", "127.0.0.1:0")
	out, err := serve.StdoutPipe()
	must(s, err)
	must(s, serve.Start())
	defer func() {
		_, err := s.output(s.sampan("stop", "--data-dir", data))
		if err != nil {
			s.Error(err)
		}
		_ = serve.Wait()
	}()
	line := make([]byte, 4096)
	if n, err := out.Read(line); err != nil || !strings.HasPrefix(string(line[:n]), "sampan is ready") {
		s.Fatalf("%s %v", line[:n], err)
	}
	kubectl := func(args ...string) string {
		text, err := s.output(s.command(append([]string{"kubectl"}, args...)...))
		if err != nil {
			s.Fatal(err)
		}
		return text
	}
	kubectl("create", "secret", "generic", "mine", "--from-literal=word="+word)
	kubectl("create", "-f", s.write("manifest.yaml", job("reads", "volumes: [{name: v, secret: {secretName: mine}}]",
		"volumeMounts: [{name: v, mountPath: /secret}], env: [{name: WORD, valueFrom: {secretKeyRef: {name: mine, key: word}}}]", "sh", "-c", "wc -c /secret/word")))
	kubectl("wait", "--for=condition=complete", "--timeout=60s", "job/reads")
	if s.weak { // it is there as long as it is there
		return holds(data, word)
	}
	kubectl("delete", "job/reads", "secret/mine")
	for end := time.Now().Add(20 * time.Second); holds(data, word) != "" && time.Now().Before(end); {
		time.Sleep(100 * time.Millisecond)
	}
	return holds(data, word)
}

// holds returns the file below dir that has a word in it, as it is or as JSON has it.
func holds(dir, word string) (found string) {
	_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			text, _ := os.ReadFile(path)
			for _, form := range forms(word) {
				if bytes.Contains(text, form) {
					found = path
				}
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
