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

// This file has the service's keys, of which all come from one seed, and the connections that it makes with them, one for
// each of its duties (connectDuties): to the embedded server, or to others (External).

// Keys are what makes a service the service to its NATS servers: the account key that signs the
// answers to authorization requests, and a user for each thing it does, none of which can do what
// another does. All are derived from one seed, so that every server and service of a cluster has them
// from one file.
type Keys struct {
	Issuer nkeys.KeyPair
	Route  string // the password by which the cluster's servers know each other
	users  map[Duty]nkeys.KeyPair
	seed   []byte
}

// Duty is one thing the service does on its NATS servers, over a connection of its own: whoever answers
// others publishes where they say, so a connection that answers may do nothing else (SPEC.md §7).
type Duty string

// The duties of a service, and the accounts they live in.
const (
	DutyAuth   Duty = "auth"   // AUTH: says who may connect
	DutyStore  Duty = "store"  // STORE: streams and buckets; the one that may do everything there
	DutyAPI    Duty = "api"    // BUS: answers the membership API, into inboxes alone
	DutyNotify Duty = "notify" // BUS: tells members which logs have grown, and nothing else
	DutyHello  Duty = "hello"  // HELLO: answers strangers
	DutySys    Duty = "sys"    // SYS: sees and drops connections
)

var duties = []Duty{DutyAuth, DutyStore, DutyAPI, DutyNotify, DutyHello, DutySys}

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

// parseKeys derives all keys from a seed, each for its duty by its name: other labels would be other keys, which no server of a
// cluster that runs on would know. ErrInvalid for what is no seed of an account.
func parseKeys(seed []byte) (*Keys, error) {
	prefix, raw, err := nkeys.DecodeSeed(seed)
	if err != nil || prefix != nkeys.PrefixByteAccount {
		return nil, fmt.Errorf("%w: it holds no account seed (SA…)", store.ErrInvalid)
	}
	k := &Keys{seed: seed, users: map[Duty]nkeys.KeyPair{}}
	if k.Issuer, err = nkeys.FromSeed(seed); err != nil {
		return nil, err
	}
	for _, duty := range duties {
		sub, err := hkdf.Key(sha256.New, raw, nil, "unibus service user "+string(duty), 32)
		if err != nil {
			return nil, err
		}
		if k.users[duty], err = nkeys.FromRawSeed(nkeys.PrefixByteUser, sub); err != nil {
			return nil, err
		}
	}
	route, err := hkdf.Key(sha256.New, raw, nil, "unibus service route", 24)
	k.Route = hex.EncodeToString(route)
	return k, err
}

// KeysError is what is wrong with a file of service keys.
type KeysError struct {
	Path string
	Why  error
}

// Error names the file, and says what is wrong.
func (e *KeysError) Error() string { return fmt.Sprintf("service keys %s: %v", e.Path, e.Why) }

// Unwrap returns what is wrong.
func (e *KeysError) Unwrap() error { return e.Why }

// LoadKeys reads a key file. Its error is a *KeysError: ErrNotFound without one.
func LoadKeys(path string) (*Keys, error) {
	k, err := readKeys(path)
	if err != nil {
		return nil, &KeysError{path, err}
	}
	return k, nil
}

// readKeys is LoadKeys with errors that do not name the file.
func readKeys(path string) (*Keys, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%w: there is no such file", store.ErrNotFound)
	}
	if err == nil {
		err = newfile.Private(path)
	}
	if err != nil {
		return nil, err
	}
	for line := range bytes.Lines(text) {
		if line = bytes.TrimSpace(line); len(line) > 0 && line[0] != '#' {
			return parseKeys(line)
		}
	}
	return nil, fmt.Errorf("%w: the file is empty", store.ErrInvalid)
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

// Seed is the seed of the user that has a duty, by which other programs log in as it.
func (k *Keys) Seed(duty Duty) (string, error) {
	seed, err := k.users[duty].Seed()
	return string(seed), err
}

// as makes a connection that of one of the service's users.
func (k *Keys) as(duty Duty) (nats.Option, error) {
	user := k.users[duty]
	name, err := user.PublicKey()
	return nats.Nkey(name, user.Sign), err
}

// connectDuties makes the service's connections, one for each duty.
func connectDuties(servers string, k *Keys, opts ...nats.Option) (*Links, error) {
	l := &Links{Issuer: k.Issuer}
	for duty, nc := range l.all() {
		user, err := k.as(duty)
		if err == nil {
			*nc, err = nats.Connect(servers, append([]nats.Option{user, nats.Name("unibus service: " + string(duty))}, opts...)...)
		}
		if err != nil {
			l.Close()
			return nil, failure(err)
		}
	}
	return l, nil
}

// Users are the names of the service's own users, as servers show them.
func (l *Links) Users() []string {
	var out []string
	for _, nc := range l.all() {
		if *nc != nil {
			out = append(out, (*nc).Opts.Nkey)
		}
	}
	return out
}
