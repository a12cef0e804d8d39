package run

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
)

// Info is what a stream's leader says of it.
type Info struct {
	State struct {
		First uint64 `json:"first_seq"`
		Last  uint64 `json:"last_seq"`
		Count uint64 `json:"messages"`
	} `json:"state"`
	Cluster struct {
		Leader   string `json:"leader"`
		Replicas []struct {
			Name    string `json:"name"`
			Current bool   `json:"current"`
		} `json:"replicas"`
	} `json:"cluster"`
}

// StreamInfo asks for what a stream's leader says of it.
func StreamInfo(ctx context.Context, nc *nats.Conn, stream string) (i Info, err error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	m, err := nc.RequestWithContext(ctx, "$JS.API.STREAM.INFO."+stream, nil)
	if err == nil {
		err = json.Unmarshal(m.Data, &i)
	}
	if err == nil && i.Cluster.Leader == "" {
		err = errors.New("nobody leads the stream")
	}
	return i, err
}

// StepDown has the leader of a stream step down, and waits until another leads, whose name it returns. next, if
// not empty, says who is to lead.
func StepDown(ctx context.Context, nc *nats.Conn, stream, next string) (now string, err error) {
	var old string
	order := []byte("{}")
	if next != "" {
		order = fmt.Appendf(nil, `{"placement":{"preferred":%q}}`, next)
	}
	err = Eventually(ctx, func() error {
		i, err := StreamInfo(ctx, nc, stream)
		if err != nil {
			return err
		}
		if old = i.Cluster.Leader; old == next {
			return nil
		}
		m, err := nc.Request("$JS.API.STREAM.LEADER.STEPDOWN."+stream, order, 5*time.Second)
		if err != nil {
			return err
		}
		var answer struct {
			Success bool `json:"success"`
		}
		if err := json.Unmarshal(m.Data, &answer); err != nil || !answer.Success {
			return fmt.Errorf("step down: %s", m.Data)
		}
		return nil
	})
	if err != nil || old == next {
		return old, err
	}
	err = Eventually(ctx, func() error {
		i, err := StreamInfo(ctx, nc, stream)
		if err == nil && next != "" && i.Cluster.Leader != next {
			err = fmt.Errorf("%s leads, not %s", i.Cluster.Leader, next)
		}
		now = i.Cluster.Leader
		return err
	})
	return now, err
}
