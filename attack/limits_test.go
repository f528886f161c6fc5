package attack

import (
	"regexp"
	"strconv"
	"strings"
	"sync"
)

// limitAttacks use up, or hold, what the kernel has for a user or for the whole machine.
func limitAttacks() []attack {
	return []attack{
		{name: "lease on a file that is the engine's, too", without: "install seccomp filter", try: leases},
		{name: "terminals of the whole machine", try: func(s *site) string {
			return moreThan(s, 256, `opened (\d+) terminals`, s.run(job("ptys", "", given(s, "privileged: true"), "/bin/attacker", "ptys", "300")))
		}},
		{name: "descriptors that nobody receives", users: ordinary + "," + mapped, without: "set limit of open files", try: unreceived},
		{name: "the machine's resolv.conf", try: resolvConf},
	}
}

// moreThan tells whether a number in text is.
func moreThan(s *site, most int, pattern, text string) string {
	found := regexp.MustCompile(pattern).FindAllStringSubmatch(text, -1)
	if found == nil {
		s.Fatal(text)
	}
	for _, f := range found {
		if n, _ := strconv.Atoi(f[1]); n > most {
			return f[0]
		}
	}
	return ""
}

// leases keeps the files that are cut when they grow from being cut.
func leases(s *site) string {
	return moreThan(s, 1, `kept (\d+) MB`, s.run(job("hosts", "", "", "/bin/attacker", "lease", "/etc/hosts", "8")+
		job("message", "", "", "/bin/attacker", "lease", "/dev/termination-log", "8")))
}

// sending is held by who sends descriptors as an ordinary user: all are the same.
var sending sync.Mutex

// unreceived sends so many descriptors that nobody else of this user can send any. This
// engine has few files, so that they are not so many for others.
func unreceived(s *site) string {
	sending.Lock()
	defer sending.Unlock()
	s.enter = []string{"prlimit", "--nofile=512:512"}
	out := s.run(job("send", "", "", "/bin/attacker", "send", "5") +
		job("beside", "", "readinessProbe: {periodSeconds: 1, exec: {command: [touch, /tmp/probed]}}", "sh", "-c",
			"sleep 2; rm -f /tmp/probed; sleep 2; echo probed: $(ls /tmp)"))
	if !strings.Contains(out, "| sent ") || !strings.Contains(out, "| probed:") {
		s.Fatal(out)
	}
	if strings.Contains(out, "| probed: probed") {
		return ""
	}
	return "no probe for another pod"
}

// resolvConf looks whether a container has the very file of the machine, which it could
// lock, or change if it may mount.
func resolvConf(s *site) string {
	pod, container := "", ""
	if s.weak {
		pod, container = "volumes: [{name: v, hostPath: {path: /etc/resolv.conf}}]", "volumeMounts: [{name: v, mountPath: /etc/resolv.conf}]"
	}
	look := []string{"stat", "-L", "-c", "it is %i", "/etc/resolv.conf"}
	file, err := s.output(s.command(look...))
	must(s, err)
	out := s.run(job("resolv", pod, container, look...))
	if !strings.Contains(out, "| it is ") {
		s.Fatal(out)
	}
	return seen(out, "| "+file)
}
