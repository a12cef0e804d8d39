package service

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/store"
	"github.com/unibus/unibus/internal/store/storetest"
)

// get asks a URL with a method, and returns the answer with what was in it.
func get(t *testing.T, method, url string) (*http.Response, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(answer.Body)
	answer.Body.Close()
	if err != nil {
		t.Fatal(err)
	}
	return answer, string(body)
}

// shows wants texts to be in a page, and others not to be.
func shows(t *testing.T, page string, there, not []string) {
	t.Helper()
	for _, text := range there {
		if !strings.Contains(page, text) {
			t.Errorf("the page lacks %q", text)
		}
	}
	for _, text := range not {
		if strings.Contains(page, text) {
			t.Errorf("the page has %q", text)
		}
	}
	if t.Failed() {
		t.Log(page)
	}
}

// hostile is a text that would run in a browser, or move what stands beside it, if it were not escaped; escaped is a part of
// what it then is.
const (
	hostile = "</title></style><script>alert(1)</script><img src=x onerror=alert(1)>\" onload='alert(1)'\x1b[2J\x00\u202e{{.}}"
	escaped = `&lt;script&gt;alert(1)&lt;/script&gt;`
)

// TestPage: whoever opens the address of a bus with a browser reads which bus it is and how to join it, and of its users
// and rooms no more than how many there are.
func TestPage(t *testing.T) {
	defer http.DefaultClient.CloseIdleConnections()
	admin := person(t, 'a')
	n, err := StartNode(t.Context(), NodeOptions{
		Listen: "127.0.0.1:0", Dir: t.TempDir(), HTTP: "127.0.0.1:0", Identity: admin, Founder: "founder-of-it", Version: "1.2.3 " + hostile,
		Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Stop)
	bob := person(t, 'b')
	addUser(t, n, admin, bob)
	_, room := roomOf(t, n, admin, "secret.plans", nil)
	mustDial(t, n, bob, n.Bus)

	answer, page := get(t, "GET", "http://"+n.HTTP+"/")
	if answer.StatusCode != http.StatusOK {
		t.Errorf("it answers %s", answer.Status)
	}
	shows(t, page, []string{
		`<!doctype html>`, `<html lang="en">`, `<meta name="viewport" content="width=device-width, initial-scale=1">`, `<title>unibus · the bus of founder-of-it</title>`,
		"unibus init\nunibus join " + n.URL() + "#" + n.Bus.String() + "</code>", "This bus is well", "own machine only",
		n.Bus.String(), "founder-of-it", admin.Key().String(), n.founding.Time.UTC().Format(time.RFC3339), "unibus 1.2.3", escaped,
		`href="healthz"`, `href="metrics"`,
	}, []string{
		bob.Key().String(), "someone", "secret.plans", room.ID.String(), n.watch.dir,
		"<script", "<img", "<link", "<form", "http-equiv", "@import", "url(", "\x1b", "\x00", "\u202e",
	})
	if loads := regexp.MustCompile(`<[^>]+\s(src|action|style|on[a-z]+)\s*=|https?:`).FindString(page); loads != "" {
		t.Errorf("it loads or runs something: %s", loads)
	}
	for _, method := range []string{"POST", "PUT", "DELETE", "PATCH", "OPTIONS"} {
		if answer, _ := get(t, method, "http://"+n.HTTP+"/"); answer.StatusCode != http.StatusMethodNotAllowed || answer.Header.Get("Allow") != "GET, HEAD" {
			t.Errorf("%s: %s, Allow %q", method, answer.Status, answer.Header.Get("Allow"))
		}
	}
	for _, path := range []string{"/index.html", "/page.css", "/favicon.ico", "//", "/%2e%2e/"} {
		if answer, body := get(t, "GET", "http://"+n.HTTP+path); answer.StatusCode == http.StatusOK && body != page {
			t.Errorf("%s is there as well", path)
		}
	}
}

// TestPageHeaders: a browser is told to take nothing but the page's own style, and to keep nothing.
func TestPageHeaders(t *testing.T) {
	defer http.DefaultClient.CloseIdleConnections()
	n, _ := node(t, "")
	answer, page := get(t, "GET", "http://"+n.HTTP+"/")
	_, style, _ := strings.Cut(page, "<style>")
	style, _, _ = strings.Cut(style, "</style>")
	sum := sha256.Sum256([]byte(style))
	want := map[string]string{
		"Content-Type":            "text/html; charset=utf-8",
		"Content-Security-Policy": "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
		"X-Content-Type-Options":  "nosniff",
		"Referrer-Policy":         "no-referrer",
		"Cache-Control":           "no-store",
	}
	head, body := get(t, "HEAD", "http://"+n.HTTP+"/")
	if head.StatusCode != http.StatusOK || body != "" || head.ContentLength != int64(len(page)) {
		t.Errorf("HEAD: %s, %d bytes of %d: %q", head.Status, head.ContentLength, len(page), body)
	}
	for name, value := range want {
		if answer.Header.Get(name) != value || head.Header.Get(name) != value {
			t.Errorf("%s: %q, and of HEAD %q, not %q", name, answer.Header.Get(name), head.Header.Get(name), value)
		}
	}
	if answer.Header.Get("Set-Cookie") != "" {
		t.Error("it sets a cookie")
	}
}

// TestPageUnwell: a bus that is not well says so in words, and on the page alone with 200.
func TestPageUnwell(t *testing.T) {
	defer http.DefaultClient.CloseIdleConnections()
	n, _ := node(t, "")
	n.store.Close()
	answer, page := get(t, "GET", "http://"+n.HTTP+"/")
	if health, _ := get(t, "GET", "http://"+n.HTTP+"/healthz"); answer.StatusCode != http.StatusOK || health.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("the page: %s, the health: %s", answer.Status, health.Status)
	}
	shows(t, page, []string{"<title>Not well: unibus", "Not well: nobody is let in", n.Bus.String()}, []string{"This bus is well", "closed", "sql"})
}

// TestPageFullDisk: nor does it say which disk is full.
func TestPageFullDisk(t *testing.T) {
	o := newObserved(t)
	reason := "the disk of the server is full (" + o.n.watch.dir + ")"
	o.watch.full.Store(&reason)
	shows(t, o.page(t, o.n.founding, o.n.URL()), []string{"<title>Not well: unibus", "Not well: nothing can be kept"}, []string{"This bus is well", o.n.watch.dir})
	o.watch.full.Store(nil)
	o.pass(overviewLife)
	shows(t, o.page(t, o.n.founding, o.n.URL()), []string{"This bus is well"}, []string{"Not well"})
}

// TestPageEscapes: whatever is in the log of a bus or in the address of its server is text on the page. No log has a
// founder with such a name.
func TestPageEscapes(t *testing.T) {
	_, err := StartNode(t.Context(), NodeOptions{Listen: "127.0.0.1:0", Dir: t.TempDir(), Identity: person(t, 'a'), Founder: hostile, Log: slog.New(slog.DiscardHandler)})
	if !errors.Is(err, ledger.ErrRule) {
		t.Errorf("a bus is founded by such a name: %v", err)
	}
	o := newObserved(t)
	founding := *o.n.founding
	founding.Body = &ledger.Found{Name: hostile, Key: founding.By}
	page := o.page(t, &founding, "nats://"+hostile)
	shows(t, page, []string{escaped, `\x1b[2J\x00\u202e`}, []string{"<script", "<img", "\x1b", "\x00", "\u202e"})
	if n := strings.Count(page, escaped); n != 4 { // the title, the heading, the founder, the address
		t.Errorf("it is there %d times", n)
	}
}

// TestPageAddress: the page says so of an address that leads to the bus on its own machine alone.
func TestPageAddress(t *testing.T) {
	o := newObserved(t)
	for address, local := range map[string]bool{
		"nats://127.0.0.1:4222": true, "tls://[::1]:4222": true, "nats://localhost:4222": true,
		"nats://10.0.0.1:4222": false, "tls://bus.example.org:4222": false, "nats://[2001:db8::7]:4222": false,
	} {
		page := o.page(t, o.n.founding, address)
		if strings.Contains(page, "own machine only") != local || !strings.Contains(page, "unibus join "+address+"#"+o.n.Bus.String()+"\n") && !strings.Contains(page, "unibus join "+address+"#"+o.n.Bus.String()+"</code>") {
			t.Errorf("%s: on its own machine only, %v; the page: %s", address, !local, page)
		}
	}
}

// observed is a lookout over a real bus that the test has fill its counts, with a clock and a count of what it asks
// the store.
type observed struct {
	*lookout
	n     *Node
	admin *crypto.Identity
	at    time.Time
	asked *askedStore
	logs  *logs
}

// askedStore counts how often a store is asked whether it can be relied on.
type askedStore struct {
	store.Allowlist
	times chan struct{}
}

// HasAdmin asks the store.
func (s *askedStore) HasAdmin(ctx context.Context) (bool, error) {
	s.times <- struct{}{}
	return s.Allowlist.HasAdmin(ctx)
}

// newObserved has counted nothing yet.
func newObserved(t *testing.T) *observed {
	t.Helper()
	w, _ := watched(t)
	n, admin := node(t, "")
	o := &observed{n: n, admin: admin, at: time.Now(), asked: &askedStore{n.store, make(chan struct{}, 1000)}, logs: newLogs(n.store)}
	w.streams = newStreamWatch(Options{Store: n.store, Links: n.links, Log: slog.New(slog.DiscardHandler)}, w.gauges)
	o.lookout = newLookout(t.Context(), Options{Store: n.store, Links: n.links}, w, o.logs.roster, newCrowd(time.Now))
	o.store, o.now = o.asked, func() time.Time { return o.at }
	return o
}

// pass lets time go by.
func (o *observed) pass(d time.Duration) { o.at = o.at.Add(d) }

// page is the page as it is served, of a bus with a founding entry and an address.
func (o *observed) page(t *testing.T, founding *ledger.Entry, address string) string {
	t.Helper()
	p, err := newPage(founding, address, "", o.lookout)
	if err != nil {
		t.Fatal(err)
	}
	answer := httptest.NewRecorder()
	p.ServeHTTP(answer, httptest.NewRequestWithContext(t.Context(), "GET", "/", nil))
	if answer.Code != http.StatusOK {
		t.Fatalf("it answers %d: %s", answer.Code, answer.Body)
	}
	return answer.Body.String()
}

// TestOverview: users are those who may connect, rooms those that are not archived, and connections those of users;
// what was not counted yet is not said to be none.
func TestOverview(t *testing.T) {
	o := newObserved(t)
	shows(t, o.page(t, o.n.founding, o.n.URL()), []string{`<dt>Rooms</dt><dd><span title="not counted yet">–</span>`}, nil)

	s, err := store.Load(t.Context(), o.n.store, o.n.Bus)
	if err != nil {
		t.Fatal(err)
	}
	soon, bob, carol, dave := crypto.Number(o.at.Add(time.Hour).UnixMilli()), person(t, 'b'), person(t, 'c'), person(t, 'd')
	storetest.Write(t, o.n.store, s, o.admin, &ledger.Add{Users: []ledger.NewUser{
		{Key: bob.Key(), Name: "bob", Role: ledger.RoleUser}, {Key: carol.Key(), Name: "carol", Role: ledger.RoleUser, Expires: &soon},
		{Key: dave.Key(), Name: "dave", Role: ledger.RoleUser},
	}})
	storetest.Write(t, o.n.store, s, o.admin, &ledger.Revoke{Keys: []crypto.PublicKey{dave.Key()}})
	_, room := roomOf(t, o.n, o.admin, "one", &ledger.Retain{})
	fill(t, o.n, room.ID, o.admin, 3)
	roomOf(t, o.n, o.admin, "two", nil)
	api, over := roomOf(t, o.n, o.admin, "over", &ledger.Retain{})
	storetest.Write(t, api, over, o.admin, &ledger.Archive{})
	if _, err := o.logs.state(t.Context(), o.n.Bus); err != nil { // as the service reads it on
		t.Fatal(err)
	}
	o.watch.streams.look(t.Context())
	o.crowd.cameIn(connID{"server", 1}, bob.Key().String())
	o.crowd.cameIn(connID{"server", 2}, bob.Key().String())
	for i, own := range o.n.links.Users() {
		o.crowd.cameIn(connID{"server", uint64(10 + i)}, own)
	}
	for _, step := range []struct {
		after              time.Duration
		users, rooms, conn int
	}{{overviewLife, 3, 2, 2}, {time.Hour, 2, 2, 2}} {
		o.pass(step.after)
		got := o.overview()
		if got.Users != step.users || got.Rooms != step.rooms || got.Connections != step.conn || !got.Counted || got.Condition != well {
			t.Errorf("after %v: %+v, not %+v", step.after, got, step)
		}
	}
	shows(t, o.page(t, o.n.founding, o.n.URL()), []string{`<dt>Users</dt><dd>2</dd>`, `<dt>Rooms</dt><dd>2</dd>`, `<dt>Connections</dt><dd>2</dd>`}, nil)
}

// TestOverviewIsShared: however many ask for the page, the store is asked once in overviewLife.
func TestOverviewIsShared(t *testing.T) {
	o := newObserved(t)
	p, err := newPage(o.n.founding, o.n.URL(), "", o.lookout)
	if err != nil {
		t.Fatal(err)
	}
	for looks := 1; looks <= 3; looks++ {
		ended := make(chan int)
		const many = 100
		for range many {
			go func() {
				answer := httptest.NewRecorder()
				p.ServeHTTP(answer, httptest.NewRequestWithContext(t.Context(), "GET", "/", nil))
				ended <- answer.Code
			}()
		}
		for range many {
			if code := <-ended; code != http.StatusOK {
				t.Errorf("it answers %d", code)
			}
		}
		if n := len(o.asked.times); n != looks {
			t.Errorf("after %d times %v the store was asked %d times", looks, overviewLife, n)
		}
		o.pass(overviewLife)
	}
}
