package main

import (
	"fmt"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// What the kernel counts, or holds back, for all of a user or of the machine.

// lease takes a lease on a file, writes so many megabytes to it, and tells how much of
// them nobody has taken away.
func lease(a []string) {
	f, err := os.OpenFile(a[0], os.O_RDWR, 0)
	if err != nil {
		fmt.Println(err)
		return
	}
	if _, err := unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_WRLCK); err != nil {
		fmt.Println("no lease:", err)
	}
	size, _ := strconv.Atoi(a[1])
	for range size {
		if _, err := f.Write(make([]byte, 1<<20)); err != nil {
			fmt.Println(err)
		}
	}
	time.Sleep(2 * time.Second)
	st, err := f.Stat()
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("kept %d MB\n", st.Size()>>20)
}

// ptys opens so many terminals, or as many as it may.
func ptys(a []string) {
	most, _ := strconv.Atoi(a[0])
	opened := 0
	for ; opened < most; opened++ {
		if _, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY, 0); err != nil {
			break
		}
	}
	fmt.Printf("opened %d terminals\n", opened)
}

// send sends descriptors that nobody receives, as many as it may, and keeps it so for
// some seconds.
func send(a []string) {
	rights := unix.UnixRights(make([]int, 253)...)
	sent, err := 0, error(nil)
	for err == nil || err == unix.EAGAIN {
		var pair [2]int
		if pair, err = unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK, 0); err != nil {
			break
		}
		for err == nil {
			if err = unix.Sendmsg(pair[0], []byte{0}, rights, nil, 0); err == nil {
				sent += 253
			}
		}
	}
	fmt.Printf("sent %d descriptors: %v\n", sent, err)
	seconds, _ := strconv.Atoi(a[0])
	time.Sleep(time.Duration(seconds) * time.Second)
}

// poll waits for as many things as it may, and keeps it so for some seconds.
func poll(a []string) {
	var files []int
	for range 4000 {
		fd, err := unix.Eventfd(0, 0)
		if err != nil {
			fmt.Println(err)
			break
		}
		files = append(files, fd)
	}
	waited, err := 0, error(nil)
	for err == nil {
		var ep int
		if ep, err = unix.EpollCreate1(0); err != nil {
			break
		}
		for _, fd := range files {
			if err = unix.EpollCtl(ep, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN}); err != nil {
				break
			}
			waited++
		}
	}
	fmt.Printf("waited for %d things: %v\n", waited, err)
	seconds, _ := strconv.Atoi(a[0])
	_ = unix.Nanosleep(&unix.Timespec{Sec: int64(seconds)}, nil) // time.Sleep would itself wait by the poller
}
