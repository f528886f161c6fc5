package attack

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// machineAttacks are made on the machine's resources, and on what should be gone.
func machineAttacks() []attack {
	return []attack{
		{name: "fork bomb", users: root, try: forkBomb},
		{name: "memory beyond the limit", users: root, try: func(s *site) string {
			limit := "resources: {limits: {memory: 32Mi}}"
			if s.weak {
				limit = ""
			}
			out := s.run(job("eats", "", limit, probe("eat 128")...) + job("beside", "", "", "sh", "-c", "sleep 1; echo alive"))
			if !strings.Contains(out, "| alive") {
				s.Errorf("another pod did not live:\n%s", out)
			}
			return seen(out, "| fed")
		}},
		{name: "directories too deep to be removed", try: tooDeep},
		{name: "processes that outlive a plain process of the machine", try: func(s *site) string {
			return survivors(s, "--runtime=host", func(script string) string {
				return job("host", "", "", "sh", "-c", script)
			})
		}},
		{name: "processes that outlive a sandbox", try: func(s *site) string {
			return survivors(s, "--runtime=sandbox", func(script string) string {
				manifest := job("own", "", "", "sh", "-c", script) + job("shared", "shareProcessNamespace: true", "", "sh", "-c", script)
				if s.user.name == root {
					manifest += job("machine", "hostPID: true", "securityContext: {privileged: true}", "sh", "-c", strings.ReplaceAll(script, "setsid", "unshare -m setsid"))
				}
				return manifest
			})
		}},
		{name: "process that does not end when it is told to", try: func(s *site) string {
			n := nap(s)
			script := "trap '' TERM INT HUP; sleep " + n + " & while :; do wait; sleep " + n + "; done"
			if s.weak {
				return aside(s, script, n)
			}
			out := s.run(job("stubborn", "activeDeadlineSeconds: 1", "", "sh", "-c", script))
			if !strings.Contains(out, "DeadlineExceeded") && !strings.Contains(out, "Failed") {
				s.Fatal(out)
			}
			return alive(n)
		}},
		{name: "descriptors of the engine's parent", try: parentsFiles},
	}
}

func forkBomb(s *site) string {
	limit := "--pod-max-pids=64"
	if s.weak {
		limit = "--pod-max-pids=-1"
	}
	out := s.run(job("bomb", "", "", "/bin/attacker", "bomb", "200")+job("beside", "", "", "sh", "-c", "sleep 1; echo alive"), limit)
	made := regexp.MustCompile(`made (\d+) processes`).FindStringSubmatch(out)
	if made == nil || !strings.Contains(out, "| alive") {
		s.Fatalf("the bomb, or another pod, did not live:\n%s", out)
	}
	if n, _ := strconv.Atoi(made[1]); n > 64 {
		return made[0]
	}
	return ""
}

// tooDeep makes directories of which one descriptor each would be too many.
func tooDeep(s *site) string {
	if s.weak { // whoever removes them as one does it
		const limited = "attacker deep . 2000 >/dev/null; prlimit --nofile=1024:1024 attacker remove d"
		cmd := s.command("sh", "-c", strings.ReplaceAll(limited, "attacker", filepath.Join(base, "attacker")))
		out, _ := s.output(cmd)
		return seen(out, "too many open files")
	}
	s.enter = []string{"prlimit", "--nofile=1024:1024"}
	script := "mkdir /left /v/left; attacker deep /left 2000; attacker deep /v/left 2000; chmod 0 /left/d/d; chmod 555 /v/left /left; mkfifo /v/fifo; echo made"
	manifest := job("deep", "volumes: [{name: v, emptyDir: {}}]", "volumeMounts: [{name: v, mountPath: /v}]", "sh", "-c", script)
	out := s.run(manifest + job("beside", "", "", "echo", "beside it"))
	if !strings.Contains(out, "| made") || !strings.Contains(out, "beside it") {
		s.Fatal(out)
	}
	return seen(out, "warning")
}

// nap is a number of seconds that only this attack's processes sleep, so that they
// can be found.
func nap(s *site) string { return fmt.Sprintf("86%s.%d", s.id(), os.Getpid()) }

// alive looks for a process that sleeps so long.
func alive(nap string) string {
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, file := range files {
		if text, err := os.ReadFile(file); err == nil && bytes.HasPrefix(text, []byte("sleep\x00"+nap)) {
			return filepath.Dir(file)
		}
	}
	return ""
}

// aside runs a script without Sampan, looks what is left of it, and ends that.
func aside(s *site, script, nap string) (left string) {
	cmd := s.command("sh", "-c", script)
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	must(s, err)
	defer null.Close()
	cmd.Stdout, cmd.Stderr = null, null
	must(s, cmd.Start())
	defer cmd.Wait()
	time.Sleep(time.Second)
	_ = cmd.Process.Signal(syscall.SIGTERM) // it may have ended
	time.Sleep(200 * time.Millisecond)
	if alive(nap) != "" && cmd.Process.Signal(syscall.Signal(0)) == nil {
		left = "the first process"
		_ = cmd.Process.Kill()
	}
	for range 100 {
		dir := alive(nap)
		if dir == "" {
			return left
		}
		left = dir
		pid, _ := strconv.Atoi(filepath.Base(dir))
		_ = syscall.Kill(pid, syscall.SIGKILL)
		time.Sleep(10 * time.Millisecond)
	}
	s.Errorf("cannot end %s", left)
	return left
}

// survivors leaves processes behind in the ways that there are.
func survivors(s *site, runtime string, manifest func(script string) string) string {
	n := nap(s)
	script := strings.ReplaceAll(`setsid env -i sleep NAP & setsid sh -c "trap '' TERM HUP; sleep NAP & sleep NAP" & (setsid sleep NAP & setsid env -i sleep NAP &) & sleep 0.5; echo left`, "NAP", n)
	if s.weak {
		return aside(s, script, n)
	}
	out := s.run(manifest(script), runtime)
	if strings.Count(out, "| left") != strings.Count(manifest(""), "kind: Job") {
		s.Fatal(out)
	}
	return alive(n)
}

// parentsFiles has a file open when the engine is started, as a shell or a
// service manager may.
func parentsFiles(s *site) string {
	file := s.write("secret", secretText)
	read := []string{"sh", "-c", "for n in 3 4 5 6 7 8 9; do cat /proc/self/fd/$n <&$n; done 2>/dev/null; echo tried"}
	cmd := s.command(read...)
	if !s.weak {
		cmd = s.sampan("run", "--runtime=host", "--timeout=60s", s.write("manifest.yaml", job("parent", "", "", read...)))
	}
	open, err := os.Open(file)
	must(s, err)
	defer open.Close()
	for range 7 {
		cmd.ExtraFiles = append(cmd.ExtraFiles, open)
	}
	out, _ := s.output(cmd)
	if !strings.Contains(out, "tried") {
		s.Fatal(out)
	}
	return seen(out, secretText)
}
