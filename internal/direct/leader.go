package direct

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/unibus/unibus/internal/store"
)

// This file asks the leader of a stream, who alone can say how far it reaches: Leader for that, One for a message that no
// replica gave.

// Info is what the leader of a stream says of it.
type Info struct {
	First    uint64 // place of the first message; after the last when there is none
	Last     uint64
	Messages uint64
	Bytes    uint64
	LastTime time.Time
	Replicas int  // that there are to be
	Whole    bool // all of them are there, and have what the leader has

	FirstTime time.Time
	Subjects  map[string]uint64 // how many messages each has; nil unless they are asked for
}

// What a leader has to show to be believed (measured over partitions: a leader that was cut off goes on
// answering, but not so).
const (
	answerWithin = time.Second     // the answer is no older than this
	activeWithin = 2 * time.Second // when a replica was last heard of
)

// streamInfo is the answer to $JS.API.STREAM.INFO.
type streamInfo struct {
	Error  *struct{ Code int } `json:"error"`
	Config struct {
		Replicas int `json:"num_replicas"`
	} `json:"config"`
	State struct {
		Messages  uint64            `json:"messages"`
		Bytes     uint64            `json:"bytes"`
		FirstSeq  uint64            `json:"first_seq"`
		LastSeq   uint64            `json:"last_seq"`
		LastTime  time.Time         `json:"last_ts"`
		FirstTime time.Time         `json:"first_ts"`
		Subjects  map[string]uint64 `json:"subjects"`
	} `json:"state"`
	Cluster *struct {
		Leader   string `json:"leader"`
		Replicas []struct {
			Current bool          `json:"current"`
			Active  time.Duration `json:"active"`
		} `json:"replicas"`
	} `json:"cluster"`
}

// Leader asks how far a stream reaches, of its leader, and believes only one that a quorum follows.
// ErrNotFound without a stream, ErrUnavailable when nobody can be believed just now.
func Leader(ctx context.Context, nc *nats.Conn, stream string) (Info, error) {
	return ask(ctx, nc, stream, nil)
}

// LeaderOf is Leader, and asks how many messages each of the subjects has that match a filter. Of very many (100,000) the
// leader gives only some.
func LeaderOf(ctx context.Context, nc *nats.Conn, stream, filter string) (Info, error) {
	return ask(ctx, nc, stream, fmt.Appendf(nil, `{"subjects_filter":%q}`, filter))
}

// ask asks for a stream's state, with a request in the server's words.
func ask(ctx context.Context, nc *nats.Conn, stream string, request []byte) (Info, error) {
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	m, err := nc.RequestWithContext(ctx, "$JS.API.STREAM.INFO."+stream, request)
	switch {
	case errors.Is(err, context.Canceled):
		return Info{}, err
	case err != nil:
		return Info{}, fmt.Errorf("%w: nobody leads the stream %s (%v)", store.ErrUnavailable, stream, err)
	}
	var s streamInfo
	if err := json.Unmarshal(m.Data, &s); err != nil {
		return Info{}, fmt.Errorf("%w: a server's answer is not understood: %v", store.ErrUnavailable, err)
	}
	switch {
	case s.Error != nil && s.Error.Code == 404:
		return Info{}, fmt.Errorf("stream %s: %w", stream, store.ErrNotFound)
	case s.Error != nil, !s.believed():
		return Info{}, fmt.Errorf("%w: no server leads the stream %s with a quorum", store.ErrUnavailable, stream)
	}
	st := s.State
	return Info{
		First: st.FirstSeq, Last: st.LastSeq, Messages: st.Messages, Bytes: st.Bytes, LastTime: st.LastTime,
		Replicas: s.Config.Replicas, Whole: s.following() >= s.Config.Replicas, FirstTime: st.FirstTime, Subjects: st.Subjects,
	}, nil
}

// believed reports whether a leader answers, with enough replicas behind it to be a quorum.
func (s *streamInfo) believed() bool {
	if s.Cluster == nil { // a server by itself
		return true
	}
	return s.Cluster.Leader != "" && s.following() >= s.Config.Replicas/2+1
}

// following counts the leader and the replicas that have what it has.
func (s *streamInfo) following() int {
	n := 1
	if s.Cluster == nil {
		return n
	}
	for _, r := range s.Cluster.Replicas {
		if r.Current && 0 < r.Active && r.Active < activeWithin {
			n++
		}
	}
	return n
}

// Message is one message, as the leader of its stream holds it.
type Message struct {
	Subject string    `json:"subject"`
	Seq     uint64    `json:"seq"`
	Data    []byte    `json:"data"`
	Time    time.Time `json:"time"`
}

// One asks the leader of a stream for the message at a place. ErrNone when it holds none there, or none that it
// can read.
func One(ctx context.Context, nc *nats.Conn, stream string, seq uint64) (Message, error) {
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	m, err := nc.RequestWithContext(ctx, "$JS.API.STREAM.MSG.GET."+stream, fmt.Appendf(nil, `{"seq":%d}`, seq))
	if err != nil {
		return Message{}, fmt.Errorf("%w: nobody leads the stream %s (%v)", store.ErrUnavailable, stream, err)
	}
	var answer struct {
		Error   *struct{ Code int } `json:"error"`
		Message Message             `json:"message"`
	}
	if err := json.Unmarshal(m.Data, &answer); err != nil {
		return Message{}, fmt.Errorf("%w: a server's answer is not understood: %v", store.ErrUnavailable, err)
	}
	switch {
	case answer.Error != nil && answer.Error.Code == 404:
		return Message{}, ErrNone
	case answer.Error != nil:
		return Message{}, fmt.Errorf("%w: no message of the stream %s is given", store.ErrUnavailable, stream)
	}
	return answer.Message, nil
}
