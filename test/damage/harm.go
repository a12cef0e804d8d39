package main

import (
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"

	"github.com/unibus/unibus/internal/bus"
	"github.com/unibus/unibus/internal/crypto"
)

// harm is one thing that is done to the data of a server that is down.
type harm struct {
	kind string // for the summary
	what string
	do   func(data string) error
}

// harms lists them for what a server left.
func harms(data string, id crypto.ID, flips int, r *rand.Rand) (out []harm, err error) {
	const jetstream = "jetstream"
	stream := filepath.Join(jetstream, "jetstream", "STORE", "streams", bus.StreamName(id))
	blocks, sizes, err := blocksOf(data, stream)
	if err != nil {
		return nil, err
	}
	total := int64(0)
	for _, n := range sizes {
		total += n
	}
	for range flips {
		at, bit := r.Int64N(total), byte(1)<<r.IntN(8)
		i := 0
		for ; at >= sizes[i]; i++ {
			at -= sizes[i]
		}
		out = append(out, harm{"flip", fmt.Sprintf("a bit of byte %d of %s flipped", at, filepath.Base(blocks[i])), flip(blocks[i], at, bit)})
	}
	for i, b := range blocks {
		at := r.Int64N(sizes[i])
		out = append(out, harm{"block", filepath.Base(b) + " removed", remove(b)},
			harm{"cut", fmt.Sprintf("%s cut off at %d of %d", filepath.Base(b), at, sizes[i]), cut(b, at)})
	}
	err = filepath.WalkDir(filepath.Join(data, jetstream), func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(data, path)
		if err != nil {
			return err
		}
		short := strings.ReplaceAll(rel, bus.StreamName(id), "STREAM")
		switch {
		case d.IsDir():
			out = append(out, harm{"folder", short + " removed", remove(rel)})
		case strings.HasPrefix(rel, stream) && filepath.Ext(rel) != ".blk":
			out = append(out, harm{"file", short + " removed", remove(rel)}, harm{"file", "a bit in the middle of " + short + " flipped", middle(rel)})
		}
		return nil
	})
	return out, err
}

func blocksOf(data, stream string) (blocks []string, sizes []int64, err error) {
	for n := 1; ; n++ {
		rel := filepath.Join(stream, "msgs", fmt.Sprintf("%d.blk", n))
		info, err := os.Stat(filepath.Join(data, rel))
		if err != nil {
			break
		}
		blocks, sizes = append(blocks, rel), append(sizes, info.Size())
	}
	if len(blocks) < 2 {
		return nil, nil, fmt.Errorf("%d blocks of the room in %s", len(blocks), stream)
	}
	return blocks, sizes, nil
}

func remove(rel string) func(string) error {
	return func(data string) error { return os.RemoveAll(filepath.Join(data, rel)) }
}

func cut(rel string, at int64) func(string) error {
	return func(data string) error { return os.Truncate(filepath.Join(data, rel), at) }
}

func middle(rel string) func(string) error {
	return func(data string) error {
		info, err := os.Stat(filepath.Join(data, rel))
		if err != nil || info.Size() == 0 {
			return err
		}
		return flip(rel, info.Size()/2, 1)(data)
	}
}

func flip(rel string, at int64, bits byte) func(string) error {
	return func(data string) error {
		f, err := os.OpenFile(filepath.Join(data, rel), os.O_RDWR, 0)
		if err != nil {
			return err
		}
		defer f.Close()
		var b [1]byte
		if _, err := f.ReadAt(b[:], at); err != nil {
			return err
		}
		b[0] ^= bits
		_, err = f.WriteAt(b[:], at)
		return err
	}
}
