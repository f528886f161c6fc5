// Package supervisor keeps containers in a process of their own, so that they
// outlive the engine.
//
// A supervisor is the parent, and the child subreaper, of every container of
// one class on a node. It starts them through a runner.Launcher, copies what
// they write into log files (package crilog), and records how they ended. The
// engine talks to it through a Client, which is a runner.Runner, over a unix
// socket in the supervisor's directory, and starts it when it is not there.
//
// A Client has one connection for requests, answers and news (session.go), and one
// for each stream, that is for each command executed in a container, each client
// attached to one, and each way to a port (stream.go). What flows in a stream flows
// by descriptors that are sent through its connection, not through the supervisor:
// a command has the client's pipes, and the client has the command's terminal. Only
// what a container writes is copied, to its log and to who is attached (attach.go).
//
// # Two supervisors
//
// There is one supervisor per class, each started when its class is first
// used, because they live in different places: the one of sandbox in a mount
// namespace of its own (so that no mount is visible outside, and all vanish
// with it) and, for an ordinary user, in a user namespace; the one of host in
// the machine as it is, so that a plain process really is one. Nothing else
// distinguishes them.
//
// # Who dies with whom
//
// The engine may be killed, upgraded and restarted: the supervisor goes on, and
// a new Client finds every container as it is. The engine's streams end with it: a
// command that it had executed is killed with all of its session, the input of a
// container with stdinOnce to which it was attached ends. A supervisor that is killed
// takes its containers along (parent-death signal, pid namespaces; what
// escaped both is ended when the next one starts), and they are reported as
// Lost. A supervisor ends by itself only when told to (Client.Stop, or SIGTERM, by
// which containers are asked to end first: see signals.go), or, if it
// is Private, when the engine that started it has gone; whichever, it ends
// every container first and leaves nothing running or mounted.
//
// # Files
//
//	DIR/CLASS/lock          held by the running supervisor
//	DIR/CLASS/sock          where it listens
//	DIR/CLASS/log           what it has to say
//	DIR/CLASS/journal       which containers there are, see journal.go
//	DIR/CLASS/launcher/     the Launcher's own
//
// # Order of events in a container's life
//
//  1. the start is in the journal; from now on nothing runs unknown
//  2. the log file is opened, the process started, Start answered: Running
//  3. the process ends, what remains of the container is killed, the pipes are
//     read to their ends, the log is closed
//  4. the end is in the journal, then pushed to every connected Client
//  5. Remove: the Launcher releases what the container held; it is forgotten
package supervisor
