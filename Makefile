# Two commands do everything on a fresh Debian machine with Rust: `make run` and `make test`.

CARGO ?= cargo
SECONDS_PER_TARGET ?= 60
# protoc, and the descriptions that it comes with: to the package the latter are a recommendation.
APT_BUILD := protobuf-compiler libprotobuf-dev
APT_TEST := $(APT_BUILD) nginx-light valgrind curl openssl etcd-server etcd-client nghttp2-client wrk python3-venv
# A browser, for one test that is left out without it; a large package that not every machine can have.
APT_BROWSER := chromium
TEST_VENV := $(or $(CARGO_TARGET_DIR),target)/test-venv
APT_BENCH := $(APT_BUILD) nginx-light haproxy wrk python3-venv cmake etcd-server etcd-client
APT_PROTOCOLS := $(APT_BUILD) nginx-light haproxy wrk nghttp2-client openssl python3-venv
APT_CONFIG := $(APT_BUILD) etcd-server etcd-client
APT_FLAME := linux-perf

.PHONY: help run build check test unit test-venv lint instructions bench bench-protocols bench-config micro flamegraph fuzz simulate deny

help:
	@echo "make run            build and start the gateway with the demo upstream"
	@echo "make check          check conf/config.yaml and conf/apisix.yaml"
	@echo "make test           install what the tests need and run every test"
	@echo "make bench          compare with the peers; writes perf/results/"
	@echo "make bench-protocols  TLS, HTTP/2 and gRPC against the peers; writes perf/results/"
	@echo "make bench-config   measure the configuration plane with etcd; writes perf/results/"
	@echo "make micro          micro-benchmarks (criterion)"
	@echo "make instructions   instruction counts against the committed baseline"
	@echo "make flamegraph     profile the gateway under load"
	@echo "make fuzz           run each fuzz target for SECONDS_PER_TARGET=$(SECONDS_PER_TARGET)"
	@echo "make simulate       explore more simulated worlds (OSMIA_SIM_WORLDS=2000)"
	@echo "make deny           licences, bans and advisories of the dependencies (cargo-deny)"

build: apt-build
	$(CARGO) build --release -p osmia -p osmia-bench --bin osmia --bin osmia-demo-upstream

# The demo upstream is a process of its own; it goes when the gateway goes.
run: build
	@target/release/osmia-demo-upstream --listen 127.0.0.1:9081 & upstream=$$!; \
	trap 'kill $$upstream 2>/dev/null' EXIT INT TERM; \
	target/release/osmia start --config conf/config.yaml

check: build
	target/release/osmia check --config conf/config.yaml

test: apt-test apt-browser lint unit instructions

# Binaries and tests in one selection of packages: another one would build what they share again.
unit: test-venv
	$(CARGO) build --workspace --bins --tests
	$(CARGO) test --workspace

# gRPC and WebSocket for the tests of protocols, in Debian's Python: python3-venv is for that one.
test-venv: $(TEST_VENV)/installed
$(TEST_VENV)/installed: tests/python/requirements.txt
	/usr/bin/python3 -m venv --clear $(TEST_VENV)
	$(TEST_VENV)/bin/pip install --quiet --disable-pip-version-check -r $<
	touch $@

lint:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings

instructions:
	$(CARGO) build --workspace --bins --tests
	$(or $(CARGO_TARGET_DIR),target)/debug/osmia-bench instructions --check

bench: apt-bench
	$(CARGO) build --release -p osmia -p osmia-bench
	target/release/osmia-bench setup
	target/release/osmia-bench run $(BENCH_ARGS)

bench-protocols: apt-protocols
	$(CARGO) build --release -p osmia -p osmia-bench
	-target/release/osmia-bench setup envoy
	target/release/osmia-bench protocols $(BENCH_ARGS)

bench-config: apt-config
	$(CARGO) build --release -p osmia -p osmia-bench
	target/release/osmia-bench config $(BENCH_ARGS)

micro:
	$(CARGO) bench -p osmia-bench

flamegraph: apt-flame
	$(CARGO) build --release -p osmia -p osmia-bench
	perf/flamegraph.sh

# cargo-fuzz wants nightly options; the stable compiler takes them with the bootstrap switch.
fuzz:
	command -v cargo-fuzz >/dev/null || $(CARGO) install --locked cargo-fuzz
	core/fuzz/fuzz.sh $(SECONDS_PER_TARGET)

simulate:
	OSMIA_SIM_WORLDS=$${OSMIA_SIM_WORLDS:-2000} $(CARGO) test --release -p osmia --test simulation -- --nocapture

deny:
	command -v cargo-deny >/dev/null || $(CARGO) install --locked cargo-deny
	cargo-deny check

# Installs what is missing, as root or through sudo; does nothing when all is there.
define apt
	@missing=""; for package in $(1); do \
		dpkg-query -W -f '$${Status}' $$package 2>/dev/null | grep -q "ok installed" || missing="$$missing $$package"; \
	done; \
	if [ -n "$$missing" ]; then \
		sudo=""; [ "$$(id -u)" = 0 ] || sudo=sudo; \
		echo "installing$$missing"; \
		$$sudo apt-get update -qq && \
		DEBIAN_FRONTEND=noninteractive $$sudo apt-get install -y -qq --no-install-recommends $$missing; \
	fi
endef

.PHONY: apt-build apt-test apt-browser apt-bench apt-protocols apt-config apt-flame
# etcd's client is generated from its protocol description by protoc, whichever way it came here.
apt-build:
	@protoc -o /dev/null google/protobuf/descriptor.proto 2>/dev/null || $(MAKE) --no-print-directory apt-protoc
.PHONY: apt-protoc
apt-protoc:
	$(call apt,$(APT_BUILD))
apt-test:
	$(call apt,$(APT_TEST))
apt-browser:
	-$(call apt,$(APT_BROWSER))
apt-bench:
	$(call apt,$(APT_BENCH))
apt-protocols:
	$(call apt,$(APT_PROTOCOLS))
apt-config:
	$(call apt,$(APT_CONFIG))
apt-flame:
	$(call apt,$(APT_FLAME))
