package bus

import (
	"errors"
	"strings"
	"testing"

	"github.com/unibus/unibus/internal/store"
)

// TestReason: the first reason why connections end stays, what a closed one met last is one if there is no other, and
// nothing is one when they are closed on purpose.
func TestReason(t *testing.T) {
	first, last := errors.New("first"), errors.New("last")
	for what, c := range map[string]struct {
		happens func(l *life)
		want    error
	}{
		"refused":             {func(l *life) { l.because(first); l.finish(last) }, first},
		"refused twice":       {func(l *life) { l.because(first); l.because(last); l.finish(nil) }, first},
		"closed by a server":  {func(l *life) { l.finish(last) }, last},
		"by several":          {func(l *life) { l.finish(first); l.finish(last) }, first},
		"closed":              {func(l *life) { l.close(); l.finish(last) }, nil},
		"refused, and closed": {func(l *life) { l.because(first); l.close(); l.finish(last) }, first},
	} {
		l := newLife("s")
		if l.because(nil); l.Err() != nil {
			t.Errorf("%s: %v before its end", what, l.Err())
		}
		c.happens(l)
		<-l.Done()
		if err := l.Err(); (err == nil) != (c.want == nil) || err != nil && (!errors.Is(err, store.ErrUnavailable) || err.Error() != "connection to s: "+failure(c.want).Error()) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// TestClosedByServer: a further connection that a server closes for good ends the Conn, and says why.
func TestClosedByServer(t *testing.T) {
	p := newPeered(t)
	if err := p.conn.Grant(t.Context(), numbered(1, 150)...); err != nil {
		t.Fatal(err)
	}
	further := p.conn.links.all()[1]
	if err := further.nc.Publish(strings.Repeat("a", 5000), nil); err != nil { // a longer line than a server reads
		t.Fatal(err)
	}
	<-p.conn.Done()
	if err := p.conn.Err(); !errors.Is(err, store.ErrUnavailable) || !strings.Contains(strings.ToLower(err.Error()), "maximum control line") {
		t.Errorf("ended as %v", err)
	}
}
