package cli

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/dustin/go-humanize/english"
	"github.com/spf13/cobra"

	"github.com/unibus/unibus"
)

// pub: an input is cut into messages (messages), which are handed to a Publisher; what it has acknowledged is told when
// that is not all.

// pubCommand is pub and its flags.
type pubCommand struct {
	a *app
	pubFlags
	// done is how far it came; nil before the room was found. begun says that a publisher was given messages.
	done  *pubJSON
	begun bool
	// typed says that a person types what is sent; progress is what they see of what they do not.
	typed    bool
	progress sendingProgress
}

// pubJSON is what was published.
type pubJSON struct {
	RoomID       unibus.ID `json:"room_id"`
	Subject      string    `json:"subject"`
	Acknowledged uint64    `json:"acknowledged"` // messages, from the first on
}

// pubFlags are the flags of pub.
type pubFlags struct {
	// headers are KEY=VALUE, for every message.
	headers []string
	// file is read instead of stdin; empty: stdin.
	file string
	// whole takes all of the input for one message; null has messages end with NUL, so that they can hold newlines.
	whole, null bool
	// count is how often MESSAGE is published, or after how many messages of the input it is enough; 0: once, or all.
	count int
	// ack is all or none: whether acknowledgements are waited for.
	ack string
}

// newPub makes pub.
func newPub(a *app) *cobra.Command {
	p := &pubCommand{a: a}
	c := &cobra.Command{
		Use: "pub ROOM [MESSAGE]", Short: "Publish messages", Args: pubArgs, ValidArgsFunction: completer{a}.rooms,
		Long: "Publish MESSAGE, without reading standard input; or else standard input, a message a line, as it\ncomes, at a terminal until ^D. It ends with 0 only when everything is acknowledged; if not, it says how\nmany were, from the first on. What is not acknowledged is sent again for 30 seconds, or --timeout if that is longer.",
		Example: `  unibus pub ops.alerts "disk full"
  journalctl -fu app | unibus pub ops.alerts
  unibus pub ops.files --whole -H name=report.pdf < report.pdf`,
		RunE: func(cmd *cobra.Command, args []string) error { return p.run(cmd.Context(), args[0], args[1:]) },
	}
	fs := c.Flags()
	fs.StringArrayVarP(&p.headers, "header", "H", nil, "a header `KEY=VALUE` for every message; may be repeated")
	fs.StringVar(&p.file, "file", "", "read `FILE`; -: standard input, as without it")
	fs.BoolVar(&p.whole, "whole", false, "all of the input is one message")
	fs.BoolVar(&p.null, "null", false, "messages are separated by NUL instead of newline")
	fs.Var(newValue(&p.count, parseCount), "count", "publish MESSAGE `N` times, or the first N messages of the input")
	fs.Var(newDefault(&p.ack, "all", parseAck), "ack", "all: wait for every acknowledgement; none: only hand over to the server")
	completeValues(c, "ack", "all", "none")
	return c
}

// pubArgs takes a room and a message, which most who give more words mean to be one.
func pubArgs(cmd *cobra.Command, args []string) error {
	if len(args) > 2 {
		return hinted(usage("pub: it does not take %d arguments: a MESSAGE is one, in quotes", len(args)), hintQuoted(args[0], args[1:]))
	}
	return cobra.RangeArgs(1, 2)(cmd, args)
}

// parseAck reads whether acknowledgements are waited for. Whoever mistyped it is offered that they are.
func parseAck(text string) (string, error) {
	if text != "all" && text != "none" {
		return "", instead("all", "neither all nor none")
	}
	return text, nil
}

// run publishes a message, if there is one, or else an input.
func (p *pubCommand) run(ctx context.Context, room string, message []string) error {
	headers, err := p.check(len(message) > 0)
	if err != nil {
		return err
	}
	in, err := p.a.openInput("file", cmp.Or(p.file, "-"))
	if err != nil {
		return err
	}
	defer in.Close()
	p.typed = len(message) == 0 && (p.file == "" || p.file == "-") && p.a.interactive()
	err = p.a.with(ctx, func(c *unibus.Client) error {
		r, err := c.Room(ctx, room)
		if err != nil {
			return err
		}
		p.done = &pubJSON{RoomID: r.ID(), Subject: r.Subject()}
		if len(message) == 0 {
			return p.publish(ctx, r, in, headers)
		}
		// As an input that says the same several times, ended by NUL so that a message can hold newlines.
		if p.count > 1 {
			p.null = true
			return p.publish(ctx, r, &repeated{line: append([]byte(message[0]), 0), left: p.count}, headers)
		}
		// The common case: no publisher, one frame, one acknowledgement.
		err = r.PublishOnce(ctx, []byte(message[0]), headers...)
		if err == nil {
			p.done.Acknowledged = 1
		}
		return err
	}, room)
	return p.tell(err)
}

// tell says how far it came: in JSON always, to people when that is not to the end.
func (p *pubCommand) tell(err error) error {
	var done pubJSON
	if p.done != nil {
		done = *p.done
	}
	// Told also with --quiet: a script that tries again begins behind them. What was refused needs no number.
	if err != nil && (p.begun || errors.Is(err, unibus.ErrUnavailable)) {
		p.a.endLine()
		p.a.err.print("unibus: %s acknowledged\n", english.Plural(int(done.Acknowledged), "message", ""))
	}
	if p.done == nil {
		return err
	}
	if err == nil && (p.typed || p.progress.shown) {
		p.a.notice("%s acknowledged", english.Plural(int(done.Acknowledged), "message", ""))
	}
	return errors.Join(err, p.a.out.value(done, func() {}))
}

// check refuses flags that contradict each other, and reads the headers; message says that there is a MESSAGE.
func (f *pubFlags) check(message bool) ([]unibus.Header, error) {
	var headers []unibus.Header
	for _, h := range f.headers {
		k, v, ok := strings.Cut(h, "=")
		if !ok || k == "" {
			return nil, hinted(usage("header %q is not KEY=VALUE", h), hintHeader(h))
		}
		headers = append(headers, unibus.Header{Key: k, Value: v})
	}
	switch {
	case f.whole && f.null:
		return nil, superfluous("null", "--whole or --null, not both")
	case message && (f.whole || f.null || f.file != ""):
		return nil, superfluous("file,whole,null", "with a MESSAGE no input is read: leave out --file, --whole and --null")
	}
	return headers, nil
}

// repeated is an input that says the same thing several times.
type repeated struct {
	line []byte
	left int
	rest []byte
}

// Read gives the line as often as it is to be read.
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

// minClosing is how long pub waits at its end for acknowledgements, unless --timeout is longer: as long as a writer goes on
// sending what got none.
const minClosing = 30 * time.Second

// publish sends an input, and notes how far it came.
func (p *pubCommand) publish(ctx context.Context, r *unibus.Room, in io.Reader, headers []unibus.Header) error {
	to, err := r.Publisher(ctx)
	if err != nil {
		return err
	}
	p.begun = true
	switch {
	case p.typed:
		p.tellTyped()
	case p.a.err.terminal && !p.a.set.quiet:
		p.progress.start(p.a.err, to.Acked)
	}
	// However reading the input ended, the publisher is closed: what it has is acknowledged, or counted as not.
	err = p.send(ctx, in, to, headers)
	if p.ack == "none" && err == nil && ctx.Err() == nil {
		err = to.Close(ctx)
	} else {
		err = p.await(ctx, to, err)
	}
	p.progress.end()
	p.done.Acknowledged = to.Acked()
	return err
}

// await closes a publisher after all that it was given is acknowledged, or cannot be; sent is how reading the input ended.
func (p *pubCommand) await(ctx context.Context, to *unibus.Publisher, sent error) error {
	// What was read from the input is sent and waited for even when the command was told to end: whoever wrote it may be gone.
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), max(p.a.set.timeout, minClosing))
	defer cancel()
	closed := to.Close(closing)
	switch {
	case sent != nil && !errors.Is(sent, unibus.ErrClosed):
		return sent
	case closed != nil:
		return closed
	}
	return ctx.Err()
}

// send hands an input to a publisher, until its end, an interruption, or what ends the publisher.
func (p *pubCommand) send(ctx context.Context, in io.Reader, to *unibus.Publisher, headers []unibus.Header) error {
	read := make(chan error, 1)
	go func() { // it may hang in a read for ever, which must not hold up an end
		_, err := p.messages(in, func(body []byte) error {
			p.progress.bytes.Add(int64(len(body)))
			return to.Publish(body, headers...)
		})
		read <- err
	}()
	select {
	case err := <-read:
		return err
	case <-ctx.Done():
		return ctx.Err()
	case <-to.Done():
		return nil // Close tells why
	}
}

// messages cuts an input into messages, hands each to send, and returns how many it took.
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
	// What fits the buffer is handed on without being copied; what does not is gathered in long.
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
