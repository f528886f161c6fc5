package attack

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// table is every attack that is known, and the tests that make it: those of this
// package by their name after "TestAttacks/"; those of others as "directory.Test",
// which make it closer to the code, with more variants, or where the front door
// would add nothing; and stories, by their file.
//
// That an attack works where nothing is done against it is shown by its own test
// (see TestAttacks and the tests that are named), or by one of its row.
var table = []struct {
	attack string
	tests  []string
}{
	// The start of a container, and what enters it.
	{"the working directory is a descriptor of whoever starts the container", []string{
		"working directory is a descriptor", "image's working directory is a descriptor", "internal/runner/sandbox.TestWorkingDirectoryLeadsNowhere"}},
	{"an exec'd process starts in a directory that was swapped for a link", []string{
		"probe enters a directory that was swapped for a descriptor", "internal/runner/sandbox.TestExecEntersNoDescriptor"}},
	{"the memory and the files of the supervisor, by a process that is about to be the container's", []string{
		"process of the start that is stronger than the container", "internal/runner/sandbox.TestNothingStrongAppears", "internal/engine.TestHideMemory"}},
	{"the machine's device nodes, masks and standard input", []string{"device nodes of the machine", "internal/runner/sandbox.TestDevicesAreItsOwn"}},
	{"a number that is looked up as a name", []string{"number that the image makes root's name", "internal/image.TestNumberIsANumber", "internal/agent/runspec.TestUsers"}},
	{"our own program, by /proc/self/exe", []string{"program of the start is changed by the container", "internal/runner/sandbox.TestExecutableIsNotOurs"}},
	{"paths that magic links and links lead out while a container is set up", []string{
		"paths that lead out while a container is set up", "internal/runner/sandbox.TestNothingIsMadeOutside"}},
	{"something else in place of /proc", []string{"volume in place of /proc", "internal/runner/sandbox.TestProcIsTheKernels"}},
	{"one start that hangs holds up others", []string{"volume in place of /proc", "internal/runner/sandbox.TestHangingStart", "internal/runner/reap.TestHangingStart"}},
	{"descriptors after execve", []string{"descriptors after execve", "internal/runner/sandbox.TestLaunch"}},
	{"something else in place of /dev/pts, and the other end of a terminal", []string{
		"internal/runner/sandbox.TestNoTerminalOfStrangers", "internal/runner/sandbox.TestTerminalIsItsOwn"}},
	{"a pipe that is never emptied or filled, or of which nobody takes the output, holds up others", []string{
		"internal/runner/supervisor.TestInputThatNobodyReads", "internal/runner/sandbox/conformance.TestSandbox", "internal/runner/supervisor.TestManyClients"}},
	{"commands that outlive who had them executed", []string{
		"internal/runner/supervisor.TestStreamsEndWithEngine", "internal/runner/sandbox/conformance.TestSandbox"}},
	{"a subPath is swapped for a link meanwhile", []string{"internal/runner/sandbox.TestNobodyRedirectsASubPath", "internal/runner/sandbox.TestSubPathOfASource"}},

	// Who is who.
	{"a token that is forged: no algorithm, another one, a key of its own", []string{"internal/server.TestForgedTokens"}},
	{"a token of an account, a pod, a Secret or a node that is gone, or of another of its name", []string{"internal/server.TestTokensEnd", "testdata/stories/tokens.txtar"}},
	{"a token for somebody else, or of yesterday", []string{"internal/server.TestForgedTokens", "testdata/stories/tokens.txtar"}},
	{"tokens in the log", []string{"testdata/stories/tokens.txtar"}},

	// Rights.
	{"the machine's network: reading and changing what is others'", []string{"loopback traffic of others", "internal/agent/runspec.TestNetworkCapabilities"}},
	{"what the machine has for itself: its loopback addresses, by whatever way", []string{"services that the machine has for itself", "internal/network.TestOutside"}},
	{"a socket that a pod hands to another hears what is for who has the address next", []string{"internal/network.TestAgain"}},
	{"a network that a pod has changed is another's next", []string{"internal/network.TestAgain", "internal/runner/sandbox.TestNetworkOfThePod"}},
	{"what is closed to a pod by IPv4, by IPv6: in the name of others, of routers and of neighbours, by headers and by a way of its own", []string{
		"internal/network.TestStrangers", "internal/network.TestPoliciesByIPv6"}},
	{"an address of IPv4 that is written as one of IPv6", []string{"internal/network.TestOutsideByIPv6"}},
	{"a Service with so many ports or endpoints that no other has any", []string{"internal/network.TestServicesOfOneAreNotAll", "internal/agent/proxy.TestBound"}},
	{"a Service that names as its own the address of another, of pods, or of the cluster's names", []string{"internal/agent/proxy.TestTable"}},
	{"the pause process as a way around filter and limits", []string{"pause process as a way around the filter", "internal/runner/sandbox.TestPauseIsWeak"}},
	{"class host ignores what its security context asks for", []string{
		"rights of a plain process of the machine", "internal/runner/host.TestRights", "internal/runner/host.TestExecRights", "internal/runner/host.TestRunAsNonRoot"}},
	{"hostUsers, procMount, sysctls and profiles ignored without a word", []string{
		"user namespace that was asked for and is not there", "internal/agent.TestRefused", "internal/agent.TestHostUsers", "internal/agent.TestWithoutEffect"}},
	{"system calls outside the filter, by the tables of other architectures too", []string{
		"system calls outside the filter", "internal/runner/sandbox.TestSeccomp", "internal/runner/sandbox.TestDefaultProfile"}},
	{"capabilities beyond Kubernetes' set", []string{"file systems and devices by capability", "internal/runner/sandbox.TestCapabilities", "internal/agent/runspec.TestCapabilities"}},
	{"privileges gained by executing a set-user-id program", []string{"set-user-id program under no_new_privs", "internal/runner/sandbox.TestSetuid"}},
	{"a device node that the container makes or brings", []string{"file systems and devices by capability", "internal/runner/sandbox.TestDevices", "internal/runner/sandbox.TestHostileImage"}},
	{"the kernel's files in /proc and /sys", []string{
		"files of the kernel in /proc and /sys", "internal/runner/sandbox.TestMaskedPaths", "internal/runner/sandbox.TestFilesOutsideAreOutOfReach"}},
	{"processes of the machine", []string{"processes of the machine", "internal/runner/sandbox.TestProcessesOutsideAreOutOfReach"}},
	{"a volume or a root that is read-only", []string{"internal/runner/sandbox.TestReadOnlyRoot", "internal/runner/sandbox.TestRecursiveMount"}},
	{"runAsUser in class host with the engine's groups", []string{"internal/runner/host.TestOtherUser", "internal/runner/host.TestUser"}},

	{"pods that their namespace forbids, created by a client, a controller, or bit by bit", []string{"internal/kind.TestPodSecurity", "internal/kind.TestPodSecurityOfUpdates", "testdata/stories/podsecurity.txtar"}},
	{"admin access to devices, and the status of a claim, by whoever may write claims", []string{"internal/server.TestClaimsAskWho"}},

	// The machine's resources.
	{"a fork bomb", []string{"fork bomb", "internal/runner/cgroup.TestForkBombs", "internal/runner/cgroup.TestPodBomb",
		"internal/runner/cgroup.TestRoom", "internal/runner/host.TestProcessLimit", "internal/agent.TestPIDPressure"}},
	{"memory beyond the limit", []string{"memory beyond the limit", "internal/runner/supervisor.TestOOM", "internal/agent.TestMemoryPressure"}},
	{"a disk filled by layers, volumes, termination files, /etc/hosts", []string{
		"testdata/stories/storage.txtar", "testdata/stories/pressure.txtar", "internal/agent.TestDiskPressure", "internal/agent.TestLocalStorage",
		"internal/agent/machine.TestKeepAgainstAWriter", "internal/runner/sandbox.TestMemoryVolumeIsBounded"}},
	{"a full disk stops the store", []string{"testdata/stories/pressure.txtar", "internal/store.TestReserveOfADiskThatOthersFill", "internal/store.TestFullDisk"}},
	{"an emptyDir that grows where nobody measures", []string{
		"internal/tree.TestUsage", "internal/tree.TestMeasuredUnderAttack", "internal/runner/sandbox.TestUsageOfWhoMovesAbout"}},
	{"a few lines of a manifest that ask for all of the engine's memory", []string{"internal/agent/runspec.TestTooLong", "internal/agent/volume.TestTooLarge"}},
	{"files of which variables are made, with a million lines or named a thousand times", []string{"internal/agent/runspec.TestHostileEnvFiles"}},
	{"paths and search paths of an image or a manifest that ask for all of the supervisor's memory", []string{"internal/runner/sandbox.TestStartIsBounded", "internal/runner/host.TestStartIsBounded"}},
	{"names of megabytes in what is said of a pod", []string{"internal/agent.TestStatusIsBrief"}},
	{"leases and locks on files that are the engine's or the machine's, too", []string{
		"lease on a file that is the engine's, too", "the machine's resolv.conf", "internal/runner/sandbox.TestLeasesAreRefused", "internal/agent/podfiles.TestOwnResolv"}},
	{"what the kernel counts for all processes of a user: terminals, descriptors on their way, watches", []string{
		"terminals of the whole machine", "descriptors that nobody receives", "internal/agent/machine.TestKeepWithoutWatches", "internal/runner/reap.TestEndWithoutPoller"}},
	{"logs without end", []string{"internal/runner/supervisor.TestRotatedLog", "internal/runner/crilog.TestRotation"}},
	{"a termination file that is a link, a FIFO or endless", []string{"internal/agent/machine.TestKeepRefusesWhatIsNoDirectory", "internal/runner/sandbox.TestTerminationLog", "internal/agent.TestTerminationMessage"}},

	// What stays.
	{"directories too deep to be removed", []string{
		"directories too deep to be removed", "internal/tree.TestDeep", "internal/tree.TestFewDescriptors", "internal/runner/sandbox.TestWhateverAContainerMadeIsRemoved"}},
	{"what cannot be removed keeps the node from starting and stopping", []string{
		"internal/runner/supervisor.TestStopWithRemains", "internal/runner/supervisor.TestStopSaysItBriefly", "internal/runner/trash.TestStuck", "internal/runner/sandbox.TestRecoverWaitsForNoRemoval"}},
	{"files of other modes and owners in an ordinary user's volumes", []string{
		"testdata/stories/volumes.txtar", "internal/tree.TestModes", "internal/tree.TestForeign", "internal/runner/sandbox.TestVolumeOfAGroup"}},
	{"a removal is led outside", []string{"internal/tree.TestAttack", "internal/tree.TestNeverThroughALink", "internal/tree.TestMovedAway"}},
	{"processes that outlive their container", []string{
		"processes that outlive a plain process of the machine", "processes that outlive a sandbox", "internal/runner/supervisor.TestEscapes",
		"internal/runner/supervisor.TestEscapesOfLost", "internal/runner/sandbox.TestEndTakesAll"}},
	{"processes that ignore SIGTERM", []string{"process that does not end when it is told to", "internal/runner/supervisor.TestAskedToEnd"}},
	{"double forks and zombies", []string{"processes that outlive a sandbox", "internal/runner/reap.TestChildrenAndOrphans", "internal/runner/sandbox.TestNothingIsLeft"}},

	// The engine, its files and its clients.
	{"a data directory that others own or can write", []string{
		"data directory that others can write", "data directory that belongs to somebody else", "internal/engine.TestUnsafeDirs", "internal/engine.TestGuessableDir", "internal/engine.TestStopOfAnothersDir"}},
	{"a data directory that others can read", []string{"internal/engine.TestPrivateFiles", "internal/engine.TestKeepDirs"}},
	{"descriptors of the engine's parent", []string{"descriptors of the engine's parent", "internal/runner/host.TestInheritedFiles"}},
	{"deleted secrets in the store and the journal", []string{
		"deleted secrets in the engine's files", "internal/store.TestErase", "internal/runner/supervisor.TestJournalKeepsNoSecrets"}},
	{"secret volumes on the disk", []string{"secrets of pods on the disk", "testdata/stories/volumes.txtar", "internal/agent.TestVolumeInMemoryIsLost"}},
	{"control sequences for the user's terminal", []string{
		"control sequences for the user's terminal", "internal/cli.TestOutputOfStrangers", "internal/cli.TestLogOfStrangers", "internal/cli.TestConsoleShowsStrangers"}},
	{"connections and requests of strangers", []string{
		"idle connections of strangers", "internal/server.TestStrangersKeepNobodyOut", "internal/server.TestLoudStrangers", "internal/server.TestRefusedWithoutReading", "internal/server.TestFloods", "internal/server.TestSlowBodies"}},
	{"a small request that causes much work", []string{"internal/server.TestBulk", "internal/server.TestBulkIsNeeded", "internal/server.TestHostileBodies"}},
	{"sessions of exec, attach and port-forward without end, and streams of which none is paired", []string{"internal/server.TestSessionsAreCounted", "internal/server.TestSessionsAreShared", "internal/server.TestUnpairedStreams"}},
	{"requests that wait for what is their sender's hold all places of the API", []string{"internal/server.TestSeatsThatAreKept"}},
	{"connections of who has a token, as every pod has, without end", []string{"internal/server.TestConnectionsAreShared"}},
	{"watches and followed logs without end", []string{"internal/server.TestLastingIsShared"}},
	{"webhooks that answer without end, with too much, or send the API elsewhere", []string{"internal/server/backend.TestWebhooksAreStrangers", "internal/server.TestHostileWebhooks"}},
	{"servers of aggregated APIs that tell too much, or take what is not theirs", []string{"internal/server/aggregate.TestResources", "internal/server/aggregate.TestUpgrade", "internal/server.TestRegistrationIsNobodyElses"}},
	{"definitions in a group of Kubernetes' own", []string{"internal/server.TestDefinitionInOurGroup"}},
	{"columns of custom objects that find the same thing a billion times", []string{"internal/server.TestColumnsThatMultiply"}},
	{"custom objects with a million fields", []string{"internal/server.TestCustomBulk"}},
	{"a set that wants two billion pods", []string{"internal/statefulset.TestTwoBillion"}},
	{"objects without end", []string{"internal/store.TestQuota"}},
	{"Events without end, by what the probes of a pod say", []string{"internal/control.TestTextsOfStrangers"}},
	{"a request that makes its handler panic", []string{"internal/server.TestPanics", "internal/server.TestPanicInAnAnswer", "internal/server.TestOddPatches"}},
	{"forged and expired certificates, paths without credentials", []string{
		"internal/server.TestForgedCertificates", "internal/server.TestExpiredCertificate", "internal/server.TestNothingWithoutCredentials", "internal/server.TestListensOnLoopback"}},
	{"hostile paths, names, tokens and watches", []string{
		"internal/server.TestHostilePaths", "internal/server.TestHostileNames", "internal/server.TestManyWatches", "internal/server.TestAccess"}},
	{"a backup, or a profile of the process, for who is no administrator", []string{"internal/server.TestBackupIsTheAdministrators", "internal/server.TestAccess"}},
	{"a backup that leads out of the directory, lies or does not end", []string{"internal/backup.TestHostileBackup"}},

	{"a template that reads what is not beside it, or takes all memory or time", []string{"testdata/stories/expand.txtar"}},

	// Images.
	{"unpacking follows links", []string{"internal/image.TestNothingFollowsLinks", "internal/image.TestHostileLayers", "internal/image.TestReplaced"}},
	{"the same layer twice", []string{"internal/image.TestTheSameLayerTwice", "internal/image.TestLayersTwice"}},
	{"archives of great size, number and compression", []string{"internal/image.TestBombs", "internal/image.TestLimits", "internal/image.TestWindow"}},
	{"archives with hostile names, links, whiteouts and attributes", []string{
		"internal/image.TestHostileAndDamagedArchives", "internal/image.TestLinksEndAtTheRoot", "internal/image.TestWhiteouts", "internal/image.TestAttributes"}},
	{"registries that lie or trickle", []string{
		"internal/image.TestHostileRegistry", "internal/image.TestARegistryThatMakesNoProgress", "internal/image.TestPullEndsWithItsLastWaiter"}},
	{"registries that lead to what only this machine reaches, and what that answers", []string{"internal/image.TestWhereARegistryLeads", "internal/image.TestWhatARegistrySays"}},
	{"a private image by the credentials of another pod", []string{"internal/image.TestPrivateImages", "internal/engine.TestPrivateImagesThatAreHere"}},
	{"hostile /etc/passwd and /etc/group", []string{"internal/image.TestUserFiles", "number that the image makes root's name"}},
	{"a FIFO where a hostPath is to be made", []string{"internal/agent/volume.TestHostPathWaitsForNobody"}},
}

// TestTable keeps the table true: each test that it names exists, and each attack
// of this package is in it.
func TestTable(t *testing.T) {
	t.Parallel()
	var own []string
	for _, a := range attacks() {
		own = append(own, a.name)
	}
	known := map[string][]string{} // the tests of a directory
	used := map[string]bool{}
	for _, row := range table {
		if len(row.tests) == 0 {
			t.Errorf("%s: no test makes it", row.attack)
		}
		for _, name := range row.tests {
			used[name] = true
			dir, test, found := strings.Cut(name, ".Test")
			switch {
			case strings.HasSuffix(name, ".txtar"):
				if _, err := os.Stat(filepath.Join("..", name)); err != nil {
					t.Errorf("%s: %v", row.attack, err)
				}
			case !found:
				if !slices.Contains(own, name) {
					t.Errorf("%s: no attack %q", row.attack, name)
				}
			default:
				if known[dir] == nil {
					known[dir] = tests(t, filepath.Join("..", dir))
				}
				if !slices.Contains(known[dir], "Test"+test) {
					t.Errorf("%s: no test %s", row.attack, name)
				}
			}
		}
	}
	for _, name := range own {
		if !used[name] {
			t.Errorf("the attack %q is not in the table", name)
		}
	}
}

// tests are the names of a directory's test functions.
func tests(t *testing.T, dir string) (names []string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
	must(t, err)
	for _, path := range files {
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		must(t, err)
		for _, d := range file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Recv == nil && strings.HasPrefix(f.Name.Name, "Test") {
				names = append(names, f.Name.Name)
			}
		}
	}
	return names
}
