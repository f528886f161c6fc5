package main

import (
	"fmt"
	"os"
	"sort"
	"strconv"
	"strings"
	"time"
)

// idsOf prints user and group of a process.
func idsOf(a []string) (string, error) {
	uid, err := statusOf("/proc/"+a[0]+"/status", []string{"Uid"})
	if err != nil {
		return "", err
	}
	gid, err := statusOf("/proc/"+a[0]+"/status", []string{"Gid"})
	return strings.TrimPrefix(strings.Fields(uid)[0], "Uid=") + " " + strings.TrimPrefix(strings.Fields(gid)[0], "Gid="), err
}

// swaps makes a path a link to a descriptor after the other, as slowly as
// the directory says that is shared with the test.
func swaps(a []string) (string, error) {
	path, control := a[0], a[1]
	for _, n := range a[2:] {
		if err := os.RemoveAll(path); err != nil {
			return "", err
		}
		if err := os.Symlink("/proc/self/fd/"+n, path); err != nil {
			return "", err
		}
		if err := os.WriteFile(fmt.Sprintf("%s/at-%s", control, n), nil, 0o644); err != nil {
			return "", err
		}
		for {
			if _, err := os.Stat(fmt.Sprintf("%s/done-%s", control, n)); err == nil {
				break
			}
			time.Sleep(time.Millisecond)
		}
	}
	return "", nil
}

// spy looks at every process that appears, until a file does, and prints what it
// found of processes that can do more than itself.
func spy(a []string) (string, error) {
	own, err := capabilities(os.Getpid())
	if err != nil {
		return "", err
	}
	found := map[string]bool{}
	for n := 0; ; n++ {
		if n%64 == 0 {
			if _, err := os.Stat(a[0]); err == nil {
				break
			}
		}
		last := lastPID()
		for range 50 { // the next process has the next number
			for pid := last; pid <= last+1; pid++ {
				if caps, err := capabilities(pid); err == nil && !thread(pid) {
					look(pid, own, caps, found)
				}
			}
		}
	}
	var list []string
	for what := range found {
		list = append(list, what)
	}
	sort.Strings(list)
	return strings.Join(list, "\n"), nil
}

// lastPID is the number that was given to a process last.
func lastPID() int {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(text))
	pid, _ := strconv.Atoi(fields[len(fields)-1])
	return pid
}

// thread tells whether a number is that of one of the spy's threads.
func thread(pid int) bool {
	_, err := os.Stat("/proc/self/task/" + strconv.Itoa(pid))
	return err == nil
}

// hasRoot tells whether a process has a root directory open, which no program in
// these containers opens itself.
func hasRoot(pid int) bool {
	dir := "/proc/" + strconv.Itoa(pid) + "/fd"
	files, _ := os.ReadDir(dir)
	for _, f := range files {
		if to, err := os.Readlink(dir + "/" + f.Name()); err == nil && to == "/" {
			return true
		}
	}
	return false
}

// look notes what a process has that the spy has not, for as long as it is there.
func look(pid int, own, caps uint64, found map[string]bool) {
	proc := "/proc/" + strconv.Itoa(pid)
	for range 200 {
		if caps&^own != 0 {
			found[fmt.Sprintf("capabilities %x", caps)] = true
		}
		if hasRoot(pid) {
			found["files of the machine"] = true
		}
		if exe, err := os.Readlink(proc + "/exe"); err == nil && exe != "/bin/probe" && exe != "/memfd:start (deleted)" {
			found["program "+exe] = true
		}
		if maps, err := os.ReadFile(proc + "/maps"); err == nil && strings.Contains(string(maps), "sandbox.test") {
			found["memory of the supervisor"] = true
		}
		var err error
		if caps, err = capabilities(pid); err != nil {
			return
		}
	}
}

func capabilities(pid int) (uint64, error) {
	text, err := statusOf("/proc/"+strconv.Itoa(pid)+"/status", []string{"CapPrm"})
	if err != nil {
		return 0, err
	}
	return strconv.ParseUint(strings.TrimPrefix(text, "CapPrm="), 16, 64)
}

// writeExe writes to the program of a process.
func writeExe(a []string) (string, error) {
	f, err := os.OpenFile("/proc/"+a[0]+"/exe", os.O_WRONLY, 0)
	if err != nil {
		return "", err
	}
	defer f.Close()
	_, err = f.Write([]byte("x"))
	return "written", err
}
