package service

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/unibus/unibus/internal/ledger"
)

// unused are metrics that neither the dashboard nor an alert shows, and why.
var unused = map[string]string{}

// TestGrafana: the dashboard and the alerts of docs/grafana ask for metrics and labels that a running service has, and
// for each that it has of its own.
func TestGrafana(t *testing.T) {
	defer http.DefaultClient.CloseIdleConnections()
	m := exposed(t)
	asks := append(panels(t), alerts(t)...)
	used := map[string]bool{}
	for _, a := range asks {
		m.check(t, a, used)
	}
	for name, family := range m.families {
		own := strings.HasPrefix(name, "unibus_")
		asked := slices.ContainsFunc(family, func(series string) bool { return used[series] })
		if own && !asked && unused[name] == "" {
			t.Errorf("%s is on no panel and in no alert of docs/grafana", name)
		}
		if asked && unused[name] != "" {
			t.Errorf("%s is used, and said not to be", name)
		}
	}
	for name := range unused {
		if m.families[name] == nil {
			t.Errorf("there is no %s", name)
		}
	}
}

// TestGrafanaFinds: a metric, a label or a value that no service has is found, wherever it stands.
func TestGrafanaFinds(t *testing.T) {
	defer http.DefaultClient.CloseIdleConnections()
	m := exposed(t)
	for expr, want := range map[string]string{
		`max(unibus_users{job=~"$job"})`:                                    "",
		`sum by (outcome) (rate(unibus_logins_total[5m])) > 0.5`:            "",
		`unibus_dropped_total{what=~"busy|hello"}`:                          "",
		`max(unibus_people)`:                                                "unibus_people",
		`rate(unibus_api_request_seconds[5m])`:                              "unibus_api_request_seconds",
		`unibus_logins_total{result="denied"}`:                              "result",
		`unibus_logins_total{outcome="refused"}`:                            "refused",
		`unibus_dropped_total{what=~"busy|lazy"}`:                           "lazy",
		`sum by (verb) (rate(unibus_api_requests_total[$__rate_interval]))`: "verb",
		`averages(unibus_users)`:                                            "averages",
	} {
		if got := m.lacks(expr, map[string]bool{}); strings.Join(got, " ") != want {
			t.Errorf("%s: %q, not %q", expr, got, want)
		}
	}
}

// query is an expression of PromQL, and where it stands.
type query struct{ where, expr string }

// metricsPage is what /metrics has: metrics by name, with the values that each of their labels has, and the names that
// belong to one of a kind, such as the buckets of a histogram.
type metricsPage struct {
	labels   map[string]map[string][]string
	families map[string][]string
}

// sample is a line of /metrics.
var sample = regexp.MustCompile(`^([a-z_0-9]+)(?:\{(.*)\})? `)

// label is a label of a line, or what an expression says of one.
var label = regexp.MustCompile(`([a-z_]+)\s*(=~|!=|!~|=)\s*"([^"]*)"`)

// exposed reads /metrics of a service that has served.
func exposed(t *testing.T) *metricsPage {
	t.Helper()
	n, admin := node(t, "")
	roomOf(t, n, admin, "served", &ledger.Retain{})
	n.watch.traffic.ask(t.Context()) // as it is asked now and then
	answer, text := get(t, "GET", "http://"+n.HTTP+"/metrics")
	if answer.StatusCode != http.StatusOK {
		t.Fatalf("/metrics answers %s", answer.Status)
	}
	m := &metricsPage{labels: map[string]map[string][]string{"up": {}}, families: map[string][]string{}}
	family := ""
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(line, "# TYPE "); ok {
			family, _, _ = strings.Cut(rest, " ")
			continue
		}
		found := sample.FindStringSubmatch(line)
		if found == nil {
			continue
		}
		if m.labels[found[1]] == nil {
			m.labels[found[1]] = map[string][]string{}
			m.families[family] = append(m.families[family], found[1])
		}
		for _, l := range label.FindAllStringSubmatch(found[2], -1) {
			m.labels[found[1]][l[1]] = append(m.labels[found[1]][l[1]], l[3])
		}
	}
	return m
}

// Labels that Prometheus adds, and one whose values nobody can list.
var (
	added    = []string{"job", "instance"}
	anyValue = append([]string{"code"}, added...)
)

var (
	word     = regexp.MustCompile(`[a-zA-Z_][a-zA-Z_0-9]*`)
	grouping = regexp.MustCompile(`\b(?:by|without|on|ignoring)\s*\(([^)]*)\)`)
	selector = regexp.MustCompile(`([a-zA-Z_][a-zA-Z_0-9]*)\s*\{([^}]*)\}`)
	window   = regexp.MustCompile(`\[[^\]]*\]`)
)

// functions are those of PromQL that are used here. Any other word has to be a metric.
var functions = []string{
	"absent", "and", "changes", "count", "histogram_quantile", "increase", "max", "min", "or", "predict_linear", "rate", "sum", "time", "vector",
}

// check tells what an expression asks for in vain, and notes which metrics it asks for.
func (m *metricsPage) check(t *testing.T, a query, used map[string]bool) {
	t.Helper()
	for _, name := range m.lacks(a.expr, used) {
		if strings.HasPrefix(name, "process_") && runtime.GOOS != "linux" { // other systems tell less
			continue
		}
		t.Errorf("%s: there is no %q: %s", a.where, name, a.expr)
	}
}

// lacks are the metrics, labels and values in an expression that /metrics does not have.
func (m *metricsPage) lacks(expr string, used map[string]bool) (lacking []string) {
	named := map[string]bool{}
	for _, s := range selector.FindAllStringSubmatch(expr, -1) {
		for _, l := range label.FindAllStringSubmatch(s[2], -1) {
			values, there := m.labels[s[1]][l[1]]
			if !there && !slices.Contains(added, l[1]) {
				lacking = append(lacking, l[1])
			}
			for value := range strings.SplitSeq(l[3], "|") {
				if there && !slices.Contains(anyValue, l[1]) && !slices.Contains(values, value) {
					lacking = append(lacking, value)
				}
			}
		}
	}
	rest := selector.ReplaceAllString(expr, "$1")
	for _, g := range grouping.FindAllStringSubmatch(rest, -1) {
		for _, name := range word.FindAllString(g[1], -1) {
			named[name] = true
		}
	}
	rest = window.ReplaceAllString(grouping.ReplaceAllString(rest, ""), "")
	has := slices.Clone(added)
	for _, name := range word.FindAllString(rest, -1) {
		labels, there := m.labels[name]
		if !there && !slices.Contains(functions, name) {
			lacking = append(lacking, name)
		}
		if there {
			used[name] = true
		}
		has = slices.AppendSeq(has, maps.Keys(labels))
	}
	for name := range named {
		if !slices.Contains(has, name) {
			lacking = append(lacking, name)
		}
	}
	return lacking
}

// panel is a panel of a dashboard.
type panel struct {
	ID                       int
	Type, Title, Description string
	Datasource               datasource
	GridPos                  struct{ X, Y, W, H int }
	Targets                  []struct {
		Datasource                datasource
		RefID, Expr, LegendFormat string
	}
}

// datasource is where a panel has its data from.
type datasource struct{ Type, UID string }

// panels are what the dashboard asks for.
func panels(t *testing.T) (asks []query) {
	t.Helper()
	text, err := os.ReadFile("../../docs/grafana/unibus.json")
	if err != nil {
		t.Fatal(err)
	}
	var d struct {
		Title         string
		SchemaVersion int
		Templating    struct {
			List []struct {
				Name, Type, Definition string
				Query                  any
			}
		}
		Panels []panel
	}
	if err := json.Unmarshal(text, &d); err != nil {
		t.Fatal(err)
	}
	if d.Title != "unibus" || d.SchemaVersion < 42 || bytes.Contains(text, []byte(`"uid": "prometheus"`)) {
		t.Errorf("the dashboard is %q, of the schema %d", d.Title, d.SchemaVersion)
	}
	for i, v := range d.Templating.List {
		if i == 0 && (v.Name != "datasource" || v.Type != "datasource" || v.Query != "prometheus") {
			t.Errorf("the first variable is %+v", v)
		}
		if inner, ok := strings.CutPrefix(v.Definition, "label_values("); ok {
			expr, _, _ := strings.Cut(inner, ", ")
			asks = append(asks, query{"the variable " + v.Name, expr})
		}
	}
	ids, placed, rows := map[int]bool{}, map[[2]int]string{}, []string{}
	for _, p := range d.Panels {
		asks = append(asks, p.asks(t)...)
		if p.Type == "row" {
			rows = append(rows, p.Title)
		}
		if ids[p.ID] {
			t.Errorf("%s has the id of another panel", p.Title)
		}
		ids[p.ID] = true
		for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
			for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
				if other := placed[[2]int{x, y}]; other != "" || x >= 24 {
					t.Errorf("%s lies over %s, or beyond the edge", p.Title, other)
				}
				placed[[2]int{x, y}] = p.Title
			}
		}
	}
	if want := []string{"Is it well", "Who connects", "What is read and written", "Store and cluster", "Refusals"}; !slices.Equal(rows, want) {
		t.Errorf("the rows are %q, not %q", rows, want)
	}
	return asks
}

// asks are what a panel asks for.
func (p *panel) asks(t *testing.T) (asks []query) {
	t.Helper()
	if p.Type == "row" {
		return nil
	}
	if p.Title == "" || p.Description == "" || len(p.Targets) == 0 || p.Datasource != (datasource{"prometheus", "${datasource}"}) {
		t.Errorf("the panel %d (%s) lacks something", p.ID, p.Title)
	}
	for _, target := range p.Targets {
		where := fmt.Sprintf("the panel %q", p.Title)
		if target.Datasource != p.Datasource || target.RefID == "" || target.LegendFormat == "" || !strings.Contains(target.Expr, `{job=~"$job",instance=~"$instance"`) {
			t.Errorf("%s lacks something: %+v", where, target)
		}
		asks = append(asks, query{where, target.Expr})
	}
	return asks
}

// alerts are what the alerts ask for. Each says what it means, and names a command that there is.
func alerts(t *testing.T) (asks []query) {
	t.Helper()
	text, err := os.ReadFile("../../docs/grafana/alerts.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Groups []struct {
			Name  string
			Rules []struct {
				Alert, Expr, For string
				Labels           struct{ Severity string }
				Annotations      struct{ Summary, Description, Command string }
			}
		}
	}
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	decoder.KnownFields(true)
	if err := decoder.Decode(&file); err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, g := range file.Groups {
		for _, r := range g.Rules {
			where := "the alert " + r.Alert
			if !strings.HasPrefix(r.Alert, "Unibus") || names[r.Alert] || g.Name == "" || r.Expr == "" || r.Labels.Severity != "critical" && r.Labels.Severity != "warning" {
				t.Errorf("%s is not one: %+v", where, r)
			}
			names[r.Alert] = true
			if r.Annotations.Summary == "" || r.Annotations.Description == "" || r.Annotations.Command == "" {
				t.Errorf("%s lacks a summary, a description or a command", where)
			}
			documented(t, where, r.Annotations.Command)
			asks = append(asks, query{where, r.Expr})
		}
	}
	if len(asks) == 0 {
		t.Error("there are no alerts")
	}
	return asks
}

// documented wants a command to be one of unibus that has a man page, with flags that are there, or one of those by which
// a machine is looked at.
func documented(t *testing.T, where, command string) {
	t.Helper()
	words := strings.Fields(command)
	if words[0] != "unibus" {
		if !slices.Contains([]string{"journalctl", "ss"}, words[0]) {
			t.Errorf("%s: %s is no command of unibus", where, command)
		}
		return
	}
	var names []string
	for _, w := range words {
		if strings.HasPrefix(w, "-") {
			break
		}
		names = append(names, w)
	}
	var pages []byte
	for _, name := range []string{strings.Join(names, "-"), "unibus"} { // which has the flags of all commands
		page, err := os.ReadFile(path.Join("../../man", name+".1"))
		if err != nil {
			t.Errorf("%s: %v", where, err)
		}
		pages = append(pages, page...)
	}
	for _, w := range words {
		flag := regexp.MustCompile(`\\fB` + strings.ReplaceAll(regexp.QuoteMeta(w), "-", `\\-`) + `( [^\n]*)?\\fP`)
		if strings.HasPrefix(w, "--") && !flag.Match(pages) {
			t.Errorf("%s: %s has no %s", where, strings.Join(names, " "), w)
		}
	}
}
