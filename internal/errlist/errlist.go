// Package errlist joins errors that are told one by one, as of several rooms that are lost, each with what helps, and splits them
// again. What errors.Join joins is one error: one that is of several kinds.
package errlist

import "strings"

// several are errors, each of which is told by itself, with what helps with it.
type several []error

// Error is the text of each, one behind the other, for where there is one line for all.
func (s several) Error() string {
	texts := make([]string, len(s))
	for i, err := range s {
		texts[i] = err.Error()
	}
	return strings.Join(texts, "; ")
}

// Unwrap lets them be of the kinds that any of them is of.
func (s several) Unwrap() []error { return s }

// Join returns errors as one: nil when all of them are, and the only one that is not as it is. What Join has joined it takes
// apart first.
func Join(errs ...error) error {
	var all several
	for _, err := range errs {
		all = append(all, Split(err)...)
	}
	switch len(all) {
	case 0:
		return nil
	case 1:
		return all[0]
	}
	return all
}

// Split returns what Join has joined; any other error by itself, and none for nil.
func Split(err error) []error {
	if err == nil {
		return nil
	}
	if all, ok := err.(several); ok {
		return all
	}
	return []error{err}
}
