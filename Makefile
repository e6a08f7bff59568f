# Each recipe is short, and CI does nothing that `make` cannot.
SHELL = bash
.SHELLFLAGS = -o pipefail -c

CARGO = cargo
SPAN = 60
FUZZ = 60
PREFIX = /usr/local
DESTDIR =
# A second opinion on the answers: tests/referee.py, over these alerts, and with
# a CTIM validator if there is one.
ALERTS = src/simulator/tenant.json
VALIDATOR =
# What `static`, `dist` and `lambda-zip` build for; empty: this machine, with musl
# where it can (contrib/dist/static.sh).
TARGET =
export TARGET

.PHONY: demo run test soak bench attack fuzz mutants check fmt lint toolchains doc deps referee units library bless dist build install \
  static lambda-zip lambda-try

demo: ## a simulated tenant and a look-up in it; ONCE=1 ends after that, FAULTS=SEED lets it fail
	@$(CARGO) run --locked --quiet -- demo $(if $(ONCE),--once) $(if $(FAULTS),--faults $(FAULTS))

run: ## run the server, configured by environment variables
	@$(CARGO) run --locked --quiet

test: ## all tests
	@{ $(CARGO) test --locked 2>&1; echo "cargo ended with $$?"; } | awk -f tests/summary.awk

soak: ## the randomised faults, for a thousand seeds
	SEEDS=1000 $(CARGO) test --locked --release --test random_faults

bench: ## what the relay costs, beside the same work without it; ONLY="front index" for some of it
	@ONLY='$(ONLY)' $(CARGO) bench --locked --quiet --bench performance

# The lines on which most hangs; SHARD=1/40 tries a fortieth of them, ONLY=src/file.rs those of a file.
MUTATED = src/alerts/matching.rs src/alerts/index.rs src/sources/crawl.rs src/graph/pager/mod.rs src/relay/jwt.rs \
  src/server/front_end/request_head.rs
mutants: ## breaks lines of the core one by one, to see that a test notices; wants cargo-mutants
	$(CARGO) mutants --cargo-arg=--locked --jobs 1 --timeout 300 --output target $(if $(SHARD),--shard $(SHARD)) \
	  $(foreach file,$(if $(ONLY),$(ONLY),$(MUTATED)),--file $(file)) -- --lib --test relay

# What is quick comes first, and what begins all builds again comes last.
check: fmt deps lint doc library referee units toolchains test ## all that CI asks for
	@git diff --exit-code tests/

fmt:
	$(CARGO) fmt --check

lint:
	$(CARGO) clippy --locked --all-targets --quiet -- -D warnings
	@if cfn-lint --version >/dev/null 2>&1; then cfn-lint contrib/lambda/template.yaml; fi

# Not beside the other builds, which would all begin again.
toolchains: ## the oldest Rust that is supported, and the coming one, where rustup has them
	@oldest="$$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)" && \
	for rust in "$$oldest" beta nightly; do \
	  if rustup run "$$rust" cargo clippy --version >/dev/null 2>&1; then \
	    echo "Rust $$rust:" && CARGO_TARGET_DIR=target/$$rust rustup run "$$rust" \
	      $(CARGO) clippy --locked --all-targets --quiet -- -D warnings || exit 1; \
	  else echo "Rust $$rust: not tried, since rustup has none with clippy"; fi; done

doc:
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --locked --no-deps --document-private-items --quiet

deps: ## at most 60 packages, and none of them twice
	@tree="$$($(CARGO) tree --locked -e normal,build --prefix none | sed 's/ (.*//' | sort -u)" && \
	  count="$$(wc -l <<<"$$tree")" && echo "$$count packages" && test "$$count" -le 60 && \
	  ! sed 's/ .*//' <<<"$$tree" | sort | uniq -d | grep .

attack: ## 1,000 bad clients for SPAN seconds, on this machine
	ulimit -n 4096 && SPAN=$(SPAN) $(CARGO) bench --locked --quiet --bench attack

fuzz: ## each target of fuzz/ for FUZZ seconds; wants cargo-fuzz and a nightly Rust
	python3 fuzz/seeds.py
	for target in $$($(CARGO) +nightly fuzz list); do echo "$$target:" && \
	  $(CARGO) +nightly fuzz run $$target -- -max_total_time=$(FUZZ) -timeout=5 -rss_limit_mb=1024 \
	  -max_len=65536 -print_final_stats=1 || exit 1; done

referee: ## every answer against a second opinion
	$(CARGO) build --locked --quiet
	python3 tests/referee.py target/debug/graph-relay $(ALERTS) \
	  $(if $(VALIDATOR),--validator $(VALIDATOR))

units: ## the systemd units, where systemd is installed; as root, in a machine that boots
	$(CARGO) build --locked --quiet
	sh tests/units.sh $(CURDIR)/target/debug/graph-relay || test $$? = 77
	bash tests/boot.sh $(CURDIR)/target/debug/graph-relay

library: ## the library without its edges, the program as it is packed, and the example
	$(CARGO) clippy --locked --no-default-features --lib --examples --quiet -- -D warnings
	$(CARGO) clippy --locked --no-default-features --features cli --bins --quiet -- -D warnings
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --locked --no-deps --no-default-features --quiet
	$(CARGO) test --locked --no-default-features --features simulator --doc --quiet
	$(CARGO) run --locked --no-default-features --features simulator --example embed --quiet >/dev/null

bless: ## accept what the mapping makes as what was agreed
	BLESS=1 $(CARGO) test --locked --quiet --test relay mapping::

dist: ## a static program, proved to be one, packed in target/dist
	bash contrib/dist/dist.sh

build: ## the program for this machine, in target/release
	$(CARGO) build --locked --release

install: ## what build has built, for PREFIX and DESTDIR as usual; settings that are there stay
	sh contrib/dist/install.sh target/release/graph-relay "$(DESTDIR)" "$(PREFIX)"
	test -e $(DESTDIR)/etc/graph-relay/graph-relay.env || \
	  install -D -m 0644 contrib/systemd/graph-relay.env $(DESTDIR)/etc/graph-relay/graph-relay.env

static: ## one executable that needs no file of the machine it runs on
	@bash contrib/dist/static.sh

lambda-zip: ## target/lambda.zip, as AWS Lambda wants it
	program="$$(bash contrib/dist/static.sh)" && \
	  python3 contrib/lambda/pack.py "$$program" target/lambda.zip

lambda-try: lambda-zip ## one invocation of it against a Runtime API on this machine
	program="$$(bash contrib/dist/static.sh 2>/dev/null)" && \
	  SECRET_KEY="$$("$$program" key new)" python3 contrib/lambda/invoke.py target/lambda.zip
