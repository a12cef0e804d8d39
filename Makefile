VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo 0.0.0-dev)
LDFLAGS  = -s -w -X github.com/unibus/unibus/internal/cli.Version=$(VERSION)
PREFIX  ?= /usr/local
FUZZTIME ?= 30s
COUNT   ?= 1

.PHONY: build test race lint cover cover-core bench fuzz completions man install clean partition fulldisk soak flood bench-store stepdowns rolling sigterm damage honest worst crowd peer-js mutants lint-workflows lint-alerts systems vuln release-check pictures

# Without C, as a release is: nothing here needs any, and a program that loads no library starts a tenth sooner.
build:
	CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS)' -o bin/unibus ./cmd/unibus

# The race detector needs a C compiler; without one the tests run all the same.
# SQLite, which was translated from C, is left out of it: its pointers are not Go's, and most of what runs is its.
RACE = $(if $(shell command -v $$(go env CC) 2>/dev/null),-race $(UNSEEN))
UNSEEN = -gcflags=modernc.org/...=-d=checkptr=0 -gcflags=modernc.org/sqlite/lib='-race=false -d=checkptr=0'

# Tests of whole programs, whose packages have tests of their own: they run without the race detector, which makes them
# take as long as all others; more of them at once than there are processors, since most of the time they wait. With it:
# make race.
WHOLE = ./internal/attack ./internal/cli
# Neither is there anything for it where nothing runs beside anything else.
PURE = ./internal/crypto ./internal/inbox ./internal/ledger ./internal/outbox

# The package whose tests take longest begins first, so that the others run beside it, one package more than there are
# processors: they wait much. What go vet says, lint says.
BESIDE = $(shell expr $$(getconf _NPROCESSORS_ONLN) + 1)
test:
	go test $(RACE) -p $(BESIDE) -vet=off -timeout 20m ./internal/service $$(go list ./... | grep -v -x $(patsubst ./%,-e '.*/%',./internal/service $(WHOLE) $(PURE)))
	go test -vet=off -parallel 4 -timeout 20m $(WHOLE) $(PURE)

race:
	go test -race $(UNSEEN) -shuffle=on -count=$(COUNT) -timeout 120m ./...

# Code that no program calls fails, too: what only tests call belongs to tests, as package attack does.
# Of the public package nothing is dead: callers may want it. A terminal has keys that only tests press.
lint:
	@test -z "$$(gofmt -l .)" || { echo "not gofmt-ed:"; gofmt -l .; exit 1; }
	go vet ./...
	go tool staticcheck ./...
	@dead="$$(go tool deadcode ./cmd/... ./internal/gen ./internal/pictures ./bench/... ./examples/... ./test/...)" || exit 1; \
	dead="$$(echo "$$dead" | grep -v -e '^internal/attack/' -e '^internal/tmux/' -e '^[a-z]*\.go:')"; test -z "$$dead" || { echo "$$dead"; exit 1; }

# The workflows of .github; it looks at the shell lines too where shellcheck is installed.
lint-workflows:
	go run github.com/rhysd/actionlint/cmd/actionlint@v1.7.12

# The alerts of docs/grafana, by Prometheus' own promtool, which has to be installed.
lint-alerts:
	promtool check rules docs/grafana/alerts.yaml

# That everything builds for the systems of a release.
systems:
	@for system in linux/amd64 linux/arm64 darwin/amd64 darwin/arm64 windows/amd64 windows/arm64; do \
	  echo "$$system"; CGO_ENABLED=0 GOOS=$${system%/*} GOARCH=$${system#*/} go build ./... || exit 1; \
	done
	CGO_ENABLED=0 GOOS=darwin go vet ./...
	CGO_ENABLED=0 GOOS=windows go vet ./...

# Known vulnerabilities in what is called, by the database of the Go project, which it asks over the network.
vuln:
	go run golang.org/x/vuln/cmd/govulncheck@v1.9.0 ./...

# Everything that a release is made of, in dist/, from what is committed; nothing is published. It needs goreleaser,
# and syft for the SBOMs: without it they are left out, and it says so.
release-check:
	goreleaser check
	@command -v syft >/dev/null || echo "release-check: syft is not installed: NO SBOMs are made"
	goreleaser release --snapshot --clean --skip=publish$$(command -v syft >/dev/null || echo ,sbom)
	@ls dist

# PERCENT:PACKAGE, how many of a package's statements its own tests have to run at least.
COVER = 95:./internal/crypto 95:./internal/ledger 95:./internal/inbox 95:./internal/outbox 95:./internal/mirror \
  85:./internal/store 85:./internal/store/sqlite 85:./internal/store/jetstream 85:./internal/store/remote \
  85:./internal/store/open 85:./internal/service 85:./internal/admin 85:./internal/reader 85:./internal/writer \
  85:./internal/room 85:./internal/pins 80:./internal/bus 80:./internal/cli 80:.

# That each of them does; of all, it says how many. Ten minutes or so.
cover:
	@failed=0; for each in $(COVER); do \
	  said="$$(go test -timeout 20m -cover $${each#*:})" || { echo "$$said"; failed=1; continue; }; \
	  echo "$$said" | awk -v floor=$${each%%:*} '{print} /coverage:/ {seen=1; sub(".*coverage: ", ""); if ($$1+0 < floor) {print "  that is below " floor "%"; low=1}} END {exit low || !seen}' || failed=1; \
	done; exit $$failed

# The same of what decides on everything, in seconds.
cover-core:
	@$(MAKE) --no-print-directory cover COVER="95:./internal/crypto 95:./internal/ledger"

# Against raw NATS in the same run; needs nothing but Go.
bench: build
	go test -run '^$$' -bench . -benchmem ./internal/crypto
	go run ./bench

# What the choice of a store costs: logins, listings, moving 100,000 users and 10,000 rooms. Minutes.
bench-store:
	go run ./bench/store

# Every decoder, FUZZTIME each.
fuzz:
	@for pkg in ./internal/crypto ./internal/ledger ./internal/bus ./internal/service ./internal/admin; do \
	  for f in $$(go test -list '^Fuzz' $$pkg | grep '^Fuzz'); do \
	    echo "$$pkg $$f"; go test -run '^$$' -fuzz "^$$f$$" -fuzztime $(FUZZTIME) $$pkg || exit 1; \
	  done; \
	done

# A panic in each refusal of the reader, the logs, the cryptography and the login, one at a time: a test has to fail
# for each that is not excused. Five minutes or so. The list of them: go run ./test/mutants -write
mutants:
	go run ./test/mutants

completions man:
	go run ./internal/gen

# docs/pictures, from real runs of the program in a real terminal. It needs tmux.
pictures:
	go run ./internal/pictures

install: build
	install -Dm755 bin/unibus $(DESTDIR)$(PREFIX)/bin/unibus
	install -Dm644 completions/unibus.bash $(DESTDIR)$(PREFIX)/share/bash-completion/completions/unibus
	install -Dm644 completions/_unibus $(DESTDIR)$(PREFIX)/share/zsh/site-functions/_unibus
	install -Dm644 completions/unibus.fish $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/unibus.fish
	for page in man/*.1; do install -Dm644 $$page $(DESTDIR)$(PREFIX)/share/man/man1/$$(basename $$page); done
	for page in docs/*.md docs/openapi.yaml SPEC.md; do install -Dm644 $$page $(DESTDIR)$(PREFIX)/share/doc/unibus/$$(basename $$page); done

clean:
	rm -rf bin dist

# What people see while the leading server is cut off. As root: it makes network namespaces.
partition: build
	go build -o bin/partition ./test/partition
	bin/partition -unibus bin/unibus

# What people see while the disk is full, and after. As root: it mounts a small file system.
fulldisk: build
	go build -o bin/fulldisk ./test/fulldisk
	bin/fulldisk -unibus bin/unibus

# A server killed 100 times under load, on each store. Minutes.
soak: build
	go run ./test/soak

# What one connection that floods does to others, and to the memory of the server. A minute or four.
flood: build
	go build -o bin/flood ./test/flood
	bin/flood -unibus bin/unibus

# Three servers that are one bus: its leaders step down under full load; its nodes are restarted one after
# the other, also with damaged files; they are told to stop at 100 random moments. A quarter of an hour each, or less.
stepdowns rolling sigterm: build
	go build -o bin/cluster ./test/cluster
	bin/cluster -unibus bin/unibus $@

# What people see of a room whose files were damaged on the server's disk, one thing at a time, and of a SQLite store
# whose last changes were. Half an hour; bin/damage -h says how to run a part of it.
damage: build
	go build -o bin/damage ./test/damage
	bin/damage -unibus bin/unibus

# The memory of readers that are fed 10 GiB of the worst frames a member can make. A quarter of an hour, and the space.
worst: build
	go build -o bin/worst ./test/worst
	bin/worst -unibus bin/unibus

# A hundred processes of one identity at once make a thousand rooms.
crowd: build
	go build -o bin/crowd ./test/crowd
	bin/crowd -unibus bin/unibus

# What honest people, machines and operators do to a bus, all at once and at random: nothing of it may raise a finding.
# An hour; less with HONEST="-for 5m".
honest: build
	go build -o bin/honest ./test/honest
	bin/honest -unibus bin/unibus $(HONEST)

# The example peer in JavaScript, beside a server of its own. It needs Node 20 and npm.
peer-js:
	examples/peer-js/run.sh
