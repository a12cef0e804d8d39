// Package bus is the edge to NATS: a peer's connection, the embedded server, the streams of stored
// rooms, frames out and in, and the membership API carried over requests.
//
// It moves bytes. What they mean, and whether to believe them, is for package unibus and the
// ledger; subjects and NATS headers are never a security input (SPEC.md §6).
package bus

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/store"
)

// Subjects of the service.
const (
	APISubject   = "unibus.api"
	HelloSubject = "unibus.hello"
)

// NoticeSubject is where the service tells an endpoint which logs changed.
func NoticeSubject(endpoint crypto.PublicKey) string { return "unibus.n." + endpoint.String() }

// RoomSubject is where a sender's frames of a room go.
func RoomSubject(room crypto.ID, sender crypto.PublicKey) string {
	return "unibus.r." + room.String() + "." + sender.String()
}

func roomFilter(room crypto.ID) string { return "unibus.r." + room.String() + ".*" }

// StreamName is the stream of a stored room.
func StreamName(room crypto.ID) string { return "UNIBUS_" + room.String() }

// InboxPrefix is the inbox of a connection, which no other connection may read.
func InboxPrefix(connection crypto.PublicKey) string { return "_INBOX_" + connection.String() }

// senderOf is the last token of a frame's subject.
func senderOf(subject string) string { return subject[strings.LastIndexByte(subject, '.')+1:] }

// Error codes of a server: storage resources exceeded, and those of an account or of the server itself,
// which is what an embedded server says while its disk is full (RefuseWrites).
const (
	noSpace       = 10047
	accountLimits = 10002
	serverLimits  = 10023
)

// failure turns what NATS says into the store's errors.
func failure(err error) error {
	switch {
	case err == nil:
		return nil
	case store.IsKind(err), errors.Is(err, context.Canceled):
		return err
	case errors.Is(err, nats.ErrAuthorization), errors.Is(err, nats.ErrPermissionViolation):
		return fmt.Errorf("%w: %v", store.ErrDenied, err)
	case errors.Is(err, jetstream.ErrStreamNotFound), errors.Is(err, jetstream.ErrConsumerNotFound):
		return fmt.Errorf("%w: %v", store.ErrNotFound, err)
	case errors.Is(err, nats.ErrNoResponders):
		return fmt.Errorf("%w: nobody answers there", store.ErrUnavailable)
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, nats.ErrTimeout):
		return fmt.Errorf("%w: no answer in time", store.ErrUnavailable)
	}
	var api *jetstream.APIError
	if errors.As(err, &api) && (api.ErrorCode == accountLimits || api.ErrorCode == serverLimits) {
		return fmt.Errorf("%w: the server has no room left to store it (its disk is full, or its account at a limit)", store.ErrUnavailable)
	}
	if errors.As(err, &api) && api.ErrorCode == noSpace {
		return fmt.Errorf("%w: %v (a room reserves its --max-bytes: see max_file_store in the servers' jetstream block)", store.ErrUnavailable, err)
	}
	return fmt.Errorf("%w: %v", store.ErrUnavailable, err)
}
