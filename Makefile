# make run     set everything up and serve on http://127.0.0.1:8000
# make test    set everything up and run every test, in TEST_PROCESSES=2 processes
# make lint    ruff, mypy and the directions of imports
# make export  the room page as static files in dist/, for any static host
#
# Without an NVIDIA GPU, PyTorch's CPU wheels save gigabytes: make run TORCH_INDEX=<their index URL>

PYTHON ?= python3
TORCH_INDEX ?=
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
EXPORT_TO ?= dist
TEST_PROCESSES ?= 2
# A machine that was busy elsewhere for a while lets a browser miss a time limit. A test that does is
# run once more, a few in all; the report names them and says why.
AGAIN := --reruns 1 --max-suite-reruns 5 -raR \
	--only-rerun "Timeout|did not happen within|Locator expected"
EXTRA_INDEX := $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX))

.PHONY: run test test-only lint export admin clean

run: $(VENV)/run.stamp
	@exec $(BIN)/python manage.py serve $(ARGS)

test: lint test-only

# Tests start some two hundred processes: what is compiled for one is kept for the next.
test-only: export PYTHONDONTWRITEBYTECODE :=
test-only: $(VENV)/test.stamp
	@sh scripts/system-packages.sh chromium redis-server postgresql mesa-vulkan-drivers
	$(BIN)/python -m pytest -n $(TEST_PROCESSES) --dist loadfile $(AGAIN) $(ARGS)

lint: $(VENV)/test.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy p2pweb rooms queue/genqueue queue/diffusion
	PYTHONPATH=.:queue $(BIN)/lint-imports

export: $(VENV)/export.stamp
	$(BIN)/python manage.py export_site $(EXPORT_TO) $(ARGS)

admin: $(VENV)/run.stamp
	@$(BIN)/python manage.py migrate --verbosity 0
	@$(BIN)/python manage.py createsuperuser

$(VENV)/bin/python:
	@sh scripts/system-packages.sh --venv $(PYTHON)
	$(PYTHON) -m venv $(VENV)

# The stamps hold what was installed: a changed requirement is installed at the next start.
$(VENV)/run.stamp: requirements.txt pyproject.toml | $(VENV)/bin/python
	$(PIP) install --quiet $(EXTRA_INDEX) -r requirements.txt
	@touch $@

# An export computes nothing, and can do without gigabytes.
$(VENV)/export.stamp: requirements.txt pyproject.toml | $(VENV)/bin/python
	grep -Ev '^(torch|diffusers|transformers|wgpu)==' requirements.txt > $(VENV)/export.txt
	$(PIP) install --quiet -r $(VENV)/export.txt
	@touch $@

$(VENV)/test.stamp: requirements-dev.txt requirements-webrtc.txt requirements.txt pyproject.toml | $(VENV)/bin/python
	$(PIP) install --quiet $(EXTRA_INDEX) -r requirements-dev.txt
	@touch $@ $(VENV)/run.stamp

clean:
	rm -rf $(VENV) staticfiles test-results .mypy_cache .ruff_cache .pytest_cache .hypothesis
