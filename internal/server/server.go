// Package server is the Kubernetes API in front of the store: k8s.io/apiserver
// with a rest.Storage of our own for every row of package kind.
//
// It owns the HTTP endpoint, its certificates, who may do what, and what a
// request means in terms of the store: which objects it reads, and the one
// change set that it commits. It decides nothing about Jobs, pods or nodes;
// whatever has to happen next is somebody else's reaction to the commit.
//
// Order of a write: decode, default (library, by the scheme); admit (a namespace
// that takes something new, webhooks and policies, what Kubernetes' admission puts into
// pods); prepare, validate, warn (the row); commit to the store, which asks the namespace
// once more; answer from what was committed.
//
// Objects in the store are immutable and shared. The library writes into the
// objects that it is given (TypeMeta while encoding, managedFields while
// merging), so it is given copies: of the outermost struct for reading, deep
// ones for changing.
package server

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	utilwaitgroup "k8s.io/apimachinery/pkg/util/waitgroup"
	k8sadmission "k8s.io/apiserver/pkg/admission"
	genericserver "k8s.io/apiserver/pkg/server"
	"k8s.io/apiserver/pkg/server/healthz"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/sampan-batch/sampan/internal/kind"
	"github.com/sampan-batch/sampan/internal/server/admission"
	"github.com/sampan-batch/sampan/internal/server/aggregate"
	"github.com/sampan-batch/sampan/internal/server/custom"
	"github.com/sampan-batch/sampan/internal/store"
)

// DefaultListen is where the API listens unless told otherwise.
const DefaultListen = "127.0.0.1:6443"

// Options say what to serve, and how.
type Options struct {
	Store *store.Store
	// Kinds are what is served: those that are in it when the server is made.
	Kinds *kind.Kinds
	// Listen is the TCP address to listen on; port 0 picks one. "" means
	// DefaultListen.
	Listen string
	// CertDir keeps the authority, the serving certificate and the
	// administrator's. It is created, and its certificates are renewed when
	// they near their end.
	CertDir string
	// TokenFile has users and their tokens; "": there are none. It is read once.
	TokenFile string
	// Node returns what gives the streams of a node's pods, nil when it is not
	// connected. nil: none is.
	Node func(name string) PodStreams
	// Backup writes a backup of all that the engine keeps; nil: there is none.
	Backup func(ctx context.Context, w io.Writer, o BackupOptions) error
	// Machine has the nodes that the engine runs itself; nil: they cannot be switched.
	Machine Machine
	// Live are the checks of /livez besides the library's own: what a restart may
	// cure. Ready are those of /readyz besides these. They answer soon, and anybody
	// may have them asked.
	Live, Ready []healthz.HealthChecker
	Logger      *slog.Logger
	// Version of this program, a semantic version such as "0.1.0".
	Version string
	// Now is the clock; nil means time.Now.
	Now func() time.Time
	// OpenFiles is how many files the process may hold, of which connections get
	// a share; 0 means what its limit says.
	OpenFiles uint64

	// pace, strangerLife and sessions are less in tests.
	pace         pace
	strangerLife time.Duration
	sessions     sessionLimits
	// unjudged: nobody admits what is written, for a benchmark to compare with.
	unjudged bool
}

func (o *Options) complete() error {
	if o.Store == nil || o.Kinds == nil || o.CertDir == "" {
		return errors.New("server: Store, Kinds and CertDir are required")
	}
	if o.Listen == "" {
		o.Listen = DefaultListen
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Version == "" {
		o.Version = "0.0.0"
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.OpenFiles == 0 {
		o.OpenFiles = openFiles()
	}
	if o.pace == (pace{}) {
		o.pace = defaultPace()
	}
	if o.sessions == (sessionLimits{}) {
		o.sessions = defaultSessions()
	}
	if o.strangerLife == 0 {
		o.strangerLife = strangerLife
	}
	return nil
}

// Server is the API of one store.
type Server struct {
	o        Options
	certs    *certs
	ids      *identities
	listener net.Listener
	inside   *inside
	scheme   *runtime.Scheme
	generic  *genericserver.GenericAPIServer
	gate     *gate
	late     *late
	custom   *custom.Server
	judge    *admission.Judge
	others   *aggregate.Server
	// admission is what judges the writes of clients: the judge is last.
	admission k8sadmission.Interface
	// token authenticates LoopbackConfig.
	token string

	ready    chan struct{}   // closed when the API answers
	stopping context.Context // ends when watches, and the streams of pods, shall
	stop     context.CancelCauseFunc
	// requests and watches that are under way.
	requests *utilwaitgroup.SafeWaitGroup
	watches  *utilwaitgroup.SafeWaitGroup
}

// New prepares a server: it loads or makes the certificates and binds the
// address, so that Addr and Kubeconfig are known. Nothing is answered before Run.
func New(o Options) (*Server, error) {
	if err := o.complete(); err != nil {
		return nil, err
	}
	host, _, err := net.SplitHostPort(o.Listen)
	if err != nil {
		return nil, fmt.Errorf("server: listen address: %w", err)
	}
	certs, err := loadCerts(o.CertDir, host, o.Now())
	if err != nil {
		return nil, err
	}
	ids, err := newIdentities(&o, certs.ca.cert)
	if err != nil {
		return nil, err
	}
	listener, err := net.Listen("tcp", o.Listen)
	if err != nil {
		return nil, fmt.Errorf("server: %w", err)
	}
	token := make([]byte, 32)
	rand.Read(token)
	s := &Server{
		o: o, certs: certs, ids: ids, listener: listener, inside: newInside(listener.Addr()), gate: newGate(o.Store), token: hex.EncodeToString(token),
		ready: make(chan struct{}),
	}
	s.stopping, s.stop = context.WithCancelCause(context.Background())
	if err := s.install(); err != nil {
		listener.Close()
		return nil, err
	}
	return s, nil
}

// Ready is closed when the API answers requests.
func (s *Server) Ready() <-chan struct{} { return s.ready }

// Addr is the host:port on which the server listens.
func (s *Server) Addr() string { return s.listener.Addr().String() }

// RootCA is the authority of the server's certificate, PEM.
func (s *Server) RootCA() []byte { return s.certs.ca.certPEM }

// Endpoint is host and port by which pods of this machine reach the server.
func (s *Server) Endpoint() netip.AddrPort {
	addr := s.listener.Addr().(*net.TCPAddr).AddrPort()
	if ip := addr.Addr().Unmap(); !ip.IsUnspecified() {
		return netip.AddrPortFrom(ip, addr.Port())
	}
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), addr.Port())
}

// url is how a client on this machine reaches the server.
func (s *Server) url() string {
	return "https://" + s.Endpoint().String()
}

// Kubeconfig returns the administrator's kubeconfig. It carries the private
// key: whoever can read it can do everything.
func (s *Server) Kubeconfig() ([]byte, error) {
	const name = "sampan"
	config := clientcmdapi.NewConfig()
	config.Clusters[name] = &clientcmdapi.Cluster{
		Server:                   s.url(),
		CertificateAuthorityData: s.certs.ca.certPEM,
		DisableCompression:       true, // client and server share the processors
	}
	config.AuthInfos[name] = &clientcmdapi.AuthInfo{
		ClientCertificateData: s.certs.admin.certPEM,
		ClientKeyData:         s.certs.admin.keyPEM,
	}
	config.Contexts[name] = &clientcmdapi.Context{Cluster: name, AuthInfo: name}
	config.CurrentContext = name
	return clientcmd.Write(*config)
}

// LoopbackConfig returns the configuration of a client inside this process,
// without rate limits, with the rights of the server itself.
func (s *Server) LoopbackConfig() *rest.Config {
	return &rest.Config{
		Host:            s.url(),
		BearerToken:     s.token,
		TLSClientConfig: rest.TLSClientConfig{CAData: s.certs.ca.certPEM},
		UserAgent:       "sampan/" + s.o.Version,
		QPS:             -1,

		DisableCompression: true,
	}
}

// Close gives up the address of a server that does not run.
func (s *Server) Close() error { return errors.Join(s.inside.Close(), s.listener.Close()) }

// Run serves until ctx ends, then lets the requests that are under way finish.
func (s *Server) Run(ctx context.Context) error {
	s.installHealth()
	web, err := s.httpServer(s.generic.Handler)
	if err != nil {
		return err
	}
	hooks, stopHooks := context.WithCancel(context.WithoutCancel(ctx))
	defer stopHooks()
	defer s.generic.Destroy()

	served := make(chan error, 2)
	go func() { served <- web.ServeTLS(newDoor(s.listener, s.o), "", "") }()
	go func() { served <- web.ServeTLS(s.inside, "", "") }() // nobody is a stranger there
	s.generic.RunPostStartHooks(hooks)
	if s.custom.Wanted() {
		s.custom.Await(ctx)
	}
	var beside sync.WaitGroup
	defer beside.Wait()
	beside.Go(func() { s.others.Run(s.stopping) })
	beside.Go(func() { s.judge.Run(s.stopping) })
	close(s.ready)

	select {
	case <-ctx.Done():
	case err := <-served:
		s.stop(err)
		return fmt.Errorf("server: serve: %w", err)
	}
	s.drain(web)
	<-served
	<-served
	return nil
}
