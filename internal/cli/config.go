package cli

import (
	"errors"
	"fmt"
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
	v := viper.New()
	v.SetConfigFile(file)
	var parse viper.ConfigParseError
	switch err := v.ReadInConfig(); {
	case errors.Is(err, os.ErrNotExist):
		return nil, nil
	case errors.As(err, &parse):
		return nil, notYAML(file)
	case err != nil:
		return nil, usage("%s: %w", file, err)
	}
	values := map[string]sourced{}
	for _, name := range v.AllKeys() {
		if flags[name] == nil {
			return nil, hinted(usage("%s: %s: there is no such setting", file, name), hintSettings)
		}
		place := file + ": " + name
		switch value := v.Get(name).(type) {
		// A list is written as one would on the command line, with commas. A name with nothing behind it is not set.
		case nil:
		case []any:
			var list []string
			for _, one := range value {
				list = append(list, fmt.Sprint(one))
			}
			values[name] = sourced{strings.Join(list, ","), place}
		default:
			values[name] = sourced{fmt.Sprint(value), place}
		}
	}
	return values, checkOverlooked(file, flags)
}

// checkOverlooked refuses what viper passes over in silence: names that mean nothing in YAML (null), and groups with
// nothing in them.
func checkOverlooked(file string, flags map[string]*pflag.Flag) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return usage("%s: %w", file, err)
	}
	var document yaml.Node
	if err := yaml.Unmarshal(text, &document); err != nil {
		return notYAML(file)
	}
	if len(document.Content) == 0 { // an empty file
		return nil
	}
	names := document.Content[0].Content
	for i := 0; i+1 < len(names); i += 2 {
		name := strings.ToLower(names[i].Value)
		if flags[name] == nil {
			return hinted(usage("%s: %s: there is no such setting", file, names[i].Value), hintSettings)
		}
		if names[i+1].Kind == yaml.MappingNode {
			return refused(file+": "+name, flags[name], "{}", errors.New("not a value"))
		}
	}
	return nil
}

// notYAML says where a file stops being what it has to be, without the words of the library that read it, whose line
// numbers are not always right: it is the first line after all that can be read.
func notYAML(file string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return usage("%s: %w", file, err)
	}
	lines := strings.SplitAfter(string(text), "\n")
	line := len(lines)
	for ; line > 1; line-- {
		v := viper.New()
		v.SetConfigType("yaml")
		if v.ReadConfig(strings.NewReader(strings.Join(lines[:line-1], ""))) == nil {
			break
		}
	}
	return hinted(usage("%s: line %d: not NAME: VALUE", file, line), hintSettingsFile)
}
