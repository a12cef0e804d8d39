package inbox

import "container/list"

// streams are those that are followed, at most MaxStreams. When there are more, the one that went unheard longest is
// forgotten, of those that have ended before any other: one that has ended is missed by nobody.
type streams struct {
	all    map[key]*stream
	open   *list.List // of *stream, those not ended, longest unheard first
	ended  *list.List // of *stream, the others, longest unheard first
	forgot bool       // one was forgotten: of a stream that is not known it is not known whether it was
}

// listed is where a stream stands in those lists.
type listed struct {
	in    *list.List
	heard *list.Element
}

func newStreams() *streams {
	return &streams{all: map[key]*stream{}, open: list.New(), ended: list.New()}
}

// get is a stream; nil for one that is not known.
func (r *streams) get(k key) *stream { return r.all[k] }

// full reports whether one has to be forgotten for another.
func (r *streams) full() bool { return len(r.all) >= MaxStreams }

func (r *streams) add(s *stream) {
	s.listed = listed{r.open, r.open.PushBack(s)}
	r.all[s.key] = s
}

// hear takes note that a frame of a stream has come.
func (r *streams) hear(s *stream) { s.in.MoveToBack(s.heard) }

// end takes note that a stream has ended.
func (r *streams) end(s *stream) {
	r.open.Remove(s.heard)
	s.listed = listed{r.ended, r.ended.PushBack(s)}
}

// oldest is the stream to forget. From now on one counts as forgotten.
func (r *streams) oldest() *stream {
	r.forgot = true
	e := r.ended.Front()
	if e == nil {
		e = r.open.Front()
	}
	return e.Value.(*stream)
}

func (r *streams) remove(s *stream) {
	s.in.Remove(s.heard)
	delete(r.all, s.key)
}
