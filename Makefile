# Every target works alone on a fresh machine: it makes the virtual environment it needs first.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: install demo test quality format clean

install: $(VENV)/.installed

$(VENV)/.installed: setup.cfg constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --constraint constraints.txt --editable ".[demo,dev]"
	@# DeepSpeed's build asks the installed torch; without its compiled operators it takes seconds.
	DS_BUILD_OPS=0 $(BIN)/pip install --constraint constraints.txt --no-build-isolation deepspeed
	touch $@

# Warm-starts a tiny model on worked arithmetic, trains it with DAPO, prints accuracy before and after.
demo: install
	$(BIN)/python -m demo.run

test: install
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile

quality: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) outputs build dist *.egg-info
