package redact

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

func TestURL(t *testing.T) {
	for in, want := range map[string]string{
		"":                                      "",
		"localhost":                             "localhost",
		"nats://127.0.0.1:4222":                 "nats://127.0.0.1:4222",
		"nats://h:1,nats://[::1]:2":             "nats://h:1,nats://[::1]:2",
		"nats://u:secret@h:1":                   "nats://h:1",
		"nats://secret@h:1":                     "nats://h:1",
		"tls://u:secret@h:1#bus?replicas=3":     "tls://h:1#bus?replicas=3",
		"nats://h:1,tls://u:secret@h:2,h:3":     "nats://h:1,tls://h:2,h:3",
		"u:secret@h:1":                          "h:1",
		"nats://u:se@c/r?e#t@h:1":               "nats://h:1",
		"nats://u:sec,ret@h:1":                  "nats://…,h:1",
		"nats://u:secret":                       "nats://…",
		"sqlite:/var/lib/unibus.db":             "sqlite:/var/lib/unibus.db",
		"sqlite:C:\\unibus.db":                  "sqlite:C:\\unibus.db",
		"context:prod":                          "context:prod",
		"nats://unibus:secret@10.0.0.1:6222/x?": "nats://10.0.0.1:6222/x?",
	} {
		if got := URL(in); got != want {
			t.Errorf("URL(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestText(t *testing.T) {
	for in, want := range map[string]string{
		"plain: a@b":                            "plain: a@b",
		"connect to nats://127.0.0.1:1: failed": "connect to nats://127.0.0.1:1: failed",
		"connect to nats://u:secret@h:1: failed, then tls://u:secret@h:2.": "connect to nats://h:1: failed, then tls://h:2.",
		`parse "nats://u:%zzsecret@h:1": invalid URL escape "%zz"`:         `parse "nats://h:1": invalid URL escape "%zz"`,
		`store "nats://u:secret@h?x=1": after the ?`:                       `store "nats://h?x=1": after the ?`,
		"(nats://u:secret@h:1,nats://u:secret@h:2)":                        "(nats://h:1,nats://h:2)",
	} {
		if got := Text(in); got != want {
			t.Errorf("Text(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestError(t *testing.T) {
	kind := errors.New("kind")
	err := Error(fmt.Errorf("nats://u:secret@h: %w", kind))
	if err.Error() != "nats://h: kind" || !errors.Is(err, kind) {
		t.Errorf("%v", err)
	}
	if Error(kind) != kind || Error(nil) != nil {
		t.Error("what holds no secret changes")
	}
}

// FuzzText: no password gets through, whatever is around it.
func FuzzText(f *testing.F) {
	f.Add("before ", "p", " after")
	f.Fuzz(func(t *testing.T, before, password, after string) {
		const secret = "SeCrEt"
		if strings.ContainsAny(password, " \t\r\n\v\f\"'<>") || strings.Contains(before+after, secret) {
			t.Skip()
		}
		if got := Text(before + " nats://u:" + secret + password + "@h " + after); strings.Contains(got, secret) {
			t.Errorf("%q shows it: %q", password, got)
		}
	})
}
