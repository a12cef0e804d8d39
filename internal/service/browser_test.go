package service

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// browserWithin is how long a test in a browser may take: one that hangs is ended.
const browserWithin = 90 * time.Second

// TestPageInBrowser opens the page in Chromium, where there is one, at the widths of phones and of a desk, by day and by
// night: nothing is wider than the window, all text stands out from its ground, and nothing is loaded or complained of.
// UNIBUS_SCREENSHOTS=DIR keeps what was seen.
func TestPageInBrowser(t *testing.T) {
	b := openBrowser(t)
	n, _ := node(t, "")
	b.view(390, "light")
	b.visit("http://" + n.HTTP + "/")
	b.check(390, well)
	at := time.Now()
	for _, state := range []condition{well, full, unsure} {
		l := &lookout{now: func() time.Time { return at }}
		l.last.Store(&overview{Condition: state, Users: 10234, Rooms: 56789, Counted: true, Connections: 12345, At: at})
		p, err := newPage(n.founding, "tls://a-bus-with-a-long-name.some-department.example.org:4222", "1.24.0-rc.1-12-g0123456789ab-dirty", l)
		if err != nil {
			t.Fatal(err)
		}
		p.bus.Founder = strings.Repeat("W", 64)
		served := httptest.NewServer(p)
		defer served.Close()
		for _, width := range []int{320, 390, 1280} {
			for _, scheme := range []string{"light", "dark"} {
				t.Run(fmt.Sprintf("%s %d %s", state, width, scheme), func(t *testing.T) {
					b.t = t
					b.view(width, scheme)
					b.visit(served.URL + "/")
					b.check(width, state)
					b.screenshot(fmt.Sprintf("%s-%d-%s.png", state, width, scheme))
				})
			}
		}
	}
}

// inPage finds in the document how wide it is, whether the scheme took, and which texts are small or hard to read: by
// WCAG 2.2, 1.4.3, a text has a contrast of 4.5 to its ground, the first of its elements that has one.
const inPage = `(() => {
  const rgb = c => { const [r, g, b, a = 1] = c.match(/[\d.]+/g).map(Number); return {r, g, b, a}; };
  const part = v => { v /= 255; return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; };
  const light = c => 0.2126 * part(c.r) + 0.7152 * part(c.g) + 0.0722 * part(c.b);
  const ground = e => { for (; e; e = e.parentElement) { const c = rgb(getComputedStyle(e).backgroundColor); if (c.a === 1) return c; } return {r: 255, g: 255, b: 255}; };
  const poor = [], wide = [];
  let texts = 0;
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const e = walk.currentNode.parentElement, text = walk.currentNode.textContent.trim();
    if (!text) continue;
    texts++;
    const style = getComputedStyle(e), [a, b] = [light(rgb(style.color)), light(ground(e))];
    const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (contrast < 4.5 || parseFloat(style.fontSize) < 12) poor.push(text + ": " + contrast.toFixed(2) + ", " + style.fontSize);
  }
  for (const e of document.querySelectorAll("body *")) if (e.getBoundingClientRect().right > innerWidth + 0.5 || e.scrollWidth > e.clientWidth + 1 && e.clientWidth > 0) wide.push(e.outerHTML.slice(0, 80));
  return JSON.stringify({width: document.scrollingElement.scrollWidth, inner: innerWidth, dark: matchMedia("(prefers-color-scheme: dark)").matches,
    ground: light(ground(document.body)), state: document.querySelector(".state").className, styles: document.styleSheets.length, texts, poor, wide});
})()`

// check holds what is in the document against what has to be.
func (b *browser) check(width int, state condition) {
	b.t.Helper()
	var got struct {
		Width, Inner, Styles, Texts int
		Dark                        bool
		Ground                      float64
		State                       string
		Poor, Wide                  []string
	}
	text := b.evaluate(inPage)
	if err := json.Unmarshal([]byte(text), &got); err != nil {
		b.t.Fatalf("%v in %s", err, text)
	}
	if got.Inner != width || got.Dark != b.dark || (got.Ground < 0.2) != b.dark {
		b.t.Errorf("at %d, dark %v, the window is as %s", width, b.dark, text)
	}
	if got.Width > width || len(got.Wide) > 0 {
		b.t.Errorf("at %d the page is %d wide: %q", width, got.Width, got.Wide)
	}
	if len(got.Poor) > 0 || got.Texts < 20 {
		b.t.Errorf("of %d texts are hard to read: %q", got.Texts, got.Poor)
	}
	if got.State != "state "+string(state) || got.Styles != 1 {
		b.t.Errorf("it shows %q in %d styles", got.State, got.Styles)
	}
	if len(b.loaded) != 1 || len(b.complaints) > 0 {
		b.t.Errorf("it loaded %q, and the browser says %q", b.loaded, b.complaints)
	}
}

// browser is a tab of a headless Chromium, over the pipes of its DevTools protocol.
type browser struct {
	t       *testing.T
	out     io.Writer
	in      *bufio.Reader
	session string
	last    int
	dark    bool

	loaded, complaints []string // since the last visit
}

// openBrowser starts Chromium; without one the test is skipped.
func openBrowser(t *testing.T) *browser {
	t.Helper()
	path := ""
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if found, err := exec.LookPath(name); err == nil && path == "" {
			path = found
		}
	}
	if path == "" {
		t.Skip("no chromium, chromium-browser or google-chrome is installed: the page is not looked at")
	}
	// Not t.TempDir, which fails when something is still being written there.
	dir, err := os.MkdirTemp("", "unibus-browser")
	if err != nil {
		t.Fatal(err)
	}
	theirIn, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	out, theirOut, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), browserWithin)
	// It shows pages of this test alone, and its sandbox does not start as root, nor in most containers.
	cmd := exec.CommandContext(ctx, path, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--hide-scrollbars",
		"--remote-debugging-pipe", "--user-data-dir="+dir, "about:blank")
	cmd.ExtraFiles = []*os.File{theirIn, theirOut}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	theirIn.Close()
	theirOut.Close()
	b := &browser{t: t, out: in, in: bufio.NewReader(out)}
	t.Cleanup(func() {
		in.Close() // by which it ends
		_ = cmd.Wait()
		out.Close()
		cancel()
		_ = os.RemoveAll(dir)
	})
	b.open()
	return b
}

// open opens a tab.
func (b *browser) open() {
	b.t.Helper()
	var tab struct{ TargetID, SessionID string }
	b.call("Target.createTarget", map[string]any{"url": "about:blank"}, &tab)
	b.call("Target.attachToTarget", map[string]any{"targetId": tab.TargetID, "flatten": true}, &tab)
	b.session = tab.SessionID
	for _, domain := range []string{"Page", "Log", "Network", "Runtime"} {
		b.call(domain+".enable", nil, nil)
	}
}

// view sets how wide the window is, and which colours the reader wants.
func (b *browser) view(width int, scheme string) {
	b.t.Helper()
	b.dark = scheme == "dark"
	b.call("Emulation.setDeviceMetricsOverride", map[string]any{"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}, nil)
	b.call("Emulation.setEmulatedMedia", map[string]any{"features": []map[string]string{{"name": "prefers-color-scheme", "value": scheme}}}, nil)
}

// visit opens a page, and waits until it is there.
func (b *browser) visit(url string) {
	b.t.Helper()
	b.loaded, b.complaints = nil, nil
	b.call("Page.navigate", map[string]any{"url": url}, nil)
	for b.next().Method != "Page.loadEventFired" {
	}
}

// evaluate is the text that an expression gives in the page.
func (b *browser) evaluate(expression string) string {
	b.t.Helper()
	var got struct {
		Result           struct{ Value string }
		ExceptionDetails json.RawMessage
	}
	b.call("Runtime.evaluate", map[string]any{"expression": expression}, &got)
	if got.ExceptionDetails != nil {
		b.t.Fatalf("in the page: %s", got.ExceptionDetails)
	}
	return got.Result.Value
}

// screenshot keeps what is seen, if somebody wants to look at it.
func (b *browser) screenshot(name string) {
	b.t.Helper()
	dir := os.Getenv("UNIBUS_SCREENSHOTS")
	if dir == "" {
		return
	}
	var shot struct{ Data string }
	b.call("Page.captureScreenshot", map[string]any{"captureBeyondViewport": true}, &shot)
	png, err := base64.StdEncoding.DecodeString(shot.Data)
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, name), png, 0o600)
	}
	if err != nil {
		b.t.Fatal(err)
	}
}

// answer is what the browser says: the result of a call, or an event.
type answer struct {
	ID            int
	Method        string
	Result, Error json.RawMessage
	Params        struct {
		Request struct{ URL string }
		Entry   struct{ Text string }
	}
}

// call has the browser do something.
func (b *browser) call(method string, params, result any) {
	b.t.Helper()
	b.last++
	message, err := json.Marshal(struct {
		ID      int    `json:"id"`
		Method  string `json:"method"`
		Params  any    `json:"params,omitempty"`
		Session string `json:"sessionId,omitempty"`
	}{b.last, method, params, b.session})
	if err == nil {
		_, err = b.out.Write(append(message, 0))
	}
	if err != nil {
		b.t.Fatalf("%s: %v", method, err)
	}
	for {
		a := b.next()
		if a.ID != b.last {
			continue
		}
		if a.Error != nil {
			b.t.Fatalf("%s: %s", method, a.Error)
		}
		if result == nil {
			return
		}
		if err := json.Unmarshal(a.Result, result); err != nil {
			b.t.Fatalf("%s: %v", method, err)
		}
		return
	}
}

// next is the next thing that the browser says. What it loads and complains of is noted.
func (b *browser) next() (a answer) {
	b.t.Helper()
	text, err := b.in.ReadBytes(0)
	if err == nil {
		err = json.Unmarshal(bytes.TrimSuffix(text, []byte{0}), &a)
	}
	if err != nil {
		b.t.Fatalf("the browser: %v", err)
	}
	switch a.Method {
	case "Network.requestWillBeSent":
		b.loaded = append(b.loaded, a.Params.Request.URL)
	case "Log.entryAdded":
		b.complaints = append(b.complaints, a.Params.Entry.Text)
	}
	return a
}
