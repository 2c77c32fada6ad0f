PYTHON ?= python
CC ?= cc
CFLAGS ?= -O3 -g -Wall -Wextra

NATIVE_C := $(wildcard src/covector/_native/*.c)
NATIVE_H := $(wildcard src/covector/_native/*.h)
ABI := $(shell $(PYTHON) -c "import sysconfig; print(sysconfig.get_config_var('EXT_SUFFIX'))")
OBJECTS := $(NATIVE_C:src/covector/_native/%.c=build/native$(ABI)/%.o)
NATIVE := src/covector/_native$(ABI)
INCLUDES := $(shell $(PYTHON) -c "import numpy, sysconfig; \
	print('-isystem', sysconfig.get_path('include'), '-isystem', numpy.get_include())")

.PHONY: help native test switches lint format types bench clean

help:  ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

native: $(NATIVE)  ## Compile the C extension in place, for development

$(NATIVE): $(OBJECTS)
	$(CC) -shared -o $@ $^ -lm -pthread

build/native$(ABI)/%.o: src/covector/_native/%.c $(NATIVE_H)
	@mkdir -p $(@D)
	$(CC) -std=gnu11 -fPIC -fvisibility=hidden -pthread $(CFLAGS) $(INCLUDES) -c -o $@ $<

test: native  ## Run the tests, in parallel
	$(PYTHON) -m pytest

# What compares results with other backends, JAX and difference quotients.
SUITES := tests/test_random_programs.py tests/transforms tests/interop tests/ops/test_control.py \
	tests/ops/test_while.py tests/ops/test_table.py tests/gallery
SWITCHES := $(shell PYTHONPATH=src $(PYTHON) -c \
	"from covector.core.config import OPTIMIZATIONS; print(*OPTIMIZATIONS)")

switches: native  ## Run what checks results with each optimisation left out
	for each in $(SWITCHES); do \
		echo "without $$each"; \
		COVECTOR_DISABLE=$$each $(PYTHON) -m pytest -q $(SUITES) || exit 1; \
	done

lint:  ## Check style and layers
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	PYTHONPATH=src $(PYTHON) -c "from importlinter.cli import lint_imports_command as run; run()"

format:  ## Format and sort imports
	$(PYTHON) -m ruff check --fix .
	$(PYTHON) -m ruff format .

types:  ## Check types, strictly
	$(PYTHON) -m pyright --pythonpath $(PYTHON)

bench: native  ## Measure, beside the peers that are installed
	$(PYTHON) -m benchmarks

clean:  ## Remove what was built
	rm -rf build src/covector/_native*.so
