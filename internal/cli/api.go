package cli

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/unibus/unibus"
)

// api asks the service what its API has (docs/openapi.yaml), as the caller and over NATS: for scripts that want what no
// command has.

// apiCommand is api and its flags.
type apiCommand struct {
	a *app
	// input is a file with the body of the request; - is stdin, empty: there is none.
	input string
}

// apiMethods are those that the API knows.
var apiMethods = []string{"GET", "POST", "PUT", "DELETE"}

// newAPI makes api.
func newAPI(a *app) *cobra.Command {
	p := &apiCommand{a: a}
	c := &cobra.Command{
		Use: "api METHOD PATH", Short: "Ask the membership API, as yourself", Args: cobra.ExactArgs(2), ValidArgs: apiMethods,
		Long: "Make a request to the membership API over NATS, and print the answer as it is: JSON, or sealed frames.\nWhat is refused ends as every command does. docs/openapi.yaml has the paths.",
		Example: `  unibus api GET /users | jq -r '.[].name'
  unibus api POST /cards/query --input query.json`,
		RunE: func(cmd *cobra.Command, args []string) error {
			method := strings.ToUpper(args[0])
			if !slices.Contains(apiMethods, method) || !strings.HasPrefix(args[1], "/") {
				return hinted(usage("api %s %s: a METHOD, of %s, and a PATH that begins with /", args[0], args[1], strings.Join(apiMethods, ", ")), hintUseLine(cmd))
			}
			return a.with(cmd.Context(), func(c *unibus.Client) error { return p.run(cmd.Context(), c, method, args[1]) })
		},
	}
	c.Flags().StringVar(&p.input, "input", "", "a `FILE` with the body of the request, in JSON; - for standard input")
	return c
}

// run makes the request.
func (p *apiCommand) run(ctx context.Context, c *unibus.Client, method, path string) error {
	body, err := p.body()
	if err != nil {
		return err
	}
	answer, err := unibus.CallAPI(ctx, c, method, path, body)
	if err != nil {
		asked, _, _ := strings.Cut(method+" "+path, "?")
		if strings.HasPrefix(err.Error(), asked+": ") { // what the service says of what it was asked, and not of what that is about
			return hinted(fmt.Errorf("api %w", err), hintRoutes)
		}
		return fmt.Errorf("api %s %s: %w", method, path, err)
	}
	if p.a.out.terminal && len(answer) > 0 {
		answer = append(bytes.TrimRight(answer, "\n"), '\n')
	}
	_, err = p.a.out.Write(answer)
	return err
}

// body reads the body of the request.
func (p *apiCommand) body() ([]byte, error) {
	if p.input == "" {
		return nil, nil
	}
	f, err := p.a.openInput("input", p.input)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, unibus.MaxMessage))
}
