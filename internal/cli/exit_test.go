package cli

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/unibus/unibus"
	"github.com/unibus/unibus/internal/admin"
	"github.com/unibus/unibus/internal/bus"
	"github.com/unibus/unibus/internal/errlist"
	"github.com/unibus/unibus/internal/service"
	"github.com/unibus/unibus/internal/store"
)

// TestExitCodes: each kind of error has one code, whatever is wrapped around it, and which kind wins where there are two.
func TestExitCodes(t *testing.T) {
	for _, c := range []struct {
		err  error
		code int
	}{
		{nil, exitDone},
		{syscall.EPIPE, exitDone},
		{errors.New("of no kind"), exitFailed},
		{usage("no"), exitUsage},
		{unibus.ErrInvalid, exitUsage},
		{unibus.ErrNotFound, exitNotFound},
		{unibus.ErrDenied, exitDenied},
		{os.ErrPermission, exitDenied},
		{unibus.ErrUnavailable, exitUnavailable},
		{context.DeadlineExceeded, exitUnavailable},
		{syscall.ENOSPC, exitUnavailable},
		{syscall.EROFS, exitUnavailable},
		{outputError{syscall.ENOSPC}, exitFailed},
		{outputError{syscall.EPIPE}, exitDone},
		{errors.Join(os.ErrPermission, unibus.ErrUnavailable), exitUnavailable},
		{unibus.ErrIntegrity, exitIntegrity},
		{admin.ErrArchive, exitIntegrity},
		{admin.ErrDiffers, exitIntegrity},
		{errors.Join(unibus.ErrNotFound, unibus.ErrIntegrity), exitIntegrity},
		{unibus.ErrExists, exitConflict},
		{unibus.ErrConflict, exitConflict},
	} {
		if c.err != nil {
			c.err = hinted(fmt.Errorf("what: %w: why", c.err), "")
		}
		if got := exitCode(t.Context(), c.err); got != c.code {
			t.Errorf("%v: %d instead of %d", c.err, got, c.code)
		}
	}
	interrupted, cancel := context.WithCancel(t.Context())
	cancel()
	if got := exitCode(interrupted, context.Canceled); got != exitInterrupted {
		t.Errorf("interrupted: %d", got)
	}
	if got := exitCode(interrupted, unibus.ErrIntegrity); got != exitIntegrity {
		t.Errorf("interrupted when something was altered: %d", got)
	}
}

// hintApp is an app that is about to run a command, with an identity.
func hintApp(t *testing.T) *app {
	b := newTestBus(t)
	b.must(exitDone, "admin", "init", "-q")
	a := newApp(b.temp(""), b.temp(""), b.temp(""))
	cmd, _, err := newRoot(a).Find([]string{"rooms", "ls"})
	if err == nil {
		err = a.prepare(cmd, nil)
	}
	if err != nil {
		t.Fatal(err)
	}
	cmd.SetContext(t.Context())
	return a
}

// TestHints: what helps depends on the kind of an error, and the most specific hint wins.
func TestHints(t *testing.T) {
	a := hintApp(t)
	for _, c := range []struct {
		err  error
		want string // part of it; empty for none
	}{
		{errors.New("of no kind"), ""},
		{x509.UnknownAuthorityError{}, "--tls-ca FILE"},
		{x509.HostnameError{Certificate: &x509.Certificate{}}, "by a name that its certificate is for"},
		{&tls.CertificateVerificationError{Err: errors.New("x")}, "clock is off"},
		{nats.ErrSecureConnWanted, "nats:// instead of tls://"},
		{hinted(nats.ErrSecureConnWanted, "mine"), "nats:// instead of tls://"},
		{hinted(unibus.ErrNoBus, "mine"), "mine"},
		{unibus.ErrNoBus, "unibus room create or unibus user add"},
		{unibus.ErrStateDamaged, ".db away while no unibus runs"},
		{unibus.ErrStateNotKept, "has to be yours to write"},
		{store.ErrDamagedThere, "unibus doctor"},
		{store.ErrDamaged, "unibus restore ARCHIVE"},
		{syscall.ENOSPC, "make room"},
		{outputError{syscall.ENOSPC}, ""},
		{hintOperator(unibus.ErrDenied), "--keys FILE"},
		{hintOperator(unibus.ErrUnavailable), "unibus serve"},
		{hintOperator(bus.ErrUnanswered), ""},
		{unibus.ErrIntegrity, ""},
	} {
		got := a.hint(fmt.Errorf("what: %w", c.err))
		if !strings.Contains(got, c.want) || c.want == "" && got != "" {
			t.Errorf("%v: hint %q, not %q", c.err, got, c.want)
		}
	}
	a.found.add(unibus.Notice{Kind: unibus.NoticeLost, Finding: true, Subject: "r", To: 7})
	if got := a.hint(unibus.ErrIntegrity); !strings.Contains(got, "unibus verify r --accept 7") {
		t.Errorf("after a finding: %q", got)
	}
	a.set.keys = "none.nk"
	if got := a.hint(&bus.KeysError{Path: "none.nk", Why: unibus.ErrNotFound}); !strings.HasPrefix(got, "--keys FILE: service.nk") {
		t.Errorf("keys that are not there: %q", got)
	}
	if got := a.hint(unibus.ErrNotFound); got != "" {
		t.Errorf("another file that is not there: %q", got)
	}
	a.set.identity = "none.nk"
	if got := a.hint(unibus.ErrStateDamaged); !strings.HasSuffix(got, "use another --state DIR") {
		t.Errorf("without an identity: %q", got)
	}
}

// TestFindings: up to which place a finding can be accepted, and what is said of many rooms.
func TestFindings(t *testing.T) {
	for _, c := range []struct {
		notices []unibus.Notice
		want    []string // parts of the hint; none for no hint
		not     string
	}{
		{nil, nil, ""},
		{[]unibus.Notice{{Kind: unibus.NoticeGap, Subject: "r"}}, nil, ""},
		{[]unibus.Notice{{Kind: unibus.NoticeView, Subject: "r", Finding: true}, {Kind: unibus.NoticeFork, Subject: "r", Finding: true}}, nil, ""},
		{[]unibus.Notice{{Kind: unibus.NoticeGone, Subject: "a", To: 5, Finding: true}, {Kind: unibus.NoticeLost, Subject: "r", To: 3, Finding: true}}, []string{"unibus doctor --repair", "unibus verify a r"}, "--accept"},
		{[]unibus.Notice{{Kind: unibus.NoticeRolledBack, Subject: "r", From: 5, Finding: true}}, []string{"unibus room set r --anew", "unibus verify r --accept 4"}, "rekey"},
		{[]unibus.Notice{{Kind: unibus.NoticeLost, Subject: "r", Seq: 2, To: 9, Finding: true}, {Kind: unibus.NoticeLost, Subject: "r", Seq: 1, To: 3, Finding: true}}, []string{"--accept 9"}, "--accept 3"},
		{[]unibus.Notice{{Kind: unibus.NoticeKey, Subject: "r", Seq: 4, Finding: true}}, []string{"unibus rekey r", "--accept 4"}, "--anew"},
		{[]unibus.Notice{{Kind: unibus.NoticeKey, Subject: "r", Seq: 4, By: 6, Finding: true}}, []string{"--accept 6"}, ""},
		{[]unibus.Notice{
			{Kind: unibus.NoticeLost, Subject: "a", To: 1, Finding: true}, {Kind: unibus.NoticeLost, Subject: "b c", To: 2, Finding: true},
			{Kind: unibus.NoticeLost, Subject: "-d'", To: 3, Finding: true}, {Kind: unibus.NoticeLost, Subject: "e", To: 4, Finding: true},
		}, []string{"set a --anew; ", "verify 'b c' --accept 2", `verify '-d'\''' --accept 3`, ", and so on"}, "verify e"},
	} {
		var f findings
		for _, n := range c.notices {
			f.add(n)
		}
		if len(c.want) == 0 {
			if len(f.rooms) > 0 {
				t.Errorf("%v: %v", c.notices, f.rooms)
			}
			continue
		}
		got := f.hint()
		for _, part := range c.want {
			if !strings.Contains(got, part) {
				t.Errorf("%v: %q without %q", c.notices, got, part)
			}
		}
		if c.not != "" && strings.Contains(got, c.not) {
			t.Errorf("%v: %q has %q", c.notices, got, c.not)
		}
	}
}

// TestHintNotStarted: a store that is damaged, or elsewhere, by where the bus is kept.
func TestHintNotStarted(t *testing.T) {
	beside := &bus.DialOptions{}
	for _, c := range []struct {
		o         service.NodeOptions
		keptThere bool
		err       error
		want      string
	}{
		{service.NodeOptions{}, false, store.ErrDamaged, ""},
		{service.NodeOptions{}, true, store.ErrDamaged, hintBackToServers},
		{service.NodeOptions{Store: service.JetStream}, false, store.ErrDamaged, hintBackToServers},
		{service.NodeOptions{External: beside}, true, store.ErrDamaged, "to serve the bus that is kept in the servers: --store jetstream"},
		{service.NodeOptions{}, false, store.ErrElsewhere, "to serve the bus that is kept in the servers: --store jetstream --bus ID"},
		{service.NodeOptions{Store: service.JetStream}, false, store.ErrElsewhere, ""},
		{service.NodeOptions{}, true, unibus.ErrUnavailable, ""},
		{service.NodeOptions{Store: service.JetStream}, true, service.ErrKeptOtherwise, "if it was moved there: --bus ID; to move it: serve with the other --store and --bus ID, and unibus migrate"},
		{service.NodeOptions{Store: service.JetStream, Dir: "d"}, true, service.ErrLostEnd, "restore the servers' data; or, to take what is there for all there is, remove d/bus.head and write the lists anew: unibus doctor --repair"},
		{service.NodeOptions{Store: service.JetStream, Dir: "d"}, true, store.ErrShort, "restore the servers' data; or, to take what is there for all there is, remove d/bus.head and write the lists anew: unibus doctor --repair"},
	} {
		if got := hintNotStarted(c.o, c.keptThere, c.err); got != c.want {
			t.Errorf("%+v, %v: %q instead of %q", c.o, c.err, got, c.want)
		}
	}
}

// TestPrintError: one line and one hint; each of several things that are wrong with what is kept; nothing when an interruption is all.
func TestPrintError(t *testing.T) {
	a := hintApp(t)
	told := func() string {
		text, err := os.ReadFile(a.err.raw.Name())
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	a.printError(syscall.EPIPE)
	if got := told(); got != "" {
		t.Errorf("of a closed stdout: %q", got)
	}
	a.printError(hinted(errors.New("first\nsecond nats://u:hush@h\x1b\n"), "do\x07"))
	if got := told(); got != "unibus: first; second nats://h\\x1b\nhint: do\\x07\n" && !strings.HasPrefix(got, "unibus: first; second nats://") {
		t.Errorf("%q", got)
	} else if strings.Contains(got, "hush") || strings.ContainsAny(got, "\x1b\x07") {
		t.Errorf("a password, or what a terminal acts on: %q", got)
	}
	lost := func(room string) error {
		return hinted(fmt.Errorf("room %s: %w", room, unibus.ErrIntegrity), "help "+room)
	}
	for want, err := range map[string]error{
		"unibus: room a: integrity\nhint: help a\nunibus: room b: integrity\nhint: help b\n": errlist.Join(lost("a"), errlist.Join(lost("b"))),
		"unibus: a\nunibus: b\nhint: look\n":                                                 errlist.Join(hinted(errors.New("a"), "look"), hinted(errors.New("b"), "look")),
		strings.Repeat("unibus: x\n", maxErrors) + "unibus: and 2 more\n":                    errlist.Join(slices.Repeat([]error{errors.New("x")}, maxErrors+2)...),
		"unibus: room a: integrity; unavailable\nhint: help a\n":                             errors.Join(lost("a"), unibus.ErrUnavailable),
		"unibus: it: integrity: not found\n":                                                 fmt.Errorf("it: %w: %w", unibus.ErrIntegrity, unibus.ErrNotFound),
	} {
		before := told()
		a.printError(err)
		if got := strings.TrimPrefix(told(), before); got != want {
			t.Errorf("%q, not %q", got, want)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	a.cmd.SetContext(ctx)
	before := told()
	a.printError(context.Canceled)
	if got := told(); got != before {
		t.Errorf("of an interruption: %q", got)
	}
}
