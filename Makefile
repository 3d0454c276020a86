# make quickstart   raw images -> certified report, with all the set-up that it needs
# make test         the quick suite, in minutes, with all the set-up that it needs
# make test-all     the whole suite: kill campaigns, clusters that lose nodes, sanitizers too
# make monitor      Prometheus on http://127.0.0.1:9090, watching the runs of this machine
# make reliability  training killed again and again: what survives, as a table
# make test-gpu     the operators against float64 on this machine's GPU
# make bench-gpu    compile, check and time them there; results as JSON
# make check        style, types, import rules, shipped configs
# make setup        environment, dependencies, compiled kernels, the Fashion-MNIST files

PYTHON ?= python3
VENV   ?= .venv
MONITOR_PORT ?= 9090
BIN    := $(VENV)/bin
CSRC   := $(shell find kernels/csrc tests -name '*.h' -o -name '*.cpp' -o -name '*.cu')

.PHONY: quickstart monitor reliability test test-all test-gpu bench-gpu check format setup clean

quickstart: setup
	$(BIN)/python -m pipeline run configs/quickstart.yaml

test: setup
	$(BIN)/pytest -m "not slow and not gpu"

test-all: setup
	$(BIN)/pytest

test-gpu: setup
	$(BIN)/pytest -m gpu

bench-gpu: setup
	$(BIN)/python -m kernels.bench.gpu --json gpu-$(shell date +%F).json

monitor:
	@command -v prometheus >/dev/null || { echo "needs prometheus; on Debian: apt-get install prometheus" >&2; exit 2; }
	mkdir -p runs/.metrics/targets
	prometheus --config.file=configs/monitoring/prometheus.yml --storage.tsdb.path=runs/.metrics/prometheus \
	  --web.listen-address=127.0.0.1:$(MONITOR_PORT)

reliability: setup
	$(BIN)/python -m tests.reliability.campaign

check: $(VENV)/dependencies
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/clang-format --dry-run --Werror $(CSRC)
	$(BIN)/mypy
	$(BIN)/lint-imports
	for config in configs/*.yaml; do $(BIN)/python -m pipeline check "$$config" || exit; done

format: $(VENV)/dependencies
	$(BIN)/ruff check --fix
	$(BIN)/ruff format
	$(BIN)/clang-format -i $(CSRC)

setup: $(VENV)/kernels data/fashion_mnist

# A file in $(VENV) marks each step that is done; touching what it depends on does it again.
$(VENV)/dependencies: pyproject.toml constraints.txt
	bash system-packages.sh "$(PYTHON)"
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

$(VENV)/kernels: $(VENV)/dependencies kernels/build.py $(CSRC)
	$(BIN)/python -m kernels.build
	touch $@

data/fashion_mnist: | $(VENV)/dependencies
	$(BIN)/python -m pipeline fetch fashion_mnist --to $@

clean:
	rm -rf $(VENV) kernels/_build build *.egg-info
