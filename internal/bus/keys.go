package bus

import (
	"bytes"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/unibus/unibus/internal/newfile"
	"github.com/unibus/unibus/internal/store"
)

// Keys are what makes a service the service to its NATS servers: the account key that signs the
// answers to authorization requests, and a user in each of three accounts. All are derived from one
// seed, so that every server and service of a cluster has them from one file.
type Keys struct {
	Issuer         nkeys.KeyPair
	Auth, Bus, Sys nkeys.KeyPair
	Route          string // the password by which the cluster's servers know each other
	seed           []byte
}

// NewKeys makes fresh keys.
func NewKeys() (*Keys, error) {
	var raw [32]byte
	if _, err := rand.Read(raw[:]); err != nil {
		return nil, err
	}
	seed, err := nkeys.EncodeSeed(nkeys.PrefixByteAccount, raw[:])
	if err != nil {
		return nil, err
	}
	return parseKeys(seed)
}

func parseKeys(seed []byte) (*Keys, error) {
	prefix, raw, err := nkeys.DecodeSeed(seed)
	if err != nil || prefix != nkeys.PrefixByteAccount {
		return nil, fmt.Errorf("%w: it holds no account seed (SA…)", store.ErrInvalid)
	}
	k := &Keys{seed: seed}
	if k.Issuer, err = nkeys.FromSeed(seed); err != nil {
		return nil, err
	}
	for name, key := range map[string]*nkeys.KeyPair{"auth": &k.Auth, "bus": &k.Bus, "sys": &k.Sys} {
		sub, err := hkdf.Key(sha256.New, raw, nil, "unibus service user "+name, 32)
		if err != nil {
			return nil, err
		}
		if *key, err = nkeys.FromRawSeed(nkeys.PrefixByteUser, sub); err != nil {
			return nil, err
		}
	}
	route, err := hkdf.Key(sha256.New, raw, nil, "unibus service route", 24)
	k.Route = hex.EncodeToString(route)
	return k, err
}

// LoadKeys reads a key file. ErrNotFound without one.
func LoadKeys(path string) (*Keys, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("service keys: %w: there is no file %s", store.ErrNotFound, path)
	}
	if err != nil {
		return nil, fmt.Errorf("service keys: %w", err)
	}
	for line := range bytes.Lines(text) {
		if line = bytes.TrimSpace(line); len(line) > 0 && line[0] != '#' {
			k, err := parseKeys(line)
			if err != nil {
				return nil, fmt.Errorf("service keys %s: %w", path, err)
			}
			return k, nil
		}
	}
	return nil, fmt.Errorf("service keys %s: %w: the file is empty", path, store.ErrInvalid)
}

// LoadOrMakeKeys reads a key file, and makes it if it is not there.
func LoadOrMakeKeys(path string) (k *Keys, made bool, err error) {
	k, err = LoadKeys(path)
	if !errors.Is(err, store.ErrNotFound) {
		return k, false, err
	}
	if k, err = NewKeys(); err != nil {
		return nil, false, err
	}
	text := fmt.Appendf(nil, "# unibus service keys: whoever reads this file can act as the service, and let anyone in.\n# Every server of one cluster needs the same file.\n%s\n", k.seed)
	if err := newfile.Write(path, text); errors.Is(err, os.ErrExist) { // another process was quicker
		k, err = LoadKeys(path)
		return k, false, err
	} else if err != nil {
		return nil, false, fmt.Errorf("service keys: %w", err)
	}
	return k, true, nil
}

// as makes a connection that of one of the service's users.
func as(k nkeys.KeyPair) (nats.Option, error) {
	name, err := k.PublicKey()
	return nats.Nkey(name, k.Sign), err
}

// link makes the service's three connections.
func link(servers string, k *Keys, opts ...nats.Option) (*Links, error) {
	l := &Links{Issuer: k.Issuer}
	for _, c := range []struct {
		key nkeys.KeyPair
		nc  **nats.Conn
	}{{k.Auth, &l.Auth}, {k.Bus, &l.Bus}, {k.Sys, &l.Sys}} {
		user, err := as(c.key)
		if err == nil {
			*c.nc, err = nats.Connect(servers, append([]nats.Option{user, nats.Name("unibus service")}, opts...)...)
		}
		if err != nil {
			l.Close()
			return nil, failure(err)
		}
	}
	return l, nil
}
