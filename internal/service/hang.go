package service

import (
	"context"
	"fmt"
	"time"

	"github.com/unibus/unibus/internal/bus"
	"github.com/unibus/unibus/internal/tasks"
)

// A server may hang over damage to its files before it answers anything: it then takes more and more memory, and says
// nothing. So its files are looked at when it does not start soon, and a node whose files explain that ends. All of them
// are not looked at before every start, as the store's most important are (held.go): rooms may have very much stored.

// hanging is what a node waits for before it calls a start one that hangs.
type hanging struct {
	starts time.Duration // a server that has nothing to mend has started by then
	hangs  time.Duration // and one that has, so long after damage was found that it may hang over
}

var startHangs = hanging{starts: 2 * time.Second, hangs: 8 * time.Second}

// watch has hung called when a server does not start with the files of a node, and they are damaged in a way over which
// it may hang, until stop is called.
func (h hanging) watch(ctx context.Context, o *NodeOptions, hung func(error)) (stop func()) {
	if o.External != nil {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		if tasks.Pause(ctx, h.starts) != nil {
			return
		}
		stream, err := bus.LookForHang(ctx, o.serverDir())
		switch {
		case err != nil && ctx.Err() == nil:
			o.Log.Warn("the server does not start, and its files could not be looked at", "error", err)
		case stream != "" && tasks.Pause(ctx, h.hangs) == nil:
			hung(o.hangsOver(stream))
		}
	}()
	return func() {
		cancel()
		<-done
	}
}

// hangsOver is the error of a server that hangs over the files of a stream.
func (o *NodeOptions) hangsOver(stream string) error {
	return fmt.Errorf("%w: the server does not start: a record of %s is damaged in a way that it hangs over", o.lost(), stream)
}
