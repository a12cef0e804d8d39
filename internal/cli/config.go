package cli

import (
	"bytes"
	"errors"
	"io"
	"os"
	"strings"

	"github.com/spf13/pflag"
	"github.com/spf13/viper"
	"go.yaml.in/yaml/v3"
)

// The configuration file: read whole before any command runs, so that what cannot be in it is told at once and not by
// the command that happens to need it. What the values mean is for settings.go.

// readConfig reads the configuration file, in which nothing but settings may stand. There need not be one.
func readConfig(file string, flags map[string]*pflag.Flag) (map[string]sourced, error) {
	if err := readable(file); err != nil {
		return nil, err
	}
	v := viper.NewWithOptions(viper.WithDecoderRegistry(settingsFile{file, flags}))
	v.SetConfigFile(file)
	var refusal viper.ConfigParseError
	switch err := v.ReadInConfig(); {
	case errors.Is(err, os.ErrNotExist):
		return nil, nil
	case errors.As(err, &refusal):
		return nil, refusal.Unwrap()
	case err != nil:
		return nil, usage("%s: %w", file, err)
	}
	values := map[string]sourced{}
	for _, name := range v.AllKeys() {
		// As with variables, an empty value counts as not set.
		if text := v.GetString(name); text != "" {
			values[name] = sourced{text, file, file + ": " + name}
		}
	}
	return values, nil
}

// Limits of a file of settings: it is read whole with every command.
const (
	maxSettings = 64 << 10 // bytes
	maxSought   = 300      // lines, for the place of a mistake to be looked for
)

// readable refuses what is there and no file of settings: a pipe would have every command wait.
func readable(file string) error {
	is, err := os.Stat(file)
	switch {
	case err != nil: // reading it says what
		return nil
	case is.IsDir(), is.Mode().IsRegular() && is.Size() <= maxSettings:
		return nil
	case is.Mode().IsRegular():
		return hinted(usage("%s: it has %d bytes, and settings have at most %d", file, is.Size(), maxSettings), hintSettingsFile)
	}
	return hinted(usage("%s: it is no file", file), hintSettingsFile)
}

// settingsFile reads a file of settings for viper, which by itself would pass over some of what cannot be in it, and take
// numbers for what was written: 0123 is a name as well.
type settingsFile struct {
	file  string
	flags map[string]*pflag.Flag
}

// Decoder is the one for any format: there is one.
func (s settingsFile) Decoder(string) (viper.Decoder, error) { return s, nil }

// Decode reads settings and their values, as texts.
func (s settingsFile) Decode(text []byte, values map[string]any) error {
	documents, ok := readYAML(text)
	switch {
	case !ok:
		return s.noSetting(firstUnread(text))
	case len(documents) > 1:
		return hinted(usage("%s: line %d: another document begins there, and settings are one", s.file, documents[1].Line), hintSettingsFile)
	case len(documents) == 0 || isNull(documents[0].Content[0]):
		return nil
	}
	top := documents[0].Content[0]
	if top.Kind != yaml.MappingNode {
		return s.noSetting(top.Line)
	}
	lines := map[string]int{}
	for i := 0; i+1 < len(top.Content); i += 2 {
		name, value := top.Content[i], top.Content[i+1]
		if name.Kind != yaml.ScalarNode {
			return s.noSetting(name.Line)
		}
		if line, twice := lines[name.Value]; twice {
			return hinted(usage("%s: %s: it is on line %d, and on line %d again", s.file, name.Value, line, name.Line), hintSettingsFile)
		}
		lines[name.Value] = name.Line
		text, err := s.value(name.Value, value)
		if err != nil {
			return err
		}
		values[name.Value] = text
	}
	return nil
}

// value is what a name in the file has for a value, as it is written. A list is written as one would on the command line,
// with commas.
func (s settingsFile) value(name string, value *yaml.Node) (string, error) {
	flag := s.flags[name]
	if value.Kind == yaml.MappingNode && len(value.Content) > 0 && name != "<<" {
		flag, name = nil, name+"."+value.Content[0].Value
	}
	if flag == nil {
		hint := hintSettings
		if meant := strings.ReplaceAll(strings.ToLower(name), "_", "-"); s.flags[meant] != nil {
			hint = hintNear([]string{meant})
		}
		return "", hinted(usage("%s: %s: there is no such setting", s.file, name), hint)
	}
	list := []*yaml.Node{value}
	if value.Kind == yaml.SequenceNode {
		list = value.Content
	}
	texts := make([]string, len(list))
	for i, one := range list {
		if one.Kind == yaml.AliasNode {
			one = one.Alias
		}
		if one.Kind != yaml.ScalarNode {
			return "", refused(s.file+": "+name, flag, map[yaml.Kind]string{yaml.MappingNode: "{}", yaml.SequenceNode: "[]"}[one.Kind], errors.New("not a value"))
		}
		if !isNull(one) {
			texts[i] = one.Value
		}
	}
	return strings.Join(texts, ","), nil
}

// isNull reports whether a node is nothing: a name with nothing behind it, or a file without names.
func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" }

// noSetting says where a file stops being what it has to be, if that is known, without the words of the library that read it.
func (s settingsFile) noSetting(line int) error {
	if line == 0 {
		return hinted(usage("%s: not NAME: VALUE", s.file), hintSettingsFile)
	}
	return hinted(usage("%s: line %d: not NAME: VALUE", s.file, line), hintSettingsFile)
}

// readYAML reads all documents of a file, unless it is no YAML.
func readYAML(text []byte) (documents []yaml.Node, ok bool) {
	for d := yaml.NewDecoder(bytes.NewReader(text)); ; {
		var document yaml.Node
		switch err := d.Decode(&document); {
		case errors.Is(err, io.EOF):
			return documents, true
		case err != nil:
			return nil, false
		}
		documents = append(documents, document)
	}
}

// firstUnread is the first line after all that can be read as YAML, since the lines that the library names are not always
// right; 0 where there are too many.
func firstUnread(text []byte) int {
	lines := bytes.SplitAfter(text, []byte("\n"))
	line := len(lines)
	if line > maxSought {
		return 0
	}
	for ; line > 1; line-- {
		if _, ok := readYAML(bytes.Join(lines[:line-1], nil)); ok {
			break
		}
	}
	return line
}
