"""Generation by vLLM: checks before the start, faults of the server, adapters without drift."""
