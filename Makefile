# Ditto's menu.  `make help` lists it.
SHELL := /bin/sh
.DEFAULT_GOAL := help

DITTO := .venv/bin/ditto
PYTHON := .venv/bin/python

# Debian packages: to build and run ditto, to run the demo, to run the tests.
BUILD_PACKAGES := python3-venv gcc make libc6-dev clang llvm libbpf-dev bpftool libelf-dev zlib1g-dev valgrind linux-libc-dev
DEMO_PACKAGES := redis-server redis-tools
TEST_PACKAGES := $(DEMO_PACKAGES) nginx memcached libmemcached-tools wrk binutils strace chromium stress-ng dnsperf \
	postgresql mariadb-server sysbench php-fpm ccache gunicorn python3-psycopg2 python3-fastapi python3-uvicorn \
	python3-grpcio nghttp2-client curl

NATIVE := $(patsubst native/%/Makefile,%,$(wildcard native/*/Makefile))

.PHONY: help setup packages venv native demo test lint format bench fidelity clean

help: ## List what can be made
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## Install what is missing (Debian, PyPI), build the native parts, leave .venv/bin/ditto working
	@./scripts/install-packages.sh $(BUILD_PACKAGES)
	@./scripts/setup-venv.sh
	@$(MAKE) --no-print-directory native
	@echo "Ready: $(DITTO) --help"

native: ## Build the native parts: collector, lens, load generator
	@for part in $(NATIVE); do $(MAKE) --no-print-directory -C native/$$part || exit $$?; done

demo: setup ## Clone Redis, validate the clone, write a report
	@./scripts/install-packages.sh $(DEMO_PACKAGES)
	$(DITTO) clone examples/redis.toml -o build/demo/redis
	@echo "The report is $(CURDIR)/build/demo/redis/report.html"
	@echo "Run the clone: $(DITTO) run build/demo/redis/clone --port 7000"

test: setup ## Run all tests
	@./scripts/install-packages.sh $(TEST_PACKAGES)
	@$(PYTHON) -m pytest -n 2 --no-loadscope-reorder

lint: ## Check style and types
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

format: ## Put Python files into the common format
	.venv/bin/ruff check --fix .
	.venv/bin/ruff format .

bench: setup ## Measure the overhead of observing and the load generator, on this machine
	@./scripts/install-packages.sh $(TEST_PACKAGES)
	@for script in benchmarks/*_overhead.py benchmarks/loadgen.py; do echo "== $$script"; $(PYTHON) "$$script" || exit $$?; done

fidelity: setup ## Clone every example anew; writes docs/fidelity.md and the README's table (half an hour)
	@./scripts/install-packages.sh $(TEST_PACKAGES)
	@$(PYTHON) benchmarks/fidelity.py

clean: ## Remove what was built (not .venv)
	@for part in $(NATIVE); do $(MAKE) --no-print-directory -C native/$$part clean || exit $$?; done
	rm -rf build examples/build .mypy_cache .ruff_cache .pytest_cache .hypothesis
