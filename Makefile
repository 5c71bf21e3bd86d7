# Two commands: `make demo` maps a real scene, `make test` runs every test. Both install what they need.
VENV   ?= .venv
PYTHON ?= python3
BIN    := $(VENV)/bin

.PHONY: demo test browser coverage lint bench install fuzz fuzz-models web web-tools clean

# The environment is made once for each state of the two files that define it.
$(VENV)/.installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[train,demo,openvino,onnx,test]'
	touch $@

install: $(VENV)/.installed

# The multispectral WorldView-3 scene of the package `dgsamples`: a suburb of Longmont, Colorado, at 1.2 m.
SCENE = $(BIN)/python -c 'import glob, dgsamples; print(*glob.glob(dgsamples.wv3_longmont_1k["path"] + "/*_MUL/*.TIF"))'

demo: install
	$(BIN)/geounet predict "$$($(SCENE))" --bands red=5,green=3,blue=2 --out demo --overwrite

test: install
	$(BIN)/python -m pytest

# Beside `test`, not in it: tracing branches makes the suite slower.
# The page in Debian's Chromium, step by step. Not part of `make test`.
browser: install web-tools
	GEOUNET_BROWSER=yes $(BIN)/python -m pytest tests/api/test_browser.py

coverage: install
	$(BIN)/python -m pytest --cov --cov-report=term:skip-covered

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy tests benchmarks
	$(BIN)/lint-imports

# The page with the map: its build is committed, and only who changes its sources needs Node (20 or newer).
web:
	cd api/pages/web && npm ci --no-audit --no-fund && npm run build

# What the tests in the browser want; without it they are skipped, and say so.
web-tools:
	command -v node npm chromium > /dev/null || { apt-get update -qq && apt-get install --yes -qq nodejs npm chromium; }
	cd api/pages/web && npm ci --no-audit --no-fund --ignore-scripts

bench: install
	$(BIN)/python -m benchmarks.end_to_end
	$(BIN)/python -m benchmarks.peers
	$(BIN)/python -m benchmarks.agreement
	$(BIN)/python -m benchmarks.scaling
	$(BIN)/python -m benchmarks.precision
	$(BIN)/python benchmarks/polygons.py

# Ten minutes of mutated GeoTIFFs through the reader of directories, and as many through the process that opens uploads.
fuzz: install
	GEOUNET_FUZZ_SECONDS=600 $(BIN)/python -m pytest -q -s tests/security/test_fuzz.py

# Ten minutes of mutated ONNX files through everything that a brought model goes through.
fuzz-models: install
	GEOUNET_FUZZ_SECONDS=600 $(BIN)/python -m pytest -q -s tests/geounet/test_models_fuzz.py

clean:
	rm -rf $(VENV) demo build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
