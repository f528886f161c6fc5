package attack

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// rightsAttacks are made by code in a container on what it may do.
func rightsAttacks() []attack {
	return []attack{
		{name: "number that the image makes root's name", try: numberAsName},
		{name: "system calls outside the filter", without: "install seccomp filter", try: func(s *site) string {
			return seen(s.run(job("calls", "", "", "/bin/attacker", "calls")), "allowed: keyctl", "allowed: personality")
		}},
		{name: "pause process as a way around the filter", without: "install seccomp filter", try: func(s *site) string {
			out := s.run(job("pause", "shareProcessNamespace: true", "securityContext: {capabilities: {add: [SYS_PTRACE]}}", probe("status-of 1 Seccomp")...))
			if !strings.Contains(out, "Seccomp=") {
				s.Fatal(out)
			}
			return seen(out, "Seccomp=0")
		}},
		{name: "file systems and devices by capability", try: func(s *site) string {
			out := s.run(job("mount", "", given(s, "privileged: true"), probe("mount /srv", "mknod /tmp/memory 1 5", "echo tried")...))
			if !strings.Contains(out, "tried") {
				s.Fatal(out)
			}
			if strings.Contains(out, "mount /srv: error") && !strings.Contains(out, "| opened") {
				return ""
			}
			return "mounted or opened"
		}},
		{name: "set-user-id program under no_new_privs", users: rootMapped, try: func(s *site) string {
			escalate := fmt.Sprintf("securityContext: {runAsUser: 1001, allowPrivilegeEscalation: %v}", s.weak)
			return seen(s.run(job("setuid", "", escalate, "/bin/setuid-probe", "id")), "| 1001 0 ")
		}},
		{name: "loopback traffic of others", users: root, try: overhear},
		{name: "services that the machine has for itself", try: reachLoopback},
		{name: "processes of the machine", try: othersProcesses},
		{name: "files of the kernel in /proc and /sys", users: root, try: kernelFiles},
		{name: "rights of a plain process of the machine", users: root, try: hostRights},
		{name: "user namespace that was asked for and is not there", users: root, try: func(s *site) string {
			pod := "hostUsers: false"
			if s.weak {
				pod = ""
			}
			return seen(s.run(job("users", pod, "", "cat", "/proc/self/uid_map"), waits), "4294967295")
		}},
	}
}

// waits are the flags for manifests of which a pod is refused: it waits, as it
// does with a kubelet, to be corrected.
const waits = "--timeout=6s"

// given is a security context that gives a right where the defence is missing.
func given(s *site, right string) string {
	if s.weak {
		return "securityContext: {" + right + "}"
	}
	return ""
}

// numberAsName is an image in which 1000, and the name 1000x, are root.
func numberAsName(s *site) string {
	manifest := job("number", "securityContext: {runAsNonRoot: true, runAsUser: 1000}", "", probe("id")...) +
		job("image", "securityContext: {runAsNonRoot: true}", "image: named", probe("id")...)
	if s.weak { // who does not ask for a number gets whom the image says
		manifest = job("name", "", "image: named", probe("id")...)
	}
	out := s.run(manifest, waits)
	if !s.weak && !strings.Contains(out, "| 1000 1000 ") {
		s.Fatal(out)
	}
	return seen(out, "| 0 0 ")
}

// overhear reads what other processes of the machine send to each other.
func overhear(s *site) string {
	word := "Bearer-" + s.id() + fmt.Sprint(os.Getpid())
	conn, err := net.Dial("udp", "127.0.0.1:9")
	must(s, err)
	done := make(chan struct{})
	defer func() { close(done); conn.Close() }()
	go func() {
		for {
			_, _ = conn.Write([]byte("Authorization: " + word))
			select {
			case <-done:
				return
			case <-time.After(20 * time.Millisecond):
			}
		}
	}()
	pod := ""
	if s.weak {
		pod = "hostNetwork: true"
	}
	return seen(s.run(job("sniff", pod, "securityContext: {capabilities: {add: [NET_RAW, NET_ADMIN]}}", "/bin/attacker", "sniff", word)), "overheard "+word)
}

// reachLoopback asks what listens at a loopback address of the machine, by that and by every
// address that a pod could take for the machine's.
func reachLoopback(s *site) string {
	const word = "for this machine alone"
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		s.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			fmt.Fprintln(conn, word)
			conn.Close()
		}
	}()
	pod := ""
	if s.weak {
		pod = "hostNetwork: true"
	}
	port := l.Addr().(*net.TCPAddr).Port
	ask := fmt.Sprintf("for ip in 127.0.0.1 127.0.0.2 10.244.0.1 10.244.0.2 10.96.0.1 10.96.0.10 169.254.0.1 0.0.0.0; do nc -w 2 $ip %d </dev/null; done; echo tried", port)
	out := s.run(job("reach", pod, "", "sh", "-c", ask))
	if !strings.Contains(out, "| tried") {
		s.Fatal(out)
	}
	return seen(out, word)
}

// othersProcesses looks for a process of the machine, this one.
func othersProcesses(s *site) string {
	pod := ""
	if s.weak {
		pod = "hostPID: true"
	}
	me := fmt.Sprint(os.Getpid())
	out := s.run(job("see", pod, "", "sh", "-c", "grep -l "+filepath.Base(os.Args[0])+" /proc/["+me[:1]+"]*/cmdline; echo tried"))
	if !strings.Contains(out, "| tried") {
		s.Fatal(out)
	}
	return seen(out, "/proc/"+me+"/cmdline")
}

// kernelFiles opens for writing, and reads, what commands the machine. It writes nothing.
func kernelFiles(s *site) string {
	var tries []string
	for _, file := range []string{"/proc/sysrq-trigger", "/proc/sys/vm/drop_caches", "/proc/sys/kernel/core_pattern", "/proc/sys/kernel/modprobe", "/sys/kernel/mm/ksm/run", "/proc/irq/default_smp_affinity"} {
		tries = append(tries, "test -e "+file+" && (: >> "+file+") 2>/dev/null && echo opened "+file)
	}
	for _, file := range []string{"/proc/keys", "/proc/timer_list", "/proc/kcore"} {
		tries = append(tries, "head -c 1 "+file+" 2>/dev/null | grep -q . && echo read "+file)
	}
	out := s.run(job("kernel", "", given(s, "privileged: true"), "sh", "-c", strings.Join(append(tries, "echo tried"), "; ")))
	if !strings.Contains(out, "| tried") {
		s.Fatal(out)
	}
	return seen(out, "| opened ", "| read ")
}

// hostRights asks a plain process of the machine to be weak.
func hostRights(s *site) string {
	made := s.path("made")
	nonRoot, noNew, drop := "securityContext: {runAsNonRoot: true}", "securityContext: {allowPrivilegeEscalation: false}", "securityContext: {capabilities: {drop: [ALL]}}"
	if s.weak {
		nonRoot, noNew, drop = "", "", ""
	}
	out := s.run(job("root", "", nonRoot, "touch", made)+job("privs", "", noNew, "grep", "NoNewPrivs", "/proc/self/status")+
		job("caps", "", drop, "sh", "-c", "grep CapEff /proc/self/status"), waits, "--runtime=host")
	if !strings.Contains(out, "NoNewPrivs:") || !strings.Contains(out, "CapEff:") {
		s.Fatal(out)
	}
	got := seen(out, "NoNewPrivs:\t0") + seen(strings.ReplaceAll(out, "CapEff:\t0000000000000000", ""), "CapEff:\t0")
	if _, err := os.Stat(made); err == nil {
		got += " ran as root"
	}
	return got
}
