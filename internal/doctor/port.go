package doctor

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sampan-batch/sampan/internal/engine"
)

// port tries to listen where the API would.
func (o Options) port() []Finding {
	const name = "port"
	if who, held, err := engine.Working(o.DataDir); err == nil && held && who.Listen != "" {
		return []Finding{ok(name, "the engine that runs already listens on %s", who.Listen)}
	}
	listener, err := net.Listen("tcp", o.Listen)
	if err == nil {
		listener.Close()
		if !Reachable(o.Listen) {
			return []Finding{broken(name, "`"+LoopbackUp+"`", "%s: %s", o.Listen, LoopbackDown)}
		}
		return []Finding{ok(name, "%s is free", o.Listen)}
	}
	if errors.Is(err, unix.EADDRINUSE) {
		return []Finding{broken(name, "sampan serve --listen 127.0.0.1:0 takes another", "%s is taken by %s", o.Listen, Listening(o.Listen))}
	}
	return []Finding{broken(name, "name another address by --listen", "%v", err)}
}

// What is wrong with an address that is not Reachable, and what helps.
const (
	LoopbackDown = "the loopback interface is down"
	LoopbackUp   = "ip link set lo up"
)

// Reachable tells whether somebody on this machine could connect with who listens on a TCP address.
// Nothing is sent.
func Reachable(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return true // it is none
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	probe, err := net.Dial("udp", net.JoinHostPort(host, "1"))
	if err == nil {
		probe.Close()
	}
	return !errors.Is(err, unix.ENETUNREACH)
}

// Listening names the process that listens on the port of a TCP address, as far as this
// user can see it.
func Listening(address string) string {
	const nobody = "a process that this user cannot see"
	_, text, err := net.SplitHostPort(address)
	if err != nil {
		return nobody
	}
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return nobody
	}
	sockets := map[string]bool{}
	for _, table := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		for _, inode := range listeners(table, port) {
			sockets["socket:["+inode+"]"] = true
		}
	}
	files, _ := filepath.Glob("/proc/[0-9]*/fd/*")
	for _, file := range files {
		if target, err := os.Readlink(file); err != nil || !sockets[target] {
			continue
		}
		dir := filepath.Dir(filepath.Dir(file))
		name, _ := os.ReadFile(filepath.Join(dir, "comm"))
		return fmt.Sprintf("process %s (%s)", filepath.Base(dir), strings.TrimSpace(string(name)))
	}
	return nobody
}

// listeners returns the inodes of the sockets of a table of the kernel's that listen on
// a port; see proc(5).
func listeners(table string, port uint64) (inodes []string) {
	const listen = "0A"
	text, _ := os.ReadFile(table)
	for line := range strings.Lines(string(text)) {
		// sl local_address rem_address st tx_queue:rx_queue tr:tm->when retrnsmt uid timeout inode
		fields := strings.Fields(line)
		if len(fields) < 10 || fields[3] != listen {
			continue
		}
		if _, hex, _ := strings.Cut(fields[1], ":"); hex == fmt.Sprintf("%04X", port) {
			inodes = append(inodes, fields[9])
		}
	}
	return inodes
}
