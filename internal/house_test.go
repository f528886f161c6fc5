package internal_test

import (
	"cmp"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/sampan-batch/sampan/"

// house is every package of the module, and the packages of ours that each imports,
// tests aside. A room is a directory below internal with all below it; DESIGN.md
// has the same table by rooms. What is not here is not allowed, and what is here and
// not used is an error, too, so that the table says what is.
var house = map[string][]string{
	// leaves
	"internal/change":                     nil,
	"internal/kind":                       {"internal/change", "internal/kind/podspec", "internal/kind/upstream"},
	"internal/reason":                     nil,
	"internal/kind/openapi":               nil,
	"internal/kind/openapi/models":        nil, // for go generate, as those below
	"internal/kind/openapi/pack":          {"internal/kind/openapi", "internal/kind/openapi/models"},
	"internal/kind/openapi/packages":      {"internal/kind"},
	"internal/kind/podspec":               nil,
	"internal/kind/upstream":              nil,
	"internal/store":                      {"internal/change", "internal/disk", "internal/store/page"},
	"internal/store/page":                 nil,
	"internal/backup":                     nil,
	"internal/work":                       nil,
	"internal/share":                      nil,
	"internal/network":                    {"internal/share"},
	"internal/dns":                        {"internal/share"},
	"internal/tree":                       nil,
	"internal/disk":                       nil,
	"internal/stdio":                      nil,
	"internal/localpath":                  {"internal/disk", "internal/runner/trash", "internal/tree"},
	"internal/image":                      {"internal/disk", "internal/tree"},
	"internal/image/imagetest":            nil,                 // for tests
	"internal/golden":                     {"internal/change"}, // for tests
	"internal/runner":                     {"internal/network", "internal/runner/reap", "internal/stdio"},
	"internal/runner/cgroup":              {"internal/runner"},
	"internal/runner/crilog":              nil,
	"internal/runner/fake":                {"internal/network", "internal/runner", "internal/runner/crilog", "internal/stdio"},
	"internal/runner/fork":                nil,
	"internal/runner/hostpath":            {"internal/runner/fork", "internal/runner/reap"},
	"internal/runner/hostpath/hangs":      nil, // for tests
	"internal/runner/reap":                nil,
	"internal/runner/terminal":            nil,
	"internal/runner/trash":               {"internal/runner", "internal/tree"},
	"internal/runner/runnertest":          {"internal/runner", "internal/runner/crilog", "internal/stdio"},
	"internal/runner/sandbox/conformance": nil, // for tests
	"internal/runner/host": {"internal/runner", "internal/runner/cgroup", "internal/runner/fork", "internal/runner/hostpath",
		"internal/runner/reap", "internal/runner/terminal", "internal/runner/trash", "internal/tree"},
	"internal/runner/sandbox": {"internal/network", "internal/runner", "internal/runner/cgroup", "internal/runner/fork", "internal/runner/hostpath",
		"internal/runner/reap", "internal/runner/terminal", "internal/runner/trash", "internal/tree"},
	"internal/runner/supervisor": {"internal/network", "internal/runner", "internal/runner/crilog", "internal/runner/fork", "internal/runner/reap", "internal/runner/terminal", "internal/stdio", "internal/tree"},

	// cores
	"internal/access":      {"internal/kind"},
	"internal/certificate": {"internal/change", "internal/kind"},
	"internal/podset":      {"internal/kind"}, // what those have in common that make pods from a template
	"internal/job":         {"internal/change", "internal/kind", "internal/podset", "internal/reason"},
	"internal/cron":        {"internal/change", "internal/kind", "internal/reason"},
	"internal/history":     {"internal/change", "internal/kind", "internal/podset"}, // what those have in common that keep the templates they had
	"internal/daemonset":   {"internal/change", "internal/history", "internal/kind", "internal/podset", "internal/reason"},
	"internal/statefulset": {"internal/change", "internal/history", "internal/kind", "internal/podset", "internal/reason"},
	"internal/deployment":  {"internal/change", "internal/kind", "internal/podset", "internal/reason"},
	"internal/replicaset":  {"internal/change", "internal/kind", "internal/podset", "internal/reason"},
	"internal/claim":       {"internal/change", "internal/kind", "internal/reason"},
	"internal/place":       {"internal/change", "internal/claim", "internal/kind", "internal/kind/podspec", "internal/reason"},
	"internal/address":     {"internal/change", "internal/kind"},
	"internal/endpoint":    {"internal/change", "internal/kind", "internal/reason"},
	"internal/disruption":  {"internal/change", "internal/kind", "internal/reason"},
	"internal/autoscale":   {"internal/change", "internal/kind", "internal/reason"},
	"internal/lifecycle":   {"internal/change", "internal/kind", "internal/kind/podspec", "internal/reason"},
	"internal/quota":       {"internal/change", "internal/kind"},
	"internal/sweep":       {"internal/change", "internal/kind", "internal/kind/podspec", "internal/reason"},
	"internal/explain":     {"internal/cron", "internal/job", "internal/kind", "internal/reason"},
	"internal/manifest":    nil,
	"internal/expand":      nil,
	"internal/report":      {"internal/board"},
	"internal/board":       {"internal/explain", "internal/job", "internal/kind", "internal/reason"},
	"internal/plan":        {"internal/change", "internal/cron", "internal/kind", "internal/manifest", "internal/place"},

	// the shell around the cores
	"internal/control": {"internal/access", "internal/autoscale", "internal/certificate", "internal/change", "internal/claim", "internal/cron", "internal/daemonset", "internal/deployment", "internal/disruption", "internal/endpoint", "internal/job", "internal/kind", "internal/lifecycle", "internal/place", "internal/quota", "internal/replicaset", "internal/statefulset", "internal/store", "internal/sweep", "internal/work"},

	// edges
	"internal/server":           {"internal/access", "internal/change", "internal/disk", "internal/kind", "internal/kind/openapi", "internal/kind/podspec", "internal/server/admission", "internal/server/aggregate", "internal/server/backend", "internal/server/custom", "internal/server/identity", "internal/server/review", "internal/server/strategy", "internal/server/stream", "internal/share", "internal/stdio", "internal/store"},
	"internal/server/admission": {"internal/change", "internal/kind", "internal/store"},
	"internal/server/identity":  {"internal/change", "internal/disk", "internal/kind"},
	"internal/server/review":    nil,
	"internal/server/aggregate": {"internal/change", "internal/kind", "internal/server/backend", "internal/store"},
	"internal/server/backend":   {"internal/kind", "internal/store"},
	"internal/server/custom":    {"internal/change", "internal/kind", "internal/server/backend", "internal/store"},
	"internal/server/strategy":  {"internal/change", "internal/kind"}, // also for kubediff
	"internal/server/stream":    {"internal/stdio"},
	"internal/agent": {"internal/agent/eviction", "internal/agent/fit", "internal/agent/machine", "internal/agent/network", "internal/agent/node", "internal/agent/podfiles", "internal/agent/podstate", "internal/agent/policy", "internal/agent/probe", "internal/agent/proxy",
		"internal/agent/runspec", "internal/agent/volume", "internal/change", "internal/dns", "internal/kind", "internal/network", "internal/reason", "internal/runner", "internal/runner/crilog", "internal/runner/hostpath",
		"internal/runner/reap", "internal/stdio"},
	"internal/agent/eviction": {"internal/kind/podspec"},
	"internal/agent/fit":      {"internal/kind/podspec", "internal/reason"},
	"internal/agent/machine":  {"internal/agent/eviction", "internal/runner/cgroup"},
	"internal/agent/network":  nil,
	"internal/agent/node":     {"internal/change", "internal/kind/podspec", "internal/reason"},
	"internal/agent/podfiles": {"internal/agent/network", "internal/runner", "internal/tree"},
	"internal/agent/podstate": {"internal/agent/network", "internal/kind", "internal/kind/podspec"},
	"internal/agent/probe":    {"internal/kind", "internal/reason", "internal/runner"},
	"internal/agent/policy":   {"internal/network"},
	"internal/agent/proxy":    {"internal/network"},
	"internal/agent/runspec":  {"internal/agent/network", "internal/runner"},
	"internal/agent/volume":   {"internal/agent/network", "internal/agent/runspec", "internal/kind", "internal/runner", "internal/runner/hostpath"},
	"internal/cli/screentest": nil, // for tests
	"internal/verb":           nil,
	"internal/cli":            {"internal/backup", "internal/board", "internal/change", "internal/cron", "internal/disk", "internal/doctor", "internal/engine", "internal/expand", "internal/explain", "internal/image", "internal/job", "internal/kind", "internal/manifest", "internal/plan", "internal/report", "internal/runner", "internal/unit", "internal/verb"},

	// what wires them, and what stands around the product
	"internal/engine": {"internal/address", "internal/agent", "internal/agent/eviction", "internal/agent/machine", "internal/agent/node", "internal/agent/policy", "internal/agent/runspec", "internal/backup", "internal/change", "internal/control", "internal/disk", "internal/endpoint", "internal/image",
		"internal/kind", "internal/localpath", "internal/network", "internal/quota", "internal/runner", "internal/runner/cgroup", "internal/runner/host", "internal/runner/sandbox", "internal/runner/supervisor", "internal/server", "internal/server/custom",
		"internal/store", "internal/sweep", "internal/tree"},
	"internal/unit":   nil,
	"internal/doctor": {"internal/engine", "internal/runner"},
	"cmd/sampan":      {"internal/cli"},
	"bench":           {"internal/runner", "internal/runner/reap", "internal/runner/sandbox", "torture/program"},
	"attack":          nil, // through the front door only
	"conformance":     nil, // the same

	// the torture, which goes through the front door too: nothing of internal
	"torture":         {"torture/program", "torture/report", "torture/round", "torture/victim"},
	"torture/audit":   nil,
	"torture/fault":   nil,
	"torture/load":    {"torture/model", "torture/program", "torture/report", "torture/victim"},
	"torture/model":   nil,
	"torture/program": nil,
	"torture/report":  nil,
	"torture/round":   {"torture/audit", "torture/fault", "torture/load", "torture/model", "torture/program", "torture/report", "torture/victim"},
	"torture/victim":  {"torture/program"},
}

// cores are the packages that are pure: what they answer follows from what they are
// asked, and nothing else happens. What they import of ours is held to the same.
var cores = []string{
	"internal/access", "internal/certificate", "internal/podset", "internal/history", "internal/job", "internal/cron", "internal/daemonset", "internal/statefulset", "internal/deployment", "internal/replicaset", "internal/claim", "internal/place", "internal/address", "internal/endpoint", "internal/autoscale", "internal/quota", "internal/sweep", "internal/explain", "internal/manifest", "internal/expand", "internal/plan", "internal/board", "internal/report", "internal/agent/podstate", "internal/agent/eviction", "internal/agent/fit",
}

// walls are what no entry of the table may go through, by whatever way, and why. What
// lies behind the engine does not count: to wire the rooms is its work.
var walls = []struct {
	from, to []string // packages with all below them
	why      string
}{
	{cores, []string{"internal/store", "internal/work", "internal/control", "internal/server", "internal/runner", "internal/image", "internal/engine", "internal/cli"},
		"a core is handed what it decides from, and carries nothing out"},
	{[]string{"internal/server"}, []string{"internal/podset", "internal/history", "internal/job", "internal/cron", "internal/daemonset", "internal/statefulset", "internal/deployment", "internal/replicaset", "internal/claim", "internal/place", "internal/endpoint", "internal/autoscale", "internal/sweep", "internal/certificate", "internal/explain", "internal/control", "internal/agent", "internal/runner"},
		"the API stores what it is asked to; what follows from that is decided elsewhere"},
	{[]string{"internal/agent"}, []string{"internal/store", "internal/server", "internal/control", "internal/image", "internal/podset", "internal/history", "internal/job", "internal/cron", "internal/daemonset", "internal/statefulset", "internal/deployment", "internal/replicaset", "internal/claim", "internal/place", "internal/endpoint", "internal/autoscale", "internal/sweep"},
		"a node is a client, as if it were on another machine"},
	{[]string{"internal/runner"}, []string{"internal/kind", "internal/change", "internal/store", "internal/agent", "internal/image", "internal/server", "internal/control"},
		"a runner knows processes, and nothing of Kubernetes"},
	{[]string{"internal/store"}, []string{"internal/kind", "internal/server", "internal/control"}, "the store keeps what it is given, of whatever kind"},
	{[]string{"internal/cli"}, []string{"internal/store", "internal/server", "internal/control", "internal/agent"}, "a command is a client of the API, on a cluster, too"},
	{[]string{"attack", "conformance", "torture"}, []string{"internal"}, "they come through the front door, as strangers do"},
}

// homes are packages of others that few rooms deal with, for all of us.
var homes = []struct {
	what  string
	rooms []string // packages with all below them
	why   string
}{
	{"k8s.io/apiserver", []string{"internal/server", "internal/engine", "internal/kind/upstream", "internal/quota"}, "the API is spoken in one room; the engine's health speaks its language of checks, and Kubernetes' strategies and quotas are called as the API calls them"},
	{"k8s.io/kubernetes", []string{"internal/kind", "internal/agent/runspec", "internal/endpoint", "internal/quota", "internal/certificate", "internal/server", "internal/engine"}, "Kubernetes' own rules: of objects in the rows, of how Endpoints are packed, of the variables of Services, of what they use, of rights in the API, of default roles at the start"},
	{"k8s.io/kubectl", []string{"internal/verb"}, "what kubectl does is one room's"},
	{"k8s.io/cli-runtime", []string{"internal/verb"}, "the same"},
	{"k8s.io/cri-streaming", []string{"internal/server/stream"}, "the protocols of streams are one room's"},
	{"k8s.io/client-go/kubernetes", []string{"internal/cli", "internal/kind/upstream", "internal/server/admission", "internal/server/identity"}, "whoever is no command reads the store, or has an interface of its own; Kubernetes' check of tokens, its admission and some of its strategies want a client, and get one of ours"},
	{"k8s.io/klog/v2", []string{"internal/server", "internal/place", "internal/daemonset", "internal/lifecycle", "internal/agent/eviction", "internal/agent/fit"}, "we log with slog; libraries that do not are led there by server"},
	{"log", []string{"internal/server"}, "we log with slog; net/http, which does not, is led there by server"},
	{"go.etcd.io/bbolt", []string{"internal/store"}, "who reads the file is the store"},
	{"github.com/tidwall/btree", []string{"internal/store"}, "what is in memory of the store is its own"},
	{"github.com/robfig/cron/v3", []string{"internal/kind", "internal/cron"}, "schedules are read in one place and gone by in another"},
	{"github.com/google/go-containerregistry", []string{"internal/image"}, "images are one room's"},
	{"github.com/klauspost/compress", []string{"internal/image"}, "so is how their layers are compressed"},
	{"github.com/google/uuid", []string{"internal/control", "internal/engine"}, "who applies a Set gives the uids"},
	{"github.com/spf13/cobra", []string{"internal/cli"}, "commands are one room's"},
	{"github.com/google/nftables", []string{"internal/network"}, "the rules of networks are one room's"},
	{"os/exec", []string{"internal/runner/supervisor", "internal/cli"}, "os/exec shares memory and descriptors with what it starts: containers start by fork; a command calls the user's own programs"},
	{"unsafe", []string{"internal/runner", "internal/agent/machine"}, "memory is the kernel's business, and these rooms talk to it"},
}

// impure is what no core may import or call, itself or through another package of
// ours. "os" is the package with all below it, "time.Now" one name of a package.
var impure = []struct{ what, why string }{
	{"context", "a decision waits for nothing"},
	{"sync", "a decision shares nothing that changes"},
	{"log", "what a decision has to say is in its Set"},
	{"k8s.io/klog/v2", "what a decision has to say is in its Set"},
	{"os", "a decision has no disk and no process"},
	{"io/fs", "a decision has no disk"},
	{"syscall", "a decision has no kernel"},
	{"golang.org/x/sys", "a decision has no kernel"},
	{"net.Dial", "a decision has no network"},
	{"net.Listen", "a decision has no network"},
	{"net.LookupHost", "a decision has no network"},
	{"net/http", "a decision has no network"},
	{"k8s.io/client-go", "a decision reads what it was handed"},
	{"math/rand", "names derive from causes, so that a decision that is taken twice collides with itself"},
	{"crypto/rand", "names derive from causes, so that a decision that is taken twice collides with itself"},
	{"github.com/google/uuid", "who applies a Set gives the uids"},
	{"k8s.io/apimachinery/pkg/util/uuid", "who applies a Set gives the uids"},
	{"k8s.io/apimachinery/pkg/util/rand", "names derive from causes, so that a decision that is taken twice collides with itself"},
	{"time.Now", "the time is handed in"},
	{"time.Since", "the time is handed in"},
	{"time.Until", "the time is handed in"},
	{"k8s.io/apimachinery/pkg/apis/meta/v1.Now", "the time is handed in"},
	{"k8s.io/apimachinery/pkg/apis/meta/v1.NowMicro", "the time is handed in"},
	{"time.Sleep", "a decision waits for nothing"},
	{"time.After", "a decision waits for nothing"},
	{"time.AfterFunc", "a decision waits for nothing"},
	{"time.NewTimer", "a decision waits for nothing"},
	{"time.NewTicker", "a decision waits for nothing"},
	{"time.LoadLocation", "it reads the zone from the disk"},
}

// except are the impure names that may stand in a package all the same.
var except = []struct{ pkg, what, why string }{
	{"internal/place", "k8s.io/klog/v2.Logger", "component-helpers wants a logger; it is given none that logs"},
	{"internal/daemonset", "k8s.io/klog/v2.Logger", "the same"},
	{"internal/agent/eviction", "k8s.io/klog/v2.Logger", "component-helpers wants a logger; it is given none that logs"},
	{"internal/agent/fit", "k8s.io/klog/v2.Logger", "the same"},
	{"internal/kind", "sync.Mutex", "the catalogue may grow while it is used; a core is handed rows, which never change"},
	{"internal/kind", "sync/atomic.Pointer", "the same"},
	{"internal/kind/upstream", "context.Context", "Kubernetes' strategies want a context; it says which request they are asked about, and nothing ends it"},
	{"internal/kind/upstream", "context.Background", "the same"},
	{"internal/kind/upstream", "context.WithValue", "the same"},
	{"internal/kind/upstream", "k8s.io/client-go/kubernetes/typed/core/v1.NamespaceInterface", "some strategies want a client for namespaces; the one they get returns what the request was handed"},
	{"internal/kind/upstream", "sync.OnceValue", "the scheme of Kubernetes' types, and its checks of Pod Security, are made when they are first needed, and never change"},
	{"internal/kind", "time.LoadLocation", "validation has to know whether a zone exists; cores do not validate"},
}

// TestImportsGoOneWay holds the table of packages.
func TestImportsGoOneWay(t *testing.T) {
	t.Parallel()
	packages := packages(t)
	for _, name := range slices.Sorted(maps.Keys(packages)) {
		allowed, known := house[name]
		if !known {
			t.Errorf("%s is not in the table of packages", name)
			continue
		}
		for _, imported := range slices.Sorted(maps.Keys(packages[name].ours)) {
			if !slices.Contains(allowed, imported) {
				t.Errorf("%s: %s must not import %s: %s", packages[name].ours[imported], name, imported, cmp.Or(wall(name, imported), "it is not in the table"))
			}
		}
		for _, permission := range allowed {
			if packages[name].ours[permission] == "" {
				t.Errorf("%s may import %s, and does not: take it out of the table", name, permission)
			}
		}
	}
	for name := range house {
		if packages[name] == nil {
			t.Errorf("%s is in the table of packages, and does not exist", name)
		}
	}
}

// TestTableHasWalls holds the table itself to the walls.
func TestTableHasWalls(t *testing.T) {
	t.Parallel()
	for _, from := range slices.Sorted(maps.Keys(house)) {
		seen := map[string]bool{from: true}
		var visit func(name, way string)
		visit = func(name, way string) {
			for _, imported := range house[name] {
				if seen[imported] {
					continue
				}
				seen[imported] = true
				way := way + " imports " + imported
				if why := wall(from, imported); why != "" {
					t.Errorf("%s: %s", way, why)
				}
				if imported != "internal/engine" {
					visit(imported, way+", which")
				}
			}
		}
		visit(from, from)
	}
	for _, w := range walls {
		for _, name := range slices.Concat(w.from, w.to) {
			if !slices.ContainsFunc(slices.Collect(maps.Keys(house)), func(pkg string) bool { return below(pkg, name) }) {
				t.Errorf("a wall names %s, which does not exist", name)
			}
		}
	}
}

// wall says why one package must not reach another, or "".
func wall(from, to string) string {
	for _, w := range walls {
		if slices.ContainsFunc(w.from, func(name string) bool { return below(from, name) }) &&
			slices.ContainsFunc(w.to, func(name string) bool { return below(to, name) }) {
			return w.why
		}
	}
	return ""
}

// below tells whether a name is another, or lies below it.
func below(name, other string) bool {
	return name == other || strings.HasPrefix(name, other+"/")
}

// TestStrangersHaveHomes holds our rooms to what homes says of the packages of others.
func TestStrangersHaveHomes(t *testing.T) {
	t.Parallel()
	used := map[string]bool{}
	packages := packages(t)
	for _, name := range slices.Sorted(maps.Keys(packages)) {
		for _, stranger := range packages[name].strangers {
			for _, home := range homes {
				standard := !strings.Contains(home.what, ".") // "log" is not "log/slog"
				if !below(stranger.what, home.what) || standard && stranger.what != home.what || !below(name, "internal") && !below(name, "cmd") {
					continue
				}
				i := slices.IndexFunc(home.rooms, func(room string) bool { return below(name, room) })
				if i < 0 {
					t.Errorf("%s: %s must not import %s: %s", stranger.where, name, stranger.what, home.why)
					continue
				}
				used[home.what+" "+home.rooms[i]] = true
			}
		}
	}
	for _, home := range homes {
		for _, room := range home.rooms {
			if !used[home.what+" "+room] {
				t.Errorf("%s may import %s, and does not: take it out of the table", room, home.what)
			}
		}
	}
}

// TestCoresArePure holds the cores, and what they import of ours, to what impure says.
func TestCoresArePure(t *testing.T) {
	t.Parallel()
	packages := packages(t)
	excused := map[string]bool{}
	seen := map[string]bool{}
	var visit func(name, by string)
	visit = func(name, by string) {
		if seen[name] || packages[name] == nil {
			return
		}
		seen[name] = true
		for _, u := range packages[name].uses {
			why := impurity(u.what)
			if why == "" {
				continue
			}
			if i := slices.IndexFunc(except, func(e struct{ pkg, what, why string }) bool { return e.pkg == name && e.what == u.what }); i >= 0 {
				excused[name+" "+u.what] = true
				continue
			}
			t.Errorf("%s: %s%s uses %s: %s", u.where, name, by, u.what, why)
		}
		for imported := range packages[name].ours {
			visit(imported, " (imported by "+name+")")
		}
	}
	for _, core := range cores {
		visit(core, "")
	}
	for _, e := range except {
		if !excused[e.pkg+" "+e.what] {
			t.Errorf("%s is excused for %s, which it does not use: take it out of the table", e.pkg, e.what)
		}
	}
}

// impurity says why something that was imported or named is impure, or "".
func impurity(what string) string {
	for _, rule := range impure {
		if below(what, rule.what) || strings.HasPrefix(what, rule.what+".") {
			return rule.why
		}
	}
	return ""
}

// TestDesignHasTheTable compares the table of rooms in DESIGN.md with the house.
func TestDesignHasTheTable(t *testing.T) {
	t.Parallel()
	want := map[string]map[string]bool{}
	for name, imports := range house {
		in := room(name)
		if in == "" {
			continue
		}
		if want[in] == nil {
			want[in] = map[string]bool{}
		}
		for _, imported := range imports {
			if other := room(imported); other != in {
				want[in][other] = true
			}
		}
	}
	text, err := os.ReadFile("../DESIGN.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(text), "| room | owns | may import |\n|---|---|---|\n")
	table, _, _ = strings.Cut(table, "\n\n")
	for line := range strings.Lines(table + "\n") {
		cells := strings.Split(line, "|")
		if len(cells) != 5 {
			t.Errorf("DESIGN.md: not a row of the table of rooms: %q", line)
			continue
		}
		var written []string
		for name := range strings.SplitSeq(cells[3], ",") {
			if name = strings.TrimSpace(name); name != "" {
				written = append(written, name)
			}
		}
		slices.Sort(written)
		for name := range strings.FieldsSeq(strings.ReplaceAll(cells[1], "`", "")) {
			imports, known := want[name]
			if !known {
				t.Errorf("DESIGN.md: there is no room %q", name)
				continue
			}
			if is := slices.Sorted(maps.Keys(imports)); !slices.Equal(is, written) {
				t.Errorf("DESIGN.md: %s imports %s, the table says %s", name, strings.Join(is, ", "), strings.Join(written, ", "))
			}
			delete(want, name)
		}
	}
	for name := range want {
		t.Errorf("DESIGN.md: the table of rooms lacks %s", name)
	}
}

// room is the room that a package belongs to, or "" if it is outside of internal.
func room(pkg string) string {
	rest, inside := strings.CutPrefix(pkg, "internal/")
	if !inside {
		return ""
	}
	name, _, _ := strings.Cut(rest, "/")
	return name
}
