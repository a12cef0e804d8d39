package service

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"net/http"
	"net/url"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/unibus/unibus/internal/bus"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/shown"
)

// The page at / tells a person with a browser which bus this is, whether it is well, and how to join it. Anyone may see it,
// so it says what saying hello says (hello.go) and what overview.go has, and nothing else: no user but the founder, no
// room. It is one document that loads nothing, runs nothing and sends nothing.

//go:embed page.html page.css
var pageFiles embed.FS

// page answers GET /.
type page struct {
	lookout  *lookout
	template *template.Template
	policy   string // the Content-Security-Policy, by which the page's own style is all that a browser takes
	bus      pageBus
	made     atomic.Pointer[madePage]
}

// pageBus is what the page says of a bus that never changes.
type pageBus struct {
	ID, Founder, Key string
	Founded          time.Time
	Version          string
	Join             string // what `unibus join` takes
	Local            bool   // that leads there on this machine alone
	Style            template.CSS
}

// madePage is the document as it was made of an overview.
type madePage struct {
	of   *overview
	body []byte
}

// newPage prepares the page of a bus, which founding began, and whose server clients reach at an address.
func newPage(founding *ledger.Entry, address, version string, l *lookout) (*page, error) {
	style, err := pageFiles.ReadFile("page.css")
	if err != nil {
		return nil, err
	}
	t, err := template.New("page.html").Funcs(template.FuncMap{"visible": shown.Text}).ParseFS(pageFiles, "page.html")
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(style)
	p := &page{lookout: l, template: t, bus: pageBus{
		ID: founding.Log.String(), Key: founding.By.String(), Founded: founding.Time.UTC(), Version: version,
		Join: address + "#" + founding.Log.String(), Style: template.CSS(style),
	}}
	p.policy = "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
	if f, ok := founding.Body.(*ledger.Found); ok {
		p.bus.Founder = f.Name
	}
	if u, err := url.Parse(address); err == nil {
		p.bus.Local = bus.Loopback(u.Hostname())
	}
	return p, nil
}

// ServeHTTP answers with the page, with 200 however the bus is: what is asked is whether the page is there.
func (p *page) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	body, err := p.body()
	if err != nil {
		writeProblem(w, fmt.Errorf("the page: %w", err))
		return
	}
	for name, value := range map[string]string{
		"Content-Type":                 "text/html; charset=utf-8",
		"Content-Length":               strconv.Itoa(len(body)),
		"Content-Security-Policy":      p.policy,
		"Cross-Origin-Resource-Policy": "same-origin",
		"X-Content-Type-Options":       "nosniff",
		"Referrer-Policy":              "no-referrer",
		"Cache-Control":                "no-store",
	} {
		w.Header().Set(name, value)
	}
	_, _ = w.Write(body) // who asked may be gone
}

// body is the document, made once for each overview.
func (p *page) body() ([]byte, error) {
	o := p.lookout.overview()
	if made := p.made.Load(); made != nil && made.of == o {
		return made.body, nil
	}
	var out bytes.Buffer
	err := p.template.Execute(&out, struct {
		Bus pageBus
		Now *overview
	}{p.bus, o})
	if err != nil {
		return nil, err
	}
	p.made.Store(&madePage{o, out.Bytes()})
	return out.Bytes(), nil
}
