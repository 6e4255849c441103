# NodeTool Storage: `make run` serves it, `make test` tests it. `make help` lists the rest.
# Needs Python 3.11+ and make; everything else goes into .venv, and no network is used while that is current.

PYTHON ?=
ARGS ?=
# Tests run in so many processes, each with servers of its own; 0: in one, which prints as it goes.
JOBS ?= 2
VENV := .venv
BIN := $(VENV)/bin
PY := $(BIN)/python
UV := uv==0.13.9

# What another virtualenv, project or make left in the environment must not leak into ours.
unexport VIRTUAL_ENV PYTHONHOME PYTHONPATH PYTHONSTARTUP DJANGO_SETTINGS_MODULE
unexport PIP_TARGET PIP_PREFIX PIP_ROOT PIP_USER PIP_CONSTRAINT PIP_REQUIREMENT PIP_NO_DEPS PIP_DRY_RUN PIP_PYTHON
unexport PIP_REQUIRE_HASHES PIP_IGNORE_INSTALLED PIP_PRE PIP_UPGRADE_STRATEGY PIP_BUILD_CONSTRAINT
parallel = -n $(JOBS) --dist loadfile
clean_make := unset MAKEFLAGS MFLAGS MAKELEVEL;

# Checks must not touch the user's own catalog and files.
aside := NODETOOL_CONFIG_DIR="$$PWD/.run/check" ENV=test

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help run test test-postgresql check format bench nightly demo screenshots venv venv-dev lock clean

help: ## This list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1|\2/p' Makefile | while IFS='|' read -r name text; do \
	  printf '%-16s %s\n' "$$name" "$$text"; done

run: venv ## Serve on http://127.0.0.1:7777 (HOST, PORT)
	@$(clean_make) exec $(PY) -m nodetool_site.supervisor

test: venv-dev ## Run the tests (ARGS="-k name" narrows them, JOBS=0 keeps them in one process; REQUIRE_ALL=1 skips nothing)
	@$(clean_make) exec $(PY) -m pytest $(parallel) $(ARGS)

test-postgresql: venv-dev ## Run them with their catalogs in PostgreSQL (needs its programs, not a running server)
	@$(clean_make) exec $(PY) -m tests.postgresql $(parallel) $(ARGS)

check: venv-dev ## Format, lint, types, import rules, system checks, missing migrations
	@$(PY) -m ruff format --check .
	@$(PY) -m ruff check .
	@$(PY) -m mypy
	@$(BIN)/lint-imports
	@$(aside) $(PY) manage.py check --fail-level WARNING
	@$(aside) $(PY) manage.py makemigrations --check --dry-run

format: venv-dev ## Format the code and mend what the linter can
	@$(PY) -m ruff check --fix-only --quiet .
	@$(PY) -m ruff format .

bench: venv-dev ## Measure everything beside nginx, a bare Django view and S3 (ARGS=--hot: reads and slow clients only)
	@$(clean_make) exec $(PY) -m bench $(or $(ARGS),--all)

demo: venv ## Fill the library with sample images, sounds, tables and texts
	@$(clean_make) exec $(PY) manage.py demo

screenshots: venv-dev ## Take pictures of the pages, the best for docs/ (needs Chromium)
	@$(clean_make) exec $(PY) -m tests.browser.screenshots

nightly: venv-dev ## Every test, at full counts
	@$(clean_make) NIGHTLY=1 REQUIRE_ALL=1 PROPERTY_COUNT=100000 exec $(PY) -m pytest -m '' -o timeout=3600 $(ARGS)

venv: ## Make .venv with what runs the service
	@$(call install,requirements.txt,run)

venv-dev: venv ## Add what tests and checks it
	@$(call install,requirements-dev.txt,dev)

lock: venv-dev ## Rewrite constraints.txt, the full lock, from the requirements
	@$(PY) -m pip install --quiet --no-input '$(UV)'
	@$(PY) -m uv pip compile --universal --python-version 3.11 -q --no-header --no-annotate --no-emit-index-url \
	  requirements-dev.txt -o constraints.txt
	@echo 'constraints.txt is up to date.'

clean: ## Remove .venv and what the tools left behind
	rm -rf $(VENV) .run .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis

# --- how .venv is made ---------------------------------------------------------------------------

# install(requirement file, name): nothing at all when the stamp holds the sums of the requirement files.
define install
set -e; \
if ! $(PY) -c '$(usable)' 2>/dev/null; then $(make_venv); fi; \
sums=$$(cat requirements.txt constraints.txt $(1) | cksum; $(PY) -V); \
if [ "$$(cat $(VENV)/$(2).stamp 2>/dev/null)" != "$$sums" ]; then \
  echo "Installing $(1) into $(VENV) ..."; \
  PIP_USER=0 $(PY) -m pip install --quiet --disable-pip-version-check --no-input -r $(1) -c constraints.txt; \
  printf '%s\n' "$$sums" > $(VENV)/$(2).stamp; \
fi
endef

# The parts of Python that minimal installations leave out are asked for here, not met in a traceback later.
usable := import sys, pip, sqlite3, ssl; sys.exit(not (3, 11) <= sys.version_info[:2])
capable := import sys, ensurepip, sqlite3, ssl, venv; sys.exit(not (3, 11) <= sys.version_info[:2] <= (int(sys.argv[1]), int(sys.argv[2])))

# First a version that is tested (3.11 to 3.13), then any newer one.
define make_venv
chosen=; \
for newest in '3 13' '3 99'; do \
  for candidate in "$(PYTHON)" python3 python3.13 python3.12 python3.11 python3.14 python; do \
    if [ -z "$$chosen" ] && [ -n "$$candidate" ] && "$$candidate" -c '$(capable)' $$newest 2>/dev/null; then \
      chosen=$$candidate; fi; \
  done; \
done; \
if [ -z "$$chosen" ]; then \
  echo "NodeTool Storage needs Python 3.11, 3.12 or 3.13 with venv, ssl and sqlite3; found:" >&2; \
  for candidate in python3 python; do \
    if command -v "$$candidate" >/dev/null; then \
      echo "  $$candidate is $$("$$candidate" -V 2>&1)" >&2; fi; \
  done; \
  echo "Install one (Debian and Ubuntu: apt install python3 python3-venv) or name it: make run PYTHON=/path/to/python3.12" >&2; \
  exit 1; \
fi; \
echo "Making $(VENV) with $$("$$chosen" -V) ..."; \
"$$chosen" -m venv --clear $(VENV)
endef
