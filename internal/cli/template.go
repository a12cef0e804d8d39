package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"text/template"
	"time"

	"github.com/unibus/unibus"
)

// sub --template: how a message is written is said by whoever reads it, with the fields that docs/json.md has.

// parseTemplate reads a Go template over the fields of a message.
func parseTemplate(text string) (*template.Template, error) {
	t, err := template.New("").Funcs(template.FuncMap{"json": inJSON, "upper": strings.ToUpper, "lower": strings.ToLower}).Option("missingkey=error").Parse(text)
	if err != nil {
		return nil, errors.New(strings.TrimPrefix(err.Error(), "template: :"))
	}
	// A field that there is not is told at once, and not when a message comes.
	fields := templateFields(&unibus.Message{})
	headers := map[string]headerValues{}
	fields["headers"] = headers
	for {
		err := t.Execute(new(strings.Builder), fields)
		if err == nil {
			return t.Option("missingkey=zero"), nil // as headers may, which are there in some messages
		}
		field := missingField(err)
		if _, looked := headers[field]; field != "" && !looked && len(headers) < maxTemplateHeaders {
			headers[field] = nil // a header may have any name
			continue
		}
		if field != "" {
			names := slices.Sorted(maps.Keys(fields))
			return nil, insteadError{fmt.Errorf("a message has no field %s; it has %s", field, strings.Join(names, ", ")), likeTemplate(text, field, names), false}
		}
		return nil, errors.New("not a template over the fields of a message: {{.time}} {{.name}}: {{.body}}; docs/json.md has them all")
	}
}

// maxTemplateHeaders is how many headers a template names at most.
const maxTemplateHeaders = 64

// headerValues are those of one header, as a template writes them: of several, one behind the other.
type headerValues []string

// String is the values with commas between.
func (v headerValues) String() string { return strings.Join(v, ",") }

// valuesOf are the headers of a message by their names.
func valuesOf(headers map[string][]string) map[string]headerValues {
	values := make(map[string]headerValues, len(headers))
	for name, list := range headers {
		values[name] = list
	}
	return values
}

// missingField is the name of a field that a template has and a message has not; empty if something else is wrong.
func missingField(err error) string {
	_, after, _ := strings.Cut(err.Error(), `map has no entry for key "`)
	field, _, _ := strings.Cut(after, `"`)
	return field
}

// likeTemplate is a template with the field that may have been meant by one that is not there, or else an example.
func likeTemplate(text, field string, names []string) string {
	if near := nearest(field, names); mistaken(field, near) {
		return strings.ReplaceAll(text, "."+field, "."+near)
	}
	return "{{.time}} {{.name}}: {{.body}}"
}

// inJSON writes a value as JSON, for templates that write that.
func inJSON(v any) (string, error) {
	text, err := json.Marshal(v)
	return string(text), err
}

// templateFields are those of a message whose body is in one piece. All are there: what JSON leaves out is empty.
func templateFields(m *unibus.Message) map[string]any {
	j := newMessageJSON(m)
	return map[string]any{
		"id": j.ID, "room_id": j.Room, "subject": j.Subject, "sender": j.Sender, "name": j.Name, "time": j.Time.Format(time.RFC3339Nano), "epoch": j.Epoch,
		"stream": j.Stream, "counter": j.Counter, "headers": valuesOf(j.Headers), "body": string(m.Body), "former": j.Former, "late": j.Late, "unsure": j.Unsure,
	}
}

// messageTemplate writes a message as a template says, with its end. On a terminal nothing of it acts.
func (o *output) messageTemplate(m *unibus.Message, f messageFlags) error {
	var b strings.Builder
	if err := f.template.Execute(&b, templateFields(m)); err != nil {
		return usage("--template: %w", err)
	}
	text := b.String()
	if o.terminal && !f.raw {
		text = visibleLines(text)
	}
	_, _ = o.WriteString(text) // a failed write is kept by the buffer, and returned below
	return o.WriteByte(f.separator())
}
