package remedy

import "strings"

// several are errors, each of which is told by itself, with what helps with it.
type several []error

// Error is the text of each, a line each.
func (s several) Error() string {
	lines := make([]string, len(s))
	for i, err := range s {
		lines[i] = err.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap lets them be of the kinds that any of them is of.
func (s several) Unwrap() []error { return s }

// Together returns errors that have to be told one by one as one: nil when all are, and the only one that is not as it is.
func Together(errs ...error) error {
	var all several
	for _, err := range errs {
		all = append(all, Apart(err)...)
	}
	switch len(all) {
	case 0:
		return nil
	case 1:
		return all[0]
	}
	return all
}

// Apart returns what Together has put together; any other error by itself, and none for nil.
func Apart(err error) []error {
	if err == nil {
		return nil
	}
	if all, ok := err.(several); ok {
		return all
	}
	return []error{err}
}
