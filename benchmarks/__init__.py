"""Side-by-side measurements: `make bench`; the tables are in README.md."""

import os


# Before the first import of a Hugging Face library. One thread: a model this small gains little from more, and
# processor seconds then mean the same as seconds of a machine of its own.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("OMP_NUM_THREADS", "1")
