// Attacker is the program that attacks run in containers, beside the sandbox's
// probe: what takes more than a command or two.
package main

import (
	"bytes"
	"fmt"
	"net"
	"net/http"
	"os"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

func main() {
	if len(os.Args) < 2 || commands[os.Args[1]] == nil {
		// It has been executed as something else: the loader of somebody's program.
		commands["own"]([]string{"/proc/self/exe"})
		return
	}
	commands[os.Args[1]](os.Args[2:])
}

var commands = map[string]func([]string){
	"own":       own,
	"calls":     calls,
	"sniff":     sniff,
	"bomb":      bomb,
	"remove":    func(a []string) { fmt.Println("remove:", os.RemoveAll(a[0])) },
	"deep":      deep,
	"serve":     serve,
	"get":       get,
	"lease":     lease,
	"ptys":      ptys,
	"send":      send,
	"poll":      poll,
	"sleep":     func([]string) { time.Sleep(20 * time.Second) },
	"terminals": func([]string) { fmt.Print("\x1b]0;owned\a\x1b[2J\x1b[6nshown\n") },
}

// own changes files that should be nobody's to change here.
func own(files []string) {
	for _, name := range files {
		fmt.Println("mode of", name, os.Chmod(name, 0o777|os.ModeSetuid))
		f, err := os.OpenFile(name, os.O_WRONLY|os.O_APPEND, 0)
		if err == nil {
			_, err = f.WriteString("x")
			f.Close()
		}
		fmt.Println("text of", name, err)
	}
}

// calls makes system calls that the default filter refuses and the kernel does not.
func calls([]string) {
	const getKeyringID, sessionKeyring, noRandom = 0, ^uintptr(2), 0x40000
	for name, call := range map[string][3]uintptr{
		"keyctl":      {unix.SYS_KEYCTL, getKeyringID, sessionKeyring},
		"personality": {unix.SYS_PERSONALITY, noRandom},
	} {
		if _, _, errno := unix.Syscall(call[0], call[1], call[2], 0); errno == 0 {
			fmt.Println("allowed:", name)
		}
	}
}

// sniff prints what it can see of others' traffic that has a word in it.
func sniff(a []string) {
	const everything = 0x0300 // ETH_P_ALL in the network's order
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW, everything)
	if err != nil {
		fmt.Println("no socket:", err)
		return
	}
	_ = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 1})
	packet := make([]byte, 1<<16)
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); {
		n, _, err := unix.Recvfrom(fd, packet, 0)
		if err == nil && bytes.Contains(packet[:n], []byte(a[0])) {
			fmt.Println("overheard", a[0])
			return
		}
	}
	fmt.Println("heard nothing")
}

// bomb makes so many processes, or as many as it may.
func bomb(a []string) {
	most, _ := strconv.Atoi(a[0])
	made := 0
	for ; made < most; made++ {
		if _, err := os.StartProcess("/proc/self/exe", []string{"attacker", "sleep"}, &os.ProcAttr{}); err != nil {
			break
		}
	}
	fmt.Printf("made %d processes\n", made)
}

// serve is a server that takes all comers; get is a client.
func serve([]string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	fmt.Println(l.Addr())
	panic(http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprintln(w, "served") })))
}

func get(a []string) {
	client := &http.Client{Timeout: 3 * time.Second}
	if _, err := client.Get(a[0]); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

// deep makes directories one in another, in a directory.
func deep(a []string) {
	levels, _ := strconv.Atoi(a[1])
	err := os.Chdir(a[0])
	for i := 0; i < levels && err == nil; i++ {
		if err = syscall.Mkdir("d", 0o755); err == nil {
			err = syscall.Chdir("d")
		}
	}
	fmt.Println("deep:", err)
}
