package service

import (
	"sync"

	"golang.org/x/time/rate"
)

// Whatever is remembered of callers has to be bounded, since anyone can be many callers. These two types are how.

// recent remembers what was used lately: at least the last n keys, at most twice as many. There are two
// generations; what is used moves to the younger one, and when that is full the older one goes.
type recent[K comparable, V any] struct {
	n int

	mu         sync.Mutex
	young, old map[K]V
}

// newRecent remembers at least the last n.
func newRecent[K comparable, V any](n int) *recent[K, V] { return &recent[K, V]{n: n} }

// get returns what is remembered of a key, which makes it younger.
func (r *recent[K, V]) get(k K) (v V, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.find(k)
}

// put remembers a value in the place of an earlier one.
func (r *recent[K, V]) put(k K, v V) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.set(k, v)
}

// getOrMake returns what is remembered, or what to remember from now on.
func (r *recent[K, V]) getOrMake(k K, fresh func() V) V {
	r.mu.Lock()
	defer r.mu.Unlock()
	v, ok := r.find(k)
	if !ok {
		v = fresh()
		r.set(k, v)
	}
	return v
}

// find is get for whoever holds the lock.
func (r *recent[K, V]) find(k K) (V, bool) {
	if v, ok := r.young[k]; ok {
		return v, true
	}
	v, ok := r.old[k]
	if ok {
		r.set(k, v)
	}
	return v, ok
}

// set is put for whoever holds the lock; it is where a generation ends.
func (r *recent[K, V]) set(k K, v V) {
	if _, known := r.young[k]; !known && len(r.young) >= r.n || r.young == nil {
		r.young, r.old = make(map[K]V), r.young
	}
	r.young[k] = v
}

// rates gives each key a limit of its own, and forgets those that were not asked for lately.
type rates[K comparable] struct {
	limiters *recent[K, *rate.Limiter]
	each     rate.Limit // in a second
	burst    int
}

// newRates gives each of the last n keys so many in a second, and a burst at first.
func newRates[K comparable](n int, each rate.Limit, burst int) *rates[K] {
	return &rates[K]{newRecent[K, *rate.Limiter](n), each, burst}
}

// of is the limit of a key, which is a full one for a key that is new or forgotten.
func (r *rates[K]) of(k K) *rate.Limiter {
	return r.limiters.getOrMake(k, func() *rate.Limiter { return rate.NewLimiter(r.each, r.burst) })
}
