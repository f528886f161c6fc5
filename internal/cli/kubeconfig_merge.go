package cli

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// merger adds the current context of a kubeconfig to another, under a name.
type merger struct {
	name   string
	source *clientcmdapi.Config
	use    bool // it becomes the context that is used there
}

// into merges into a file, which is replaced as a whole: client-go writes cluster,
// user and context one after the other, so it does that to a copy.
func (m merger) into(target string) (err error) {
	if real, err := filepath.EvalSymlinks(target); err == nil {
		target = real // a link stays one
	}
	if err := os.MkdirAll(filepath.Dir(target), 0o700); err != nil {
		return err
	}
	unlock, err := lockKubeconfig(target)
	if err != nil {
		return err
	}
	defer unlock()
	text, err := os.ReadFile(target)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	copied, err := os.CreateTemp(filepath.Dir(target), ".sampan-*") // 0600, as client-go leaves it
	if err != nil {
		return err
	}
	_, err = copied.Write(text)
	if err = errors.Join(err, copied.Close()); err == nil {
		err = m.modify(copied.Name())
	}
	if err == nil {
		err = keepOwner(target, copied.Name())
	}
	if err == nil {
		err = syncFile(copied.Name())
	}
	if err == nil {
		err = os.Rename(copied.Name(), target)
	}
	if err != nil {
		_ = os.Remove(copied.Name())
		return fmt.Errorf("%s: %w; nothing was changed", target, err)
	}
	return nil
}

// modify merges into a file that nobody else knows.
func (m merger) modify(file string) error {
	options := &clientcmd.PathOptions{GlobalFile: file, LoadingRules: &clientcmd.ClientConfigLoadingRules{ExplicitPath: file}}
	config, err := options.GetStartingConfig()
	if err != nil {
		return err
	}
	context := m.source.Contexts[m.source.CurrentContext]
	if context == nil {
		return errors.New("the engine's kubeconfig has no context")
	}
	cluster, user := m.source.Clusters[context.Cluster], m.source.AuthInfos[context.AuthInfo]
	if cluster == nil || user == nil {
		return errors.New("the engine's kubeconfig is not whole")
	}
	if old := config.Clusters[m.name]; old != nil && authority(old) != authority(cluster) {
		return fmt.Errorf("the cluster %q there is another's (%s): choose a name by `sampan kubeconfig --merge --name NAME`", m.name, old.Server)
	}
	namespace := ""
	if old := config.Contexts[m.name]; old != nil {
		namespace = old.Namespace
	}
	cluster, user = cluster.DeepCopy(), user.DeepCopy()
	cluster.LocationOfOrigin, user.LocationOfOrigin = "", ""
	config.Clusters[m.name], config.AuthInfos[m.name] = cluster, user
	config.Contexts[m.name] = &clientcmdapi.Context{Cluster: m.name, AuthInfo: m.name, Namespace: namespace}
	if m.use {
		config.CurrentContext = m.name
	}
	return clientcmd.ModifyConfig(options, *config, true)
}

// authority names who vouches for a cluster: the same for all of ours, so that a
// directory that was begun anew takes the place of the former.
func authority(cluster *clientcmdapi.Cluster) string {
	block, _ := pem.Decode(cluster.CertificateAuthorityData)
	if block == nil {
		return ""
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return ""
	}
	return cert.Subject.String()
}

// lockKubeconfig keeps kubectl, and others of us, from writing to a file meanwhile. It
// is the lock that client-go takes.
func lockKubeconfig(file string) (unlock func(), err error) {
	lock := file + ".lock"
	f, err := os.OpenFile(lock, os.O_CREATE|os.O_EXCL, 0)
	if errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("%s is being written by somebody else: try again, or, if nobody does, remove %s", file, lock)
	}
	if err != nil {
		return nil, err
	}
	f.Close()
	return func() { _ = os.Remove(lock) }, nil
}

// keepOwner gives a file to the owner of the one that it replaces: root may write into a
// user's.
func keepOwner(old, replacement string) error {
	var st unix.Stat_t
	if os.Geteuid() != 0 || unix.Stat(old, &st) != nil {
		return nil
	}
	return os.Chown(replacement, int(st.Uid), int(st.Gid))
}

func syncFile(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
