package service

import (
	"bytes"
	"strings"
	"testing"

	"github.com/unibus/unibus/internal/crypto"
)

// TestAskedOutOfBounds: what docs/openapi.yaml does not allow in a request is refused, in words that name it and no Go type.
func TestAskedOutOfBounds(t *testing.T) {
	f := newFront(t)
	room, key := f.room.ID.String(), f.admin.Key().String()
	stream, keys := "/rooms/"+room+"?stream=", "/rooms/"+room+"/keys"
	commit := `"` + crypto.RoomKey{1}.Commit(1).String() + `"`
	f.refuses(map[string]refusal{
		"users beyond the most":      {f.admin, "GET", "/users?limit=1001", nil, 400, "limit is not a number from 0 to 1000"},
		"a seq that is too large":    {f.admin, "GET", "/logs/" + room + "?after=9223372036854775808", nil, 400, "after is not a number"},
		"no stream":                  {f.admin, "GET", stream + "2", nil, 400, "stream is 0 or 1"},
		"nor by subject":             {f.admin, "GET", "/rooms?subject=theirs&stream=yes", nil, 400, "stream is 0 or 1"},
		"the streams of all rooms":   {f.admin, "GET", "/rooms?stream=1", nil, 400, "stream is for one room"},
		"one room and those after":   {f.admin, "GET", "/rooms?subject=theirs&after=" + room, nil, 400, "subject, after: one of them"},
		"frames from two places":     {f.admin, "GET", "/rooms/" + room + "/frames?after=0&last=1", nil, 400, "after, since, last: one of them"},
		"a parameter twice":          {f.admin, "GET", "/users?limit=1&limit=2", nil, 400, "limit is given twice"},
		"no query":                   {f.admin, "GET", "/users?limit=%zz", nil, 400, "the query is not"},
		"nor with another separator": {f.admin, "GET", "/users?limit=1;after=", nil, 400, "the query is not"},
		"spaces around an id":        {f.admin, "GET", "/rooms/%20" + room, nil, 400, "spaces"},
		"or a key":                   {f.admin, "GET", "/users/" + key + "%0A", nil, 400, "spaces"},
		"heads of nothing":           {f.admin, "POST", "/heads", `{}`, 400, "it lacks logs"},
		"nor of null":                {f.admin, "POST", "/heads", `{"logs":null}`, 400, "it lacks logs"},
		"a field in other case":      {f.admin, "POST", "/heads", `{"LOGS":[]}`, 400, "it lacks logs"},
		"nor one that folds to it":   {f.admin, "POST", "/heads", `{"log\u017f":[]}`, 400, "it lacks logs"},
		"a field twice":              {f.admin, "POST", "/heads", `{"logs":[],"logs":["` + room + `"]}`, 400, "logs is given twice"},
		"nor a long one":             {f.admin, "POST", "/heads", `{"` + strings.Repeat("<", 1000) + `":1,"` + strings.Repeat("<", 1000) + `":1}`, 400, "<…"},
		"too many values":            {f.admin, "POST", "/heads", `{"logs":[` + strings.Repeat("1,", maxCommas+1) + `1]}`, 413, "65536 values"},
		"more than an object":        {f.admin, "POST", "/heads", `{"logs":[]} {}`, 400, "not as expected"},
		"no body":                    {f.admin, "POST", "/heads", `null`, 400, "it lacks logs"},
		"the head of null":           {f.admin, "POST", "/heads", `{"logs":[null]}`, 400, "it lacks an id in logs"},
		"a body of another kind":     {f.admin, "POST", "/heads", `[]`, 400, "expected: it is no object, but array"},
		"a field of another kind":    {f.admin, "POST", "/heads", `{"logs":"x"}`, 400, "expected: logs cannot be string"},
		"cards of nobody":            {f.admin, "POST", "/cards/query", `{}`, 400, "it lacks endpoints"},
		"nor those of null":          {f.admin, "POST", "/cards/query", `{"endpoints":[null]}`, 400, "it lacks a key in endpoints"},
		"no cards":                   {f.admin, "POST", "/cards", `{}`, 400, "it lacks cards"},
		"a card of nobody":           {f.bob, "POST", "/cards", `{"cards":[{"card":"AAAA"}]}`, 400, "it lacks an endpoint"},
		"nor a card of none":         {f.bob, "POST", "/cards", `{"cards":[{"endpoint":"` + f.bob.Key().String() + `"}]}`, 400, "it lacks an endpoint or a card"},
		"no card":                    {f.admin, "PUT", "/cards/" + key, `{}`, 400, "it lacks card"},
		"no entry":                   {f.admin, "POST", "/logs", `{}`, 400, "it lacks entry"},
		"nor the next one":           {f.admin, "POST", "/logs/" + room, `{}`, 400, "it lacks entry"},
		"copies of no epoch":         {f.admin, "PUT", keys, `{"commit":` + commit + `,"keys":[]}`, 400, "it lacks epoch"},
		"nor of epoch 0":             {f.admin, "PUT", keys, `{"epoch":0,"commit":` + commit + `,"keys":[]}`, 400, "epochs are numbers from 1"},
		"of no key":                  {f.admin, "PUT", keys, `{"epoch":1,"keys":[]}`, 400, "it lacks commit"},
		"no copies":                  {f.admin, "PUT", keys, `{"epoch":1,"commit":` + commit + `}`, 400, "it lacks keys"},
		"a copy for nobody":          {f.admin, "PUT", keys, `{"epoch":1,"commit":` + commit + `,"keys":[{"sealed":""}]}`, 400, "it lacks an endpoint"},
	})
}

// TestAskedOtherwise: ids and keys are taken in either case, a parameter without a value counts as not given, and what is not
// described is passed over; the answer is the same.
func TestAskedOtherwise(t *testing.T) {
	f := newFront(t)
	room, key := f.room.ID.String(), f.admin.Key().String()
	for path, same := range map[string]string{
		"/rooms/" + strings.ToUpper(room) + "?stream=0":               "/rooms/" + room + "?stream=0",
		"/logs/" + strings.ToUpper(room[:9]) + room[9:]:               "/logs/" + room,
		"/users/" + strings.ToLower(key):                              "/users/" + key,
		"/users?after=" + strings.ToLower(key):                        "/users?after=" + key,
		"/users?after=&limit=":                                        "/users",
		"/users?nothing=1":                                            "/users",
		"/users?limit=1000":                                           "/users", // the most there may be
		"/rooms?subject=theirs&stream=0&after=":                       "/rooms?subject=theirs&stream=0",
		"/rooms?subject=&after=" + strings.ToUpper(room) + "&stream=": "/rooms?after=" + room,
	} {
		got, want := f.ask(f.admin, "GET", path, nil), f.ask(f.admin, "GET", same, nil)
		if want.Code != 200 || got.Code != 200 || !bytes.Equal(got.Body.Bytes(), want.Body.Bytes()) {
			t.Errorf("%s: %d %s, not as %s: %d %s", path, got.Code, got.Body, same, want.Code, want.Body)
		}
	}
	for _, body := range []string{`{"logs":["` + strings.ToUpper(room) + `"]}`, `{"logs":["` + room + `"],"nothing":1}`, `{"logs":["` + room + `"],"LOGS":[],"log\u017f":[]}`} {
		if w := f.ask(f.admin, "POST", "/heads", body); w.Code != 200 || !strings.Contains(w.Body.String(), room) {
			t.Errorf("heads of %s: %d %s", body, w.Code, w.Body)
		}
	}
}

// TestBearer: the scheme of a token is written in any case (RFC 9110), and who has no token is told the scheme.
func TestBearer(t *testing.T) {
	for _, text := range []string{"Bearer x", "bearer x", "BEARER  x"} {
		if token, err := bearerOf(text); err != nil || token != "x" {
			t.Errorf("%s: %q, %v", text, token, err)
		}
	}
	for _, text := range []string{"", "Bearer", "Bearer ", "Basic x", "x", "Bearerx"} {
		if token, err := bearerOf(text); err == nil {
			t.Errorf("%q is taken for %q", text, token)
		}
	}
	f := newFront(t)
	for by, want := range map[*crypto.Identity]string{nil: challenge, f.mallory: "", f.bob: ""} {
		if w := f.ask(by, "GET", "/bus", nil); w.Header().Get("WWW-Authenticate") != want {
			t.Errorf("%d with %q, not %q", w.Code, w.Header().Get("WWW-Authenticate"), want)
		}
	}
}
