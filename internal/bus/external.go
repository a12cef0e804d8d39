package bus

import (
	"context"
	"fmt"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/unibus/unibus/internal/redact"
)

// External makes the service's connections to NATS servers that are already there, configured as
// Keys.Config says. They reconnect for as long as it takes.
func External(o DialOptions, k *Keys) (*Links, error) {
	opts := []nats.Option{
		nats.Timeout(o.Timeout), nats.MaxReconnects(-1), nats.ReconnectBufSize(-1),
		nats.CustomReconnectDelay(reconnectDelay),
	}
	theirs, err := o.transport()
	if err != nil {
		return nil, err
	}
	l, err := link(o.Servers, k, append(opts, theirs...)...)
	if err != nil {
		return nil, fmt.Errorf("connect to %s as the service: %w", o.where(), redact.Error(err))
	}
	return l, nil
}

// Operator connects as whoever runs the servers: as the NATS context or the URL says, or with the
// service's keys.
func Operator(o DialOptions) (*nats.Conn, error) {
	o.Direct = true
	opts, err := o.base()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), o.Timeout)
	defer cancel()
	return o.login(ctx, nil, append(opts, nats.MaxReconnects(-1))...)
}

// accounts are the service's part of a server's configuration.
const accounts = `accounts {
  AUTH: { users: [{nkey: %[1]s}] }
  BUS: { jetstream: enabled, users: [{nkey: %[2]s}] }
  SYS: { users: [{nkey: %[3]s}] }
}
system_account: SYS
authorization {
  timeout: %[5]d
  auth_callout { issuer: %[4]s, account: AUTH, auth_users: [%[1]s, %[2]s, %[3]s] }
}
`

// Config is the configuration that makes a server ask the service who may connect. It holds no
// secret.
func (k *Keys) Config() (string, error) {
	var names []any
	for _, key := range []nkeys.KeyPair{k.Auth, k.Bus, k.Sys, k.Issuer} {
		name, err := key.PublicKey()
		if err != nil {
			return "", err
		}
		names = append(names, name)
	}
	return fmt.Sprintf(accounts, append(names, int(LoginTimeout.Seconds()))...), nil
}

// routes writes the URLs of a cluster's other servers with the password they share.
func (k *Keys) routes(list []string) string {
	var out []string
	for _, r := range list {
		_, host, found := strings.Cut(r, "://")
		if !found {
			host = r
		}
		out = append(out, fmt.Sprintf("%q", "nats-route://unibus:"+k.Route+"@"+host))
	}
	return strings.Join(out, ", ")
}
