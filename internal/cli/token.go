package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/unibus/unibus"
)

// token prints what lets other programs use the HTTP API as the caller, for a while. It is signed here; the bus only
// says which one it is.

// A token's life: unless told otherwise, and what the service accepts at most.
const (
	defaultTokenLife = "10m"
	maxTokenLife     = 24 * time.Hour
)

// tokenCommand is token and its flags.
type tokenCommand struct {
	a *app
	// ttl is how long the token may be used.
	ttl time.Duration
}

// newToken makes token.
func newToken(a *app) *cobra.Command {
	t := &tokenCommand{a: a}
	c := &cobra.Command{
		Use: "token", Short: "Print a bearer token for the HTTP API", Args: cobra.NoArgs,
		Long: "Print a bearer token: whoever has it may use the HTTP API as you, for as long as --ttl says. Those who check\nit allow five minutes more, for clocks that differ.",
		Example: `  curl -H "Authorization: Bearer $(unibus token)" \
    http://127.0.0.1:8222/users`,
		RunE: a.client(t.run),
	}
	c.Flags().Var(newDefault(&t.ttl, defaultTokenLife, parseTokenLife), "ttl", "how long it may be used, at most 24h")
	return c
}

// tokenJSON is a token, as scripts see it.
type tokenJSON struct {
	Token string `json:"token"`
}

// run signs a token. The bus is asked which one it is, for a token is good for one bus alone.
func (t *tokenCommand) run(_ context.Context, c *unibus.Client, _ []string) error {
	// Nothing is stored anywhere: the signature is all that there is to check.
	text, err := c.Token(t.ttl)
	if err != nil {
		return err
	}
	return t.a.out.value(tokenJSON{text}, func() { fmt.Fprintln(t.a.out, text) })
}

// parseTokenLife reads how long a token may be used.
func parseTokenLife(text string) (time.Duration, error) {
	d, err := parsePositive(text)
	if err == nil && d > maxTokenLife {
		err = instead("24h", "more than 24h")
	}
	return d, err
}
