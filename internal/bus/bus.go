// Package bus is the edge to NATS: a peer's connections, the embedded server and its accounts, the streams
// of stored rooms, frames out and in, and the membership API carried over requests (SPEC.md §7).
//
// A peer's Conn logs in with the token of a link, for up to a hundred rooms each. It publishes frames, and a
// Feed gives what is published; no peer has a right to any stream. What a stored room holds is read by Past,
// for the service, which has that right, or for whoever works straight at a store.
//
// It moves bytes. What they mean, and whether to believe them, is for package unibus and the
// ledger; subjects and NATS headers are never a security input (SPEC.md §6).
package bus

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/store"
)

// The accounts that peers are put into: BUS for users, DOOR for who may say hello and nothing else. The streams are in
// STORE.
const (
	AccountBus   = "BUS"
	AccountDoor  = "DOOR"
	AccountStore = "STORE"
)

// APISubject is where a connection asks the service: each on a subject of its own, so that the service
// knows without looking into a request whose it is. APIFilter matches all such subjects.
func APISubject(inbox crypto.Inbox) string { return apiPrefix + inbox.String() }

// APIFilter matches the subjects of all who ask the service.
const APIFilter = apiPrefix + "*"

const apiPrefix = "unibus.api."

// AskedBy is the inbox, as text, that a subject matched by APIFilter names.
func AskedBy(subject string) string { return strings.TrimPrefix(subject, apiPrefix) }

// HelloSubject is where a connection that knows no bus yet asks which it is. HelloFilter
// matches all such subjects.
func HelloSubject(inbox crypto.Inbox) string { return "unibus.hello." + inbox.String() }

// HelloFilter matches the subjects of all who say hello.
const HelloFilter = "unibus.hello.*"

// NoticeSubject is where the service tells an endpoint which logs changed.
func NoticeSubject(endpoint crypto.PublicKey) string { return "unibus.n." + endpoint.String() }

// LiveSubject is where a room's readers get a sender's frames: published there in a room that stores
// nothing, and by the servers once they are stored in one that does.
func LiveSubject(room crypto.ID, sender crypto.PublicKey) string {
	return "unibus.r." + room.String() + "." + sender.String()
}

// StoredSubject is where a sender's frames of a stored room go.
func StoredSubject(room crypto.ID, sender crypto.PublicKey) string {
	return "unibus.s." + room.String() + "." + sender.String()
}

// LiveFilter are the subjects of all senders in a room.
func LiveFilter(room crypto.ID) string { return "unibus.r." + room.String() + ".*" }

// storedFilter are the subjects of all senders whose frames a stored room keeps.
func storedFilter(room crypto.ID) string { return "unibus.s." + room.String() + ".*" }

// StreamName is the stream of a stored room.
func StreamName(room crypto.ID) string { return roomStream + room.String() }

const roomStream = "UNIBUS_"

// OfRoom reports whether a stream holds a room's messages.
func OfRoom(stream string) bool { return strings.HasPrefix(stream, roomStream) }

// InboxPrefix begins every subject of a connection's inbox.
func InboxPrefix(inbox crypto.Inbox) string { return InboxRoot + inbox.String() }

// InboxRoot begins the subjects of all inboxes.
const InboxRoot = "_INBOX."

// senderOf is the sender that a frame's subject names by its last token; zero when that is no key.
func senderOf(subject string) crypto.PublicKey {
	key, err := crypto.ParsePublicKey(subject[strings.LastIndexByte(subject, '.')+1:])
	if err != nil {
		return crypto.PublicKey{}
	}
	return key
}

// Error codes of a server: storage resources exceeded, and those of an account or of the server itself,
// which is what an embedded server says while its disk is full (RefuseWrites).
const (
	noSpace       = 10047
	accountLimits = 10002
	serverLimits  = 10023
)

// ErrNoStream is a store.ErrUnavailable: no stream takes what is published to a stored room.
var ErrNoStream = fmt.Errorf("%w: the room's stream does not answer: it has no leader just now, or is gone", store.ErrUnavailable)

// unknownHost is an ErrUnavailable: there is no host of a name.
type unknownHost struct{ lookup *net.DNSError }

// Error says which name it is, and not who was asked.
func (h *unknownHost) Error() string {
	return fmt.Sprintf("%v: there is no host called %s", store.ErrUnavailable, h.lookup.Name)
}

// Unwrap is the kind, and what the lookup said.
func (h *unknownHost) Unwrap() []error { return []error{store.ErrUnavailable, h.lookup} }

// failure turns what NATS says into the store's errors.
func failure(err error) error {
	switch {
	case err == nil:
		return nil
	case store.IsKind(err), errors.Is(err, context.Canceled):
		return err
	case errors.Is(err, nats.ErrAuthorization), errors.Is(err, nats.ErrAuthExpired), errors.Is(err, nats.ErrPermissionViolation):
		return fmt.Errorf("%w: %v", store.ErrDenied, err)
	case errors.Is(err, jetstream.ErrStreamNotFound), errors.Is(err, jetstream.ErrConsumerNotFound):
		return fmt.Errorf("%w: %v", store.ErrNotFound, err)
	case errors.Is(err, jetstream.ErrNoStreamResponse):
		return ErrNoStream
	case errors.Is(err, nats.ErrMaxPayload):
		return fmt.Errorf("%w: larger than a server takes", store.ErrInvalid)
	case errors.Is(err, nats.ErrNoServers):
		return fmt.Errorf("%w: nobody listens there", store.ErrUnavailable)
	case errors.Is(err, nats.ErrNoResponders):
		return fmt.Errorf("%w: nobody answers there", store.ErrUnavailable)
	case errors.Is(err, nats.ErrReconnectBufExceeded): // nothing is kept for a connection that is gone
		return fmt.Errorf("%w: not connected to a server just now", store.ErrUnavailable)
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, nats.ErrTimeout):
		return fmt.Errorf("%w: no answer in time", store.ErrLate)
	}
	if name := (*net.DNSError)(nil); errors.As(err, &name) && name.IsNotFound {
		return &unknownHost{name}
	}
	var untrusted *tls.CertificateVerificationError
	if errors.As(err, &untrusted) || errors.Is(err, nats.ErrSecureConnWanted) || errors.Is(err, nats.ErrNkeysNotSupported) { // what it is decides what helps
		return fmt.Errorf("%w: %w", store.ErrUnavailable, err)
	}
	var api *jetstream.APIError
	if errors.As(err, &api) && (api.ErrorCode == accountLimits || api.ErrorCode == serverLimits) {
		return fmt.Errorf("%w: the server has no room left to store it (its disk is full, or its account at a limit)", store.ErrUnavailable)
	}
	if errors.As(err, &api) && api.ErrorCode == noSpace {
		return fmt.Errorf("%w: %v (a room reserves the most that it may hold, of max_file_store in the servers' configuration)", store.ErrUnavailable, err)
	}
	return fmt.Errorf("%w: %v", store.ErrUnavailable, err)
}
