// Package dev holds the feature flags: what is built in but not yet the default. The file
// feature_flags.json is part of the binary; UNIBUS_FEATURES overrides it for one run.
package dev

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
)

//go:embed feature_flags.json
var file []byte

// Decentralized picks the default store of serve: off SQLite, on JetStream.
const Decentralized = "decentralized"

// Flag is one feature flag as the file has it.
type Flag struct {
	Default     bool   `json:"default"`
	Description string `json:"description"`
	Owner       string `json:"owner"`
	Added       string `json:"added"`
	RemovedBy   string `json:"removed_by"` // what has to happen before the flag goes
}

// Flags reads the file.
func Flags() (map[string]Flag, error) {
	var flags map[string]Flag
	if err := json.Unmarshal(file, &flags); err != nil {
		return nil, fmt.Errorf("feature flags: %w", err)
	}
	return flags, nil
}

// Features says which features are on, given a comma-separated list of those to switch on, or, with
// a minus before them, off. A name that is no flag's is an error.
func Features(override string) (map[string]bool, error) {
	flags, err := Flags()
	if err != nil {
		return nil, err
	}
	on := map[string]bool{}
	for name, f := range flags {
		on[name] = f.Default
	}
	for name := range strings.SplitSeq(override, ",") {
		if name = strings.TrimSpace(name); name == "" {
			continue
		}
		name, off := strings.CutPrefix(name, "-")
		if _, known := flags[name]; !known {
			return nil, fmt.Errorf("there is no feature %q; there are: %s", name, strings.Join(slices.Sorted(maps.Keys(flags)), ", "))
		}
		on[name] = !off
	}
	return on, nil
}
