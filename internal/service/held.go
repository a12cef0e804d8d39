package service

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/unibus/unibus/internal/bus"
	"github.com/unibus/unibus/internal/newfile"
	"github.com/unibus/unibus/internal/tasks"
)

// A server answers from what it keeps of the store's buckets as soon as it runs, for whatever others ask of it, and some
// damage to its files it hangs over, or makes worse by giving up what is behind. So a node looks at these files before its
// server starts, and holds them against how many keys it held: of these buckets no key is ever removed.
var growing = []string{"KV_unibus_log", "KV_unibus_rooms", "KV_unibus_users"}

// heldFile is where a data folder remembers how many keys its server held of them.
const heldFile = "store.held"

// checkHeld looks at what a server would start with; its error is of the kind that lost says.
func (o *NodeOptions) checkHeld(ctx context.Context) error {
	held, err := loadHeld(o.Dir)
	if err != nil {
		return err
	}
	for _, name := range growing {
		kept, there, err := bus.LookAtKept(ctx, o.serverDir(), name)
		if err != nil {
			return fmt.Errorf("look at %s: %w", name, err)
		}
		switch {
		case !there && (held[name] == 0 || !o.alone() || o.Store != JetStream): // it makes one, or copies what others have
		case kept.Damaged:
			return fmt.Errorf("%w: a record of %s is damaged in a way that a server would hang over, or lose what is behind it: it was not started", o.lost(), name)
		case kept.Keys < held[name]:
			return fmt.Errorf("%w: this server's disk has lost some of what it kept of the store: %s has %d keys, and had %d; if that was meant, remove %s", o.lost(), name, kept.Keys, held[name], filepath.Join(o.Dir, heldFile))
		}
	}
	return nil
}

// heldEvery is how often it is remembered how many keys a server holds.
const heldEvery = time.Minute

// heldKeeper remembers that: now and then, at the end, and, where no other server has a copy, before an entry is
// acknowledged.
type heldKeeper struct {
	dir    string
	server *bus.Server
	log    *slog.Logger
	cancel context.CancelFunc
	done   chan struct{}

	mu   sync.Mutex
	held map[string]uint64 // as it is remembered
}

// startHeldKeeper begins with what is held now.
func startHeldKeeper(ctx context.Context, dir string, server *bus.Server, log *slog.Logger) (*heldKeeper, error) {
	run, cancel := context.WithCancel(context.WithoutCancel(ctx))
	k := &heldKeeper{dir: dir, server: server, log: log, cancel: cancel, done: make(chan struct{})}
	var err error
	if k.held, err = loadHeld(dir); err == nil {
		err = k.look(ctx)
	}
	if err != nil {
		cancel()
		return nil, err
	}
	go func() {
		defer close(k.done)
		for tasks.Pause(run, heldEvery) == nil {
			if err := k.look(run); err != nil && run.Err() == nil {
				log.Warn("how much the server holds is not remembered", "error", err)
			}
		}
	}()
	return k, nil
}

// lastHeld is how long the server may take to say what it holds at the end; to write that down takes the rest of stopHeld.
const lastHeld = stopHeld * 3 / 4

// stop remembers what is held at the end.
func (k *heldKeeper) stop() {
	k.cancel()
	<-k.done
	ctx, cancel := context.WithTimeout(context.Background(), lastHeld)
	defer cancel()
	if err := k.look(ctx); err != nil {
		k.log.Warn("how much the server holds is not remembered", "error", err)
	}
}

// look remembers how many keys the server holds, by its own word.
func (k *heldKeeper) look(ctx context.Context) error {
	now, err := k.server.Keys(ctx, growing...)
	if err != nil {
		return err
	}
	return k.remember(now)
}

// logged remembers how much there is. An entry that is acknowledged after that, and who was added or which subject was
// taken by it, is missed when the server starts with files that have lost it. The server's word on these buckets is asked
// for alone: look has it give that on all of its streams.
func (k *heldKeeper) logged(ctx context.Context) error {
	now := map[string]uint64{}
	for _, bucket := range growing {
		n, err := bus.KeysOf(ctx, k.server.Links.Store, bucket)
		if err != nil {
			return fmt.Errorf("how much the store holds is not noted: %w", err)
		}
		now[bucket] = n
	}
	return k.remember(now)
}

// remember writes down how many keys are held; never fewer than before. What others have written down meanwhile, with
// more in it, need not be written again.
func (k *heldKeeper) remember(now map[string]uint64) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	next := maps.Clone(k.held)
	for name, n := range now {
		next[name] = max(n, next[name])
	}
	if maps.Equal(next, k.held) {
		return nil
	}
	body, err := json.Marshal(next)
	if err != nil {
		return err
	}
	if err := newfile.Replace(filepath.Join(k.dir, heldFile), withSum(body)); err != nil {
		return fmt.Errorf("how much the store holds is not noted: %w", err)
	}
	k.held = next
	return nil
}

// loadHeld reads what is remembered; nothing if that is damaged, which says nothing of the store.
func loadHeld(dir string) (map[string]uint64, error) {
	held := map[string]uint64{}
	text, err := os.ReadFile(filepath.Join(dir, heldFile))
	if errors.Is(err, fs.ErrNotExist) {
		return held, nil
	}
	if err != nil {
		return nil, fmt.Errorf("what is remembered of the store: %w", err)
	}
	if body, ok := withoutSum(text); ok && json.Unmarshal(body, &held) == nil {
		return held, nil
	}
	return map[string]uint64{}, nil
}
