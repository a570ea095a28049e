# Every target only calls a tool, and CI calls the same ones. PYTHON is the interpreter to begin with.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: help demo test check proto serve train bench bench-quick bench-peers profile real-data lock

help:  ## what can be made
	@grep -hE '^[a-z-]+:.*##' Makefile | sed 's/:.*##/\t/' | expand -t 12

demo: .venv/ready  ## simulate a bank, learn from it, serve, and let a few customers call in
	$(BIN)/rapport demo

test: .venv/ready  ## every test; those that hold a script to its microseconds by themselves
	$(BIN)/pytest -n 2 --dist loadfile -m "not alone"
	$(BIN)/pytest -m alone

check: .venv/ready  ## style, types, configuration, API, stubs
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/rapport config check config
	$(BIN)/rapport config check config/examples/bpi2012
	$(BIN)/buf lint
	$(BIN)/python -m tests.stubs

proto: .venv/ready  ## stubs from the .proto files
	$(BIN)/python -m tests.stubs --write

train: .venv/ready  ## a simulated log, and a bundle of models learnt from it
	$(BIN)/rapport simulate --fresh
	$(BIN)/rapport train

serve: .venv/ready  ## serve the sample business; 'make train' first for its models
	$(BIN)/rapport serve --data build/store --archive build/live $(if $(wildcard build/bundles/*),--bundle build/bundles)

bench: .venv/ready  ## what a decision costs, against a floor in the same run: about ten minutes
	$(BIN)/python -m tests.bench

bench-quick: .venv/ready  ## its ratios alone, in about a minute; fails where one got much worse
	$(BIN)/python -m tests.bench --quick --guard

profile: .venv/ready  ## where the microseconds of a decision go, step by step
	$(BIN)/python -m tests.bench.profile

bench-peers: build/bench/peers-venv/ready  ## what others take for the same work, where they install
	build/bench/peers-venv/bin/python -m tests.bench.peers

real-data: .venv/ready  ## all of it on a real bank's log, with the numbers it must meet
	$(BIN)/python -m tests.real_data

build/bench/peers-venv/ready: pyproject.toml
	@echo "Setting up the peers in a .venv of their own: about two minutes, once."
	@$(PYTHON) -m venv build/bench/peers-venv
	@build/bench/peers-venv/bin/python -m pip install --quiet --disable-pip-version-check ".[peers]"
	@touch $@

lock: .venv/ready  ## exact versions of everything, newest that fit
	$(BIN)/uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 --upgrade \
	  --no-header --no-annotate --no-emit-index-url --quiet --output-file requirements.lock

.venv/ready: requirements.lock pyproject.toml
	@echo "Setting up .venv: two to three minutes, once."
	@$(PYTHON) -m venv .venv
	@$(PIP) --requirement requirements.lock
	@$(PIP) --no-deps --no-build-isolation --editable .
	@echo "Compiling the kernels: about a minute."
	@$(BIN)/python -m service.warm
	@touch $@
