package attack

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// startAttacks are made by images and manifests on the start of a container and
// on what enters it.
func startAttacks() []attack {
	const nothingClosed = "descriptors,close files,paths,inside,last"
	return []attack{
		{name: "working directory is a descriptor", without: nothingClosed, try: descriptorAsDir},
		{name: "image's working directory is a descriptor", without: nothingClosed, try: func(s *site) string {
			return seen(s.run(job("dir", "", "image: descriptor", "cat", "."+filepath.Join(base, "secret"))), secretText)
		}},
		{name: "probe enters a directory that was swapped for a descriptor", without: nothingClosed, try: swappedDir},
		{name: "paths that lead out while a container is set up", without: "paths", try: pathsOutside},
		{name: "process of the start that is stronger than the container", without: "descriptors,close files,last", try: spying},
		{name: "volume in place of /proc", try: volumeAsProc},
		{name: "program of the start is changed by the container", users: root, try: ownProgram},
		{name: "device nodes of the machine", users: root, without: "devices", try: machineDevices},
		{name: "descriptors after execve", without: "descriptors,close files", try: func(s *site) string {
			out := s.run(job("fds", "", "", probe("fds")...))
			if !strings.Contains(out, "| 0 1 2") {
				s.Fatal(out)
			}
			return seen(out, "| 0 1 2 ")
		}},
	}
}

func descriptorAsDir(s *site) string {
	secret := "." + filepath.Join(base, "secret")
	dirs := []string{"/proc/self/fd/700", "/proc/1/fd/700", "/proc/thread-self/fd/701", "/proc/self/task/1/fd/700", "/dev/fd/../../proc/self/fd/702"}
	for n := range 12 {
		dirs = append(dirs, fmt.Sprintf("/proc/self/fd/%d", n))
	}
	if s.weak { // of starts at the same time, which the weak binary leaks to, only the first has that number
		dirs = dirs[:1]
	}
	var manifest strings.Builder
	for i, dir := range dirs {
		manifest.WriteString(job(fmt.Sprint("dir-", i), "", "workingDir: "+dir, "cat", secret))
	}
	return seen(s.run(manifest.String()), secretText)
}

func swappedDir(s *site) string {
	secret := "." + filepath.Join(base, "secret")
	const wait = "i=0; while [ $i -lt 40 -a ! -s /tmp/seen ]; do sleep 0.1; i=$((i+1)); done; cat /tmp/seen"
	return seen(s.run(job("swap", "", `image: swapped, readinessProbe: {periodSeconds: 1, exec: {command: [sh, -c, "cat `+secret+` > /tmp/seen"]}}`,
		"sh", "-c", "cd /; rm -r /srv/work; ln -s /proc/self/fd/700 /srv/work; "+wait)), secretText)
}

// pathsOutside names paths that lead to a directory of the machine, where
// something has to be made for a container.
func pathsOutside(s *site) string {
	name := "/made-" + s.id()
	out := outside() + name
	var manifest strings.Builder
	for i, path := range []string{
		"/link" + name, "/magic" + name, "/proc/self/cwd" + out, "/proc/self/root" + out, "/proc/1/root" + out,
		"/proc/thread-self/cwd" + out, "/proc/self/fd/4" + out,
	} {
		manifest.WriteString(job(fmt.Sprint("dir-", i), "", "workingDir: "+path, probe("pwd")...))
		manifest.WriteString(job(fmt.Sprint("log-", i), "", "terminationMessagePath: "+path, probe("pwd")...))
		manifest.WriteString(job(fmt.Sprint("mount-", i), "volumes: [{name: v, emptyDir: {}}]",
			"volumeMounts: [{name: v, mountPath: "+path+"}]", probe("pwd")...))
	}
	s.run(manifest.String())
	if _, err := os.Lstat(out); err == nil {
		must(s, os.RemoveAll(out))
		return out
	}
	return ""
}

// spying looks, with the right to trace, at each process that appears in its pod:
// fifty containers and a probe in each of them.
func spying(s *site) string {
	const trace = "securityContext: {capabilities: {add: [SYS_PTRACE]}}"
	var others strings.Builder
	for i := range 50 {
		fmt.Fprintf(&others, `,
      {name: c%d, image: attacker, command: [sleep, "1"], lifecycle: {postStart: {exec: {command: ["true"]}}}}`, i)
	}
	spy := job("spy", "shareProcessNamespace: true, volumes: [{name: v, emptyDir: {}}]", trace+", volumeMounts: [{name: v, mountPath: /v}]",
		"sh", "-c", "(sleep 4; touch /v/stop) & exec /bin/probe 'spy /v/stop' 'echo looked'")
	spy = strings.Replace(spy, "}]}\n", "}"+others.String()+"]}\n", 1)
	for range 5 { // where there is something to see, it has to look at the right moment
		out := s.run(spy)
		if !strings.Contains(out, "| looked") {
			s.Fatal(out)
		}
		if got := seen(out, "| files of the machine", "| capabilities ", "| memory of", "| program "+base); got != "" || !s.weak {
			return got
		}
	}
	return ""
}

// volumeAsProc prepares a volume so that whoever writes to /proc there waits for
// ever, with pods beside it that must not.
func volumeAsProc(s *site) string {
	targets := []string{"/proc", "/proc/self", "/tmp/../proc", "/proc/sys"}
	if s.weak {
		targets = []string{"/elsewhere"}
	}
	var manifest strings.Builder
	for i, target := range targets {
		manifest.WriteString(job(fmt.Sprint("proc-", i), `volumes: [{name: v, emptyDir: {}}],
      initContainers: [{name: init, image: attacker, volumeMounts: [{name: v, mountPath: /v}],
        command: [sh, -c, "mkdir -p /v/self/attr; mkfifo /v/self/oom_score_adj /v/self/setgroups /v/oom_score_adj"]}]`,
			"volumeMounts: [{name: v, mountPath: "+target+"}]", "echo", "started"))
	}
	out := s.run(manifest.String() + job("beside", "", "", "echo", "beside it"))
	if !strings.Contains(out, "beside it") {
		s.Errorf("another pod did not start:\n%s", out)
	}
	return seen(out, "| started")
}

// ownProgram executes, writes and changes what a container finds as the program
// of its own start, and of its pod's pause process.
func ownProgram(s *site) string {
	// A copy, which stands for the program that others use.
	program := s.path("sampan")
	text, err := os.ReadFile(filepath.Join(base, "bin", "sampan"))
	must(s, err)
	must(s, os.WriteFile(program, text, 0o755))
	manifest := job("loader", "", "", "/proc/self/exe") +
		job("pause", "shareProcessNamespace: true", "securityContext: {capabilities: {add: [SYS_PTRACE]}}", "/bin/attacker", "own", "/proc/1/exe") +
		job("probed", "", `securityContext: {capabilities: {add: [SYS_PTRACE]}}, lifecycle: {postStart: {exec: {command: [/proc/self/exe]}}}`, "sleep", "1")
	if s.weak {
		manifest = job("given", "volumes: [{name: v, hostPath: {path: "+program+"}}]", "volumeMounts: [{name: v, mountPath: /program}]", "/bin/attacker", "own", "/program")
	}
	file := s.write("manifest.yaml", manifest)
	_, _ = s.output(s.command(program, "run", "--timeout=60s", file))
	after, err := os.Stat(program)
	must(s, err)
	if after.Mode() != 0o755 || after.Size() != int64(len(text)) {
		return after.Mode().String()
	}
	return ""
}

// machineDevices changes the devices of a machine, which for this attack has a
// /dev of its own.
func machineDevices(s *site) string {
	s.enter = []string{"unshare", "--mount", "sh", "-ec", `
		mkdir dev; mount -t tmpfs dev dev; cd dev
		for d in null:3 zero:5 full:7 random:8 urandom:9; do mknod -m 666 ${d%:*} c 1 ${d#*:}; done
		mknod -m 666 tty c 5 0; mkdir pts shm mqueue; ln -s /proc/self/fd fd; mount --bind /dev/pts pts; cd ..
		mount --rbind dev /dev; "$@" || true
		for d in null zero full random urandom tty; do stat -c '%n is %a %u' /dev/$d; done`, "machine"}
	out := s.run(job("devices", "", "", "sh", "-c", "chmod 600 /dev/null /dev/zero /dev/random; chown 7 /dev/full /dev/urandom; chmod 0 /dev/tty /proc/kcore /dev/stdin; echo done"))
	if !strings.Contains(out, "| done") || !strings.Contains(out, "/dev/tty is") {
		s.Fatal(out)
	}
	if strings.Count(out, "is 666 0") != 6 {
		return "devices of others"
	}
	return ""
}
