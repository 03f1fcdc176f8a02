"""DAPO (https://huggingface.co/papers/2503.14476) as a Hugging Face TRL trainer."""

__version__ = "0.1.0"
