# `make demo` and `make test` work from nothing: they create .venv and install into it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP = $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile
$(VENV)/.kernel packaging integration soaks: WORKERS ?= 2
# More than these machines have cores, for tests that wait a quarter of their time.
test: WORKERS ?= 4
TESTS ?= tests
PROFILE ?= quick
DEMO := demo-output
DEMO_ROWS ?= 0

LOCK := requirements/lock.txt
SITE := build/site

.PHONY: help install lock newest kernel lint typecheck test packaging integration soaks kills faults collections sanitize build docs demo stream-demo flink kafka bench clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(VENV)/.installed ## create .venv with everything for demo, tests and development

$(VENV)/.installed: pyproject.toml setup.py $(LOCK)
	@$(PYTHON) -c 'import sys; sys.exit(0 if (3, 11) <= sys.version_info[:2] <= (3, 13) else "Penstock needs Python 3.11, 3.12 or 3.13; name one that you have: make PYTHON=python3.12 $(MAKECMDGOALS)")'
	@echo "Installing into $(VENV): 3 GB, mostly TensorFlow; takes about 2 minutes, once."
	$(PYTHON) -m venv $(VENV)
	@awk '/^[a-z0-9]/ {is_uv = /^uv==/} is_uv' $(LOCK) > $(VENV)/uv.txt
	$(PIP) --require-hashes --requirement $(VENV)/uv.txt
	$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes --requirement $(LOCK) || \
		$(PIP) --require-hashes --requirement $(LOCK)  # slower, but knows the indexes that pip is set up with
	$(PIP) --no-deps --no-build-isolation --editable .
	@touch $(VENV)/.kernel $@

lock: | $(BIN)/uv ## choose the newest versions that pyproject.toml allows, and lock them for all machines
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --upgrade --generate-hashes --no-header --extra dev --output-file $(LOCK) pyproject.toml
	sed -nE 's/^([a-z0-9][^\\]*[^ \\]) *\\?$$/\1/p' $(LOCK) > requirements/constraints.txt

$(BIN)/uv:
	$(MAKE) install

newest: install ## the demo and some tests with the newest versions, where newer than locked, and which package breaks them
	$(BIN)/python requirements/newest.py

kernel: $(VENV)/.kernel ## compile io/kernel/ again, after a change there

$(VENV)/.kernel: $(wildcard io/kernel/native/*.pyx io/kernel/native/*.pxd io/kernel/native/headers/*.h) | $(VENV)/.installed
	$(BIN)/python setup.py -q build_ext --inplace --parallel $(WORKERS)
	@touch $@

lint: install ## ruff: rules and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

typecheck: install ## mypy, from src/: the root has an io/ folder that would hide the standard library's io
	cd src && ../$(BIN)/python -m mypy --config-file ../pyproject.toml -p penstock -p pipelines

test: kernel ## the tests, in WORKERS=4 processes; PROFILE=full: on more made-up input; PENSTOCK_KERNEL=off: without the kernel
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal --hypothesis-profile=$(PROFILE) $(TESTS)

packaging: install ## build wheel and sdist, install them on each Python, without a compiler too, and with the oldest versions
	$(BIN)/python -m pytest -n $(WORKERS) -p no:cacheprovider -m packaging tests/packaging

# In the order of the folders: by the number of tests, as xdist has it, the longest files would come last, one after the other.
integration: install ## tests that start other programs, or take long; PENSTOCK_NO_SKIP=1: all of them or none
	PENSTOCK_PLAIN_BEAM=1 $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder -m '(integration or slow) and not soak'

soaks: install ## tests at a size, or of a matrix, that takes minutes, of which smaller forms run in make test or make integration
	PENSTOCK_PLAIN_BEAM=1 $(BIN)/python -m pytest -n $(WORKERS) -m soak

kills: install ## all that may end a stream, on Prism and on Flink, each end on a stream of its own; takes long, as root
	PENSTOCK_PLAIN_BEAM=1 PENSTOCK_TEST_KILLS=full $(BIN)/python -m pytest -m integration -rP tests/integration/test_kills.py

faults: install ## jobs on object stores through a hundred runs of faults and twenty kills, on each store; takes long
	PENSTOCK_PLAIN_BEAM=1 PENSTOCK_TEST_FAULTS=full $(BIN)/python -m pytest -m integration -rP tests/integration/test_store_faults.py

collections: kernel ## prepare each file of a folder of other people's files, and compare the values: COLLECTIONS=FOLDER
	PYTHONPATH=tests $(BIN)/python tests/collections/collection_runs.py $(COLLECTIONS)

sanitize: install ## the kernel's tests and its fuzzer, under AddressSanitizer and UBSan; needs gcc; PROFILE=full as for test
	tests/fuzz/sanitize.sh $(BIN)/python $(PROFILE)

build: install ## wheel and sdist, in dist/
	$(BIN)/python -m build --no-isolation

docs: install ## the documentation as a site, in build/site; a warning, such as a broken link, is an error
	$(BIN)/python -m sphinx --quiet --fail-on-warning --keep-going --conf-dir docs . $(SITE)

demo: install ## 336,776 flights from CSV to a verified dataset, in demo-output/
	$(BIN)/python examples/flights/fetch.py --output $(DEMO)/flights.csv --rows $(DEMO_ROWS)
	$(BIN)/python -m pipelines.prepare --config examples/flights/job.yaml --input $(DEMO)/flights.csv --output $(DEMO)/dataset --overwrite

stream-demo: install ## a stream in a minute and a half: a Kafka broker, payments, windows as they are published; needs Java 17 and Maven
	$(BIN)/python -m examples.stream.demo --output $(DEMO)/stream $(if $(PRISM),--prism_location $(PRISM))

kafka: install ## a Kafka broker on this machine, on localhost:9092; needs Java 17 and Maven
	$(BIN)/python -m deploy.kafka.local_broker start
	@echo "It runs on (docs/kafka.md). To end it: $(BIN)/python -m deploy.kafka.local_broker stop"

flink: install ## a Flink cluster on this machine, and prepare on it; needs Java 17 and Maven
	$(BIN)/python -m deploy.flink.local_cluster start
	$(BIN)/python -m deploy.flink.local_cluster run prepare --input examples/tips/tips.csv --output .flink/tips --overwrite --parallelism 2
	$(BIN)/python -m deploy.flink.local_cluster status
	@echo "It runs on, for jobs of yours (docs/flink.md). To end it: $(BIN)/python -m deploy.flink.local_cluster stop"

bench: install ## Penstock beside its peers on the same rows; benchmarks/README.md has BENCH_ARGS
	$(BIN)/python -m benchmarks.run $(BENCH_ARGS)

clean: ## remove what make made
	rm -rf $(VENV) .venv-newest $(DEMO) .flink .kafka benchmarks/.cache build dist src/*.egg-info .mypy_cache src/.mypy_cache .ruff_cache .pytest_cache .hypothesis
