# SPDX-License-Identifier: Apache-2.0
# The commands of this repository.  `make` alone lists them; ARGS is handed on to the command behind the target.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

BIN := .venv/bin
ARGS ?=
BENCH ?= host_storm
INSTALLED_BY := pyproject.toml constraints.txt tools/venv

# A third of a test's time is waiting for real parts, so there is one worker more than cores.
TEST_WORKERS ?= $(shell echo $$(( $$(nproc 2>/dev/null || echo 2) + 1 )))

# Fast tests: no real parts, so they run anywhere and again after every edit.
FAST_TESTS := $(wildcard tests/unit tests/property tests/cli tests/docs/test_error_pages.py tests/docs/test_links.py \
	tests/docs/test_cli_reference.py)
PROTOS = $(wildcard proto/volact/v1/*.proto)
GENERATED := src/volact/wire/gen

.PHONY: help demo test check format docs proto vectors bench constraints clean distclean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

demo: .venv/.demo  ## a whole site on this machine; ARGS="--exit --json" ends by itself
	@$(BIN)/volact demo $(ARGS)

test: .venv/.dev  ## all tests with real parts; ARGS="tests/integration/dns" runs a part
	@set -e; required=1; tools/setup || { [ $$? -eq 3 ] || exit 1; required=0; }; \
	export VOLACT_REQUIRE_PARTS=$${VOLACT_REQUIRE_PARTS:-$$required} HYPOTHESIS_PROFILE=$${HYPOTHESIS_PROFILE:-ci}; \
	$(BIN)/pytest -n $(TEST_WORKERS) --dist loadfile --no-loadscope-reorder $(ARGS)  # slow ones first, quick ones fill up

check: .venv/.dev  ## format, lint, types and the fast tests, in about a minute
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/pytest -q -n 2 -m "not needs" $(FAST_TESTS)

format: .venv/.dev  ## rewrite the sources as `make check` wants them
	@$(BIN)/ruff check --fix-only .
	@$(BIN)/ruff format .

docs: .venv/.dev  ## regenerate the reference of errors, commands and the HTTP API from the code
	@$(BIN)/python tools/make_error_docs.py
	@$(BIN)/python tools/make_cli_docs.py
	@$(BIN)/python tools/make_openapi.py

proto: .venv/.dev  ## regenerate the messages and stubs in src/volact/wire/gen from proto/
	@test -n "$(PROTOS)" || { echo "make proto: nothing in proto/volact/v1" >&2; exit 1; }
	@rm -rf $(GENERATED) && mkdir -p $(GENERATED)
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m grpc_tools.protoc -Iproto \
		--py_out=$(GENERATED) --connectrpc_out=$(GENERATED) $(PROTOS)

vectors: .venv/.dev  ## rebuild the test vectors from their scripts
	@set -e; for script in tools/make_*_vectors.py; do [ -e "$$script" ] || continue; \
		echo "$$script"; $(BIN)/python "$$script"; done

bench: .venv/.dev  ## measure; BENCH=host_storm names the file in benchmarks/, ARGS="--json"
	@$(BIN)/python benchmarks/$(BENCH).py $(ARGS)

constraints:  ## pin the newest versions that fit pyproject.toml, resolved in a fresh environment
	@tools/venv constraints

clean:  ## remove what was built (not the environment)
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find src tests tools -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean  ## also remove the environment
	rm -rf .venv

# The stamps: an environment is built again only after the files it was built from have changed.
.venv/.demo: $(INSTALLED_BY)
	@tools/venv demo

.venv/.dev: $(INSTALLED_BY)
	@tools/venv dev
