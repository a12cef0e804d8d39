package dev

import (
	"testing"
	"time"
)

func TestFlags(t *testing.T) {
	flags, err := Flags()
	if err != nil {
		t.Fatal(err)
	}
	for name, f := range flags {
		_, err := time.Parse(time.DateOnly, f.Added)
		if err != nil || f.Owner == "" || f.Description == "" || f.RemovedBy == "" {
			t.Errorf("%s does not say whose it is, since when, and what removes it: %+v (%v)", name, f, err)
		}
	}
	if _, ok := flags[Decentralized]; !ok {
		t.Error("decentralized is missing")
	}
}

func TestFeatures(t *testing.T) {
	for override, want := range map[string]bool{"": false, "decentralized": true, " decentralized ,": true, "-decentralized": false, "decentralized,-decentralized": false} {
		on, err := Features(override)
		if err != nil || on[Decentralized] != want {
			t.Errorf("%q: %v, %v", override, on, err)
		}
	}
	if _, err := Features("decentralised"); err == nil {
		t.Error("a typo passes")
	}
}
