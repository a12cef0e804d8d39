package bus

import (
	"context"
	"fmt"
	"strings"
	"text/template"

	"github.com/nats-io/nats.go"

	"github.com/unibus/unibus/internal/redact"
)

// This file is about NATS servers that are not embedded: what their configuration has to say (Keys.Config), and how the
// service (External) and whoever runs them (Operator) connect. An embedded server is given the same configuration.

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
	l, err := connectDuties(o.Servers, k, append(opts, theirs...)...)
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

// accounts are the service's part of a server's configuration (SPEC.md §7). NATS checks no permission
// on the reply subject of a request: whoever answers it publishes there with rights of its own. So
// nobody but the service is in an account that has JetStream, what crosses from one account to another
// has its replies translated by the servers, and who answers others may publish into inboxes alone.
const accounts = `accounts {
  STORE: {
    jetstream: enabled
    users: [ {nkey: {{.store}}} ]
    exports: [
      {service: "unibus.s.*.*", threshold: "5s", accounts: [BUS]}
      {stream: "unibus.r.*.*", accounts: [BUS]}
    ]
  }
  BUS: {
    users: [
      {nkey: {{.api}}, permissions: {subscribe: ["unibus.api.*"], publish: ["_INBOX.>"]}}
      {nkey: {{.notify}}, permissions: {subscribe: {deny: [">"]}, publish: ["unibus.n.*"]}}
    ]
    imports: [
      {service: {account: STORE, subject: "unibus.s.*.*"}}
      {stream: {account: STORE, subject: "unibus.r.*.*"}}
    ]
    limits: {max_subscriptions: 1024}
  }
  DOOR: {
    imports: [ {service: {account: HELLO, subject: "unibus.hello.*"}} ]
    limits: {max_connections: 1024, max_subscriptions: 8, max_payload: 4096}
  }
  HELLO: {
    users: [ {nkey: {{.hello}}, permissions: {subscribe: ["unibus.hello.*"], allow_responses: {max: 1, expires: "5s"}}} ]
    exports: [ {service: "unibus.hello.*", threshold: "5s", accounts: [DOOR]} ]
  }
  AUTH: { users: [ {nkey: {{.auth}}} ] }
  SYS: { users: [ {nkey: {{.sys}}} ] }
}
system_account: SYS
authorization {
  timeout: {{.timeout}}
  auth_callout {
    issuer: {{.issuer}}
    account: AUTH
    auth_users: [ {{.auth}}, {{.store}}, {{.api}}, {{.notify}}, {{.hello}}, {{.sys}} ]
  }
}
`

// Config is the configuration that makes a server ask the service who may connect. It holds no
// secret.
func (k *Keys) Config() (string, error) {
	issuer, err := k.Issuer.PublicKey()
	if err != nil {
		return "", err
	}
	values := map[string]any{"issuer": issuer, "timeout": int(LoginTimeout.Seconds())}
	for duty, user := range k.users {
		if values[string(duty)], err = user.PublicKey(); err != nil {
			return "", err
		}
	}
	var out strings.Builder
	err = accountsTemplate.Execute(&out, values)
	return out.String(), err
}

var accountsTemplate = template.Must(template.New("accounts").Option("missingkey=error").Parse(accounts))

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
