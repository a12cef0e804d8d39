package shown

import (
	"fmt"
	"slices"
	"strings"

	"github.com/fvbommel/sortorder"
)

// Few names a few of many, in order.
func Few(list []string) string {
	list = slices.SortedFunc(slices.Values(list), sortorder.NaturalCompare)
	if len(list) > 5 {
		return strings.Join(list[:5], ", ") + fmt.Sprintf(" and %d more", len(list)-5)
	}
	return strings.Join(list, ", ")
}
