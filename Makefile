# Every target only calls a tool; CI calls the same ones. PYTHON names the interpreter to begin with.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test check proto serve train bench real-data lock

.venv/ready: requirements.lock pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --requirement requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --editable .
	touch $@

proto: .venv/ready  ## stubs from the .proto files
	$(BIN)/python -m grpc_tools.protoc -I proto --python_out=proto --grpc_python_out=proto \
	  --mypy_out=proto --mypy_grpc_out=proto $$(cd proto && find rapport -name '*.proto' | sort)
