package server

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net/http"
	"time"

	"golang.org/x/net/http2"
)

const (
	// drainTimeout is how long a stop waits for requests under way.
	drainTimeout = 5 * time.Second
	// streamsPerConnection is how many requests and watches one connection
	// carries at a time.
	streamsPerConnection = 1000
	// bodyWindow fits nearly every request body in one frame.
	bodyWindow = 256 << 10
	// headerBytes leaves room for any selector. Strangers can send headers, so
	// that this times their number is memory that they can take.
	headerBytes = 256 << 10
	// headerTimeout bounds a TLS handshake, and the headers of a request.
	headerTimeout = 10 * time.Second
)

// httpServer returns the HTTP/2 server with our certificates around handler.
func (s *Server) httpServer(handler http.Handler) (*http.Server, error) {
	serving, err := tls.X509KeyPair(s.certs.serving.certPEM, s.certs.serving.keyPEM)
	if err != nil {
		return nil, fmt.Errorf("server: serving certificate: %w", err)
	}
	clients := x509.NewCertPool()
	clients.AddCert(s.certs.ca.cert)
	web := &http.Server{
		Handler: handler,
		TLSConfig: &tls.Config{
			Certificates: []tls.Certificate{serving},
			// Asked for, not demanded: the authenticator judges, so that who comes
			// without one gets an answer, not a broken connection.
			ClientAuth: tls.RequestClientCert,
			ClientCAs:  clients,
			MinVersion: tls.VersionTLS12,
			NextProtos: []string{"h2", "http/1.1"},
		},
		ConnContext:       withConn,
		MaxHeaderBytes:    headerBytes,
		IdleTimeout:       90 * time.Second,
		ReadHeaderTimeout: headerTimeout,
		ErrorLog:          log.New(webNoise{slog.New(newSparing(s.o.Logger.Handler()))}, "", 0),
	}
	err = http2.ConfigureServer(web, &http2.Server{
		IdleTimeout:                  web.IdleTimeout,
		MaxConcurrentStreams:         streamsPerConnection,
		MaxReadFrameSize:             bodyWindow,
		MaxUploadBufferPerStream:     bodyWindow,
		MaxUploadBufferPerConnection: bodyWindow * 64,
		// A stream that is not taken is cut by withPace, a whole connection here.
		WriteByteTimeout: s.o.pace.writeGrace,
	})
	if err != nil {
		return nil, fmt.Errorf("server: configure HTTP/2: %w", err)
	}
	return web, nil
}

// errStopping is why streams end that could have gone on.
var errStopping = errors.New("the server is shutting down")

// drain ends the watches, waits for the requests under way, and closes all.
// http.Server.Shutdown alone would wait a second for idle HTTP/2 connections.
func (s *Server) drain(web *http.Server) {
	ctx, cancel := context.WithTimeout(context.Background(), drainTimeout)
	defer cancel()
	s.stop(errStopping)
	_ = s.Close()

	drained := make(chan struct{})
	go func() {
		defer close(drained)
		s.requests.Wait()
		s.watches.Wait()
	}()
	select {
	case <-drained:
	case <-ctx.Done():
		s.o.Logger.Warn("requests did not end in time", "timeout", drainTimeout)
	}
	web.Close()
}
