package cli

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/dustin/go-humanize/english"
	"github.com/spf13/cobra"

	"github.com/unibus/unibus"
)

// pubFlags are the flags of pub.
type pubFlags struct {
	headers     []string
	file        string
	whole, null bool
	count       int
	ack         string
}

func (a *app) pubCmd() *cobra.Command {
	var f pubFlags
	c := &cobra.Command{
		Use: "pub ROOM [MESSAGE]", Short: "Publish messages", Args: cobra.RangeArgs(1, 2), ValidArgsFunction: a.completeRooms,
		Long: "Publish MESSAGE, without reading standard input; or else standard input, a message a line, as it\ncomes. It ends with 0 only when everything is acknowledged; if not, it says how many were. What is not\nacknowledged is sent again for 30 seconds, or --timeout if that is longer.",
		Example: `  unibus pub ops.alerts "disk full"
  journalctl -fu app | unibus pub ops.alerts
  unibus pub ops.files --whole -H name=report.pdf < report.pdf`,
		RunE: func(cmd *cobra.Command, args []string) error {
			headers, err := f.check(len(args) == 2)
			if err != nil {
				return err
			}
			in := io.Reader(a.in)
			if f.file != "" {
				file, err := os.Open(f.file)
				if errors.Is(err, os.ErrNotExist) {
					return fmt.Errorf("--file: %w: there is no file %s", unibus.ErrNotFound, f.file)
				}
				if err != nil {
					return err
				}
				defer file.Close()
				in = file
			}
			return a.with(cmd.Context(), func(c *unibus.Client) error {
				r, err := c.Room(cmd.Context(), args[0])
				if err != nil {
					return err
				}
				if len(args) == 2 && f.count <= 1 {
					err := r.PublishOnce(cmd.Context(), []byte(args[1]), headers...)
					if errors.Is(err, unibus.ErrUnavailable) {
						a.acknowledged(0)
					}
					return err
				}
				if len(args) == 2 {
					in = &repeated{line: append([]byte(args[1]), 0), left: f.count}
					f.null = true
				}
				return a.publish(cmd.Context(), r, in, f, headers)
			}, args[0])
		},
	}
	fs := c.Flags()
	fs.StringArrayVarP(&f.headers, "header", "H", nil, "a header `KEY=VALUE` for every message; may be repeated")
	fs.StringVar(&f.file, "file", "", "read `FILE` instead of standard input")
	fs.BoolVar(&f.whole, "whole", false, "all of the input is one message")
	fs.BoolVar(&f.null, "null", false, "messages are separated by NUL instead of newline")
	fs.Var(newValue(&f.count, count), "count", "publish MESSAGE `N` times, or the first N messages of the input")
	fs.Var(newDefault(&f.ack, "all", oneOf("all", "none")), "ack", "all: wait for every acknowledgement; none: only hand over to the server")
	a.complete(c, "ack", "all", "none")
	return c
}

func (f *pubFlags) check(message bool) ([]unibus.Header, error) {
	var headers []unibus.Header
	for _, h := range f.headers {
		k, v, ok := strings.Cut(h, "=")
		if !ok || k == "" {
			return nil, usage("header %q is not KEY=VALUE", h)
		}
		headers = append(headers, unibus.Header{Key: k, Value: v})
	}
	switch {
	case f.whole && f.null:
		return nil, usage("--whole or --null, not both")
	case message && (f.whole || f.null || f.file != ""):
		return nil, usage("with a MESSAGE no input is read: leave out --file, --whole and --null")
	}
	return headers, nil
}

// repeated is an input that says the same thing several times.
type repeated struct {
	line []byte
	left int
	rest []byte
}

func (r *repeated) Read(p []byte) (int, error) {
	if len(r.rest) == 0 {
		if r.left == 0 {
			return 0, io.EOF
		}
		r.left--
		r.rest = r.line
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

// publish sends an input, and says how far it came if that is not to the end.
func (a *app) publish(ctx context.Context, r *unibus.Room, in io.Reader, f pubFlags, headers []unibus.Header) error {
	p, err := r.Publisher(ctx)
	if err != nil {
		return err
	}
	type result struct {
		sent uint64
		err  error
	}
	read := make(chan result, 1)
	go func() { // it may hang in a read for ever, which must not hold up an end
		sent, err := f.messages(in, func(body []byte) error { return p.Publish(body, headers...) })
		read <- result{sent, err}
	}()
	var got result
	select {
	case got = <-read:
	case <-ctx.Done():
		got.err = ctx.Err()
	case <-p.Done():
	}
	if f.ack == "none" && got.err == nil && ctx.Err() == nil {
		return p.Close(ctx)
	}
	// What was accepted is brought home even when interrupted, for as long as one exchange may take.
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), max(a.set.timeout, 30*time.Second))
	defer cancel()
	closed := p.Close(closing)
	if got.err == nil || errors.Is(got.err, unibus.ErrClosed) {
		got.err = closed
	}
	if got.err == nil && ctx.Err() == nil {
		return nil
	}
	a.acknowledged(p.Acked())
	if got.err == nil {
		got.err = ctx.Err()
	}
	return got.err
}

func (a *app) acknowledged(n uint64) {
	a.err.say("unibus: %s acknowledged\n", english.Plural(int(n), "message", ""))
}

// messages cuts an input into messages.
func (f *pubFlags) messages(in io.Reader, send func(body []byte) error) (n uint64, err error) {
	if f.whole {
		body, err := io.ReadAll(io.LimitReader(in, unibus.MaxMessage+1))
		if err != nil {
			return 0, err
		}
		return 1, send(body)
	}
	separator := byte('\n')
	if f.null {
		separator = 0
	}
	r := bufio.NewReaderSize(in, 256<<10)
	var long []byte
	for f.count == 0 || n < uint64(f.count) {
		part, err := r.ReadSlice(separator)
		if errors.Is(err, bufio.ErrBufferFull) {
			if long = append(long, part...); len(long) > unibus.MaxMessage {
				return n, fmt.Errorf("message %d: %w: more than %d bytes", n+1, unibus.ErrInvalid, unibus.MaxMessage)
			}
			continue
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return n, fmt.Errorf("read the input: %w", err)
		}
		ended := errors.Is(err, io.EOF)
		if len(long) > 0 {
			part = append(long, part...)
			long = long[:0]
		}
		if ended && len(part) == 0 {
			return n, nil
		}
		if err := send(bytes.TrimSuffix(part, []byte{separator})); err != nil {
			return n, err
		}
		if n++; ended {
			return n, nil
		}
	}
	return n, nil
}
