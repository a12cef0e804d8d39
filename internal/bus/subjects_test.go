package bus

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/store"
)

// TestSubjects: a subject names whom it is of, and nobody else.
func TestSubjects(t *testing.T) {
	room, sender := crypto.ID{1}, identity(t, 1).Key()
	for subject, want := range map[string]crypto.PublicKey{
		LiveSubject(room, sender): sender, StoredSubject(room, sender): sender, LiveFilter(room): {}, "": {}, "nobody": {},
	} {
		if got := senderOf(subject); got != want {
			t.Errorf("%s is of %v", subject, got)
		}
	}
	if inbox := newInbox(); AskedBy(APISubject(inbox)) != inbox.String() || inbox == newInbox() {
		t.Errorf("an inbox: %v", inbox)
	}
}

// TestFailure: what NATS says is one of the store's kinds, with words for what helps where there are any.
func TestFailure(t *testing.T) {
	api := func(code jetstream.ErrorCode) error {
		return &jetstream.APIError{ErrorCode: code, Description: "described"}
	}
	for _, c := range []struct {
		err, kind error
		text      string
	}{
		{nil, nil, ""},
		{fmt.Errorf("%w: x", store.ErrConflict), store.ErrConflict, "x"},
		{context.Canceled, context.Canceled, ""},
		{nats.ErrAuthorization, store.ErrDenied, "authorization"},
		{nats.ErrAuthExpired, store.ErrDenied, "expired"},
		{fmt.Errorf("%w: to s", nats.ErrPermissionViolation), store.ErrDenied, "to s"},
		{jetstream.ErrStreamNotFound, store.ErrNotFound, "stream"},
		{jetstream.ErrConsumerNotFound, store.ErrNotFound, "consumer"},
		{jetstream.ErrNoStreamResponse, ErrNoStream, "is gone"},
		{nats.ErrMaxPayload, store.ErrInvalid, "larger than a server takes"},
		{nats.ErrNoResponders, store.ErrUnavailable, "nobody answers there"},
		{nats.ErrReconnectBufExceeded, store.ErrUnavailable, "not connected to a server just now"},
		{&net.DNSError{Name: "foo", Server: "10.0.0.1:53", IsNotFound: true}, store.ErrUnavailable, "there is no host called foo"},
		{&net.DNSError{Name: "foo", Err: "server misbehaving"}, store.ErrUnavailable, "server misbehaving"},
		{context.DeadlineExceeded, store.ErrUnavailable, "no answer in time"},
		{nats.ErrTimeout, store.ErrUnavailable, "no answer in time"},
		{nats.ErrSecureConnWanted, nats.ErrSecureConnWanted, ""},
		{api(accountLimits), store.ErrUnavailable, "no room left"},
		{api(serverLimits), store.ErrUnavailable, "no room left"},
		{api(noSpace), store.ErrUnavailable, "max_file_store"},
		{api(1), store.ErrUnavailable, "described"},
		{errors.New("whatever"), store.ErrUnavailable, "whatever"},
	} {
		got := failure(c.err)
		if !errors.Is(got, c.kind) || got != nil && !strings.Contains(got.Error(), c.text) {
			t.Errorf("%v is %v", c.err, got)
		}
	}
	untrusted := &tls.CertificateVerificationError{Err: errors.New("unknown authority")}
	if got := failure(untrusted); !errors.Is(got, store.ErrUnavailable) || !errors.As(got, &untrusted) {
		t.Errorf("%v", got)
	}
}
