# Everything on a machine that has only Python and make.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
TORCHVISION_VENV ?= .venv-torchvision
SPACES_VENV ?= .venv-spaces
OLDEST_TRANSFORMERS ?= .oldest-transformers
# Where Node is: its packages for the test of exported files.
TRANSFORMERS_JS ?= $(if $(shell command -v npm),.transformers-js)
OUTPUT ?= outputs/quickstart
# For pytest: make test PYTEST_ARGS="-k tokenizer"
PYTEST_ARGS ?=
# All tests run in so many processes with one thread each; a file's tests stay together, since they share what it prepares.
PROCESSES ?= 2
PYTEST_PACKAGES := pytest pytest-timeout pytest-xdist
PYTEST := -m pytest --numprocesses $(PROCESSES) --dist loadfile
PIP_INSTALL := -m pip install --quiet --disable-pip-version-check

.PHONY: help install quickstart quickstart-fgclip2 test test-all test-gpu test-torchvision test-spaces wheel lint format docs clean

help:
	@echo "make quickstart  generate data, train both stages, evaluate, draw figures (about 8 minutes on 2 cores)"
	@echo "make quickstart-fgclip2  the same with a small FG-CLIP 2"
	@echo "make test        the fast tests"
	@echo "make test-all    the slow ones too, and those that need an extra"
	@echo "make test-torchvision  detection and the adapters that need torchvision, in an environment of their own"
	@echo "make test-spaces  the demos, in an environment of their own"
	@echo "make test-gpu    what only a GPU shows (some minutes; needs one of 80 GB)"
	@echo "make wheel       builds the wheel and runs its commands in an environment of their own (about two minutes)"
	@echo "make lint        ruff check and format check"
	@echo "make format      ruff format and safe fixes"
	@echo "make docs        the API reference, from the docstrings, in outputs/docs"
	@echo "make clean       remove the virtual environment, caches and outputs/"

# Re-installed only when the requirements change.
$(VENV)/.installed: setup.cfg constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python $(PIP_INSTALL) -c constraints.txt -e ".[dev]"
	@touch $@

# Every extra that the pinned versions allow.
$(VENV)/.installed-all: $(VENV)/.installed
	$(BIN)/python $(PIP_INSTALL) -c constraints.txt \
		-e ".[dev,deepspeed,docs,export,llava,quantize,ray,search,sentence-transformers,serve,vector-databases]"
	@touch $@

$(OLDEST_TRANSFORMERS): $(VENV)/.installed
	$(BIN)/python $(PIP_INSTALL) --no-deps --target $@ transformers==5.17.0 huggingface_hub==1.33.0 \
		|| { rm -rf $@; exit 1; }

# The tokenizers and models of exported files in JavaScript; no package's own program is run.
.transformers-js:
	npm install --ignore-scripts --no-audit --no-fund --silent --prefix $@ @huggingface/transformers@4.3.1 || { rm -rf $@; exit 1; }

install: $(VENV)/.installed

quickstart: install
	$(BIN)/python -m training.quickstart --output $(OUTPUT)

quickstart-fgclip2: install
	$(BIN)/python -m training.quickstart --output $(OUTPUT)-fgclip2 --family fgclip2

test test-all test-torchvision test-spaces: export OMP_NUM_THREADS = 1

test: install
	$(BIN)/python $(PYTEST) $(PYTEST_ARGS)

# What DeepSpeed compiles is kept in the environment that it is compiled for.
test-all: export FGCLIP_OLDEST_TRANSFORMERS = $(abspath $(OLDEST_TRANSFORMERS))
test-all: export FGCLIP_TRANSFORMERS_JS = $(abspath $(TRANSFORMERS_JS))
# The checks of tests/gpu, on the CPU.
test-all: export FGCLIP_TEST_DEVICE = cpu
test-all: export TORCH_EXTENSIONS_DIR = $(abspath $(VENV))/torch-extensions
test-all: $(VENV)/.installed-all $(OLDEST_TRANSFORMERS) $(TRANSFORMERS_JS)
	$(BIN)/python $(PYTEST) -m "slow or not slow" $(PYTEST_ARGS)

# Of its own: PyPI's torchvision is the CUDA build, which breaks the pinned CPU torch.
$(TORCHVISION_VENV)/.installed: setup.cfg
	$(PYTHON) -m venv $(TORCHVISION_VENV)
	$(TORCHVISION_VENV)/bin/python $(PIP_INSTALL) torch==2.14.1 torchvision==0.29.1
	$(TORCHVISION_VENV)/bin/python $(PIP_INSTALL) -e ".[detection,open-clip,figures]" "transformers==5.23.*" $(PYTEST_PACKAGES)
	@touch $@

test-torchvision: $(TORCHVISION_VENV)/.installed
	FGCLIP_REQUIRE_TORCHVISION=1 $(TORCHVISION_VENV)/bin/python $(PYTEST) -m "slow or not slow" \
		tests/eval/detection tests/training/detection tests/eval/test_*adapter*.py $(PYTEST_ARGS)

# Of its own: gradio needs an older Pillow than constraints.txt pins.
$(SPACES_VENV)/.installed: setup.cfg constraints.txt
	$(PYTHON) -m venv $(SPACES_VENV)
	$(SPACES_VENV)/bin/python $(PIP_INSTALL) -e ".[spaces]" \
		$$(grep -E "^(torch|transformers|huggingface_hub)==" constraints.txt) $(PYTEST_PACKAGES)
	@touch $@

test-spaces: $(SPACES_VENV)/.installed
	$(SPACES_VENV)/bin/python $(PYTEST) -m "slow or not slow" tests/spaces --ignore tests/spaces/api $(PYTEST_ARGS)

# All other tests are of the CPU, also beside a GPU.
test-gpu: export FGCLIP_TEST_DEVICE = cuda
test-gpu: install
	$(BIN)/python -m pytest tests/gpu $(PYTEST_ARGS)

# The requirements are this environment's; .ci/wheel alone installs them anew.
wheel: install
	PYTHON=$(BIN)/python FGCLIP_SITE=$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))') .ci/wheel

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: install
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[docs]"
	$(BIN)/python docs/api.py outputs/docs

clean:
	rm -rf $(VENV) $(TORCHVISION_VENV) $(SPACES_VENV) $(OLDEST_TRANSFORMERS) .transformers-js .pytest_cache .ruff_cache *.egg-info outputs
