"""Settings of `dapo-trl evaluate`, and the checks on them."""

import json
from dataclasses import MISSING, dataclass

from ..checks.fields import option
from .presets import PRESETS


BACKENDS = ("transformers", "vllm", "server")
SERVER_APIS = ("completions", "chat")
# What a server may take from the model's own generation_config.json is sent with every request instead.
PLAIN_SAMPLING = {"min_p": 0.0, "repetition_penalty": 1.0}


@dataclass
class EvaluateConfig:
    """Settings of the command, checked; the sampling is the paper's (arXiv 2503.14476, Sec. 4.1)."""

    model: str = option(MISSING, "Directory or Hub id of a model or LoRA adapter; its name on the server.")
    data: str = option(MISSING, f"Preset ({', '.join(PRESETS)}), Hub id, .json(l) or .parquet file, directory.")
    k: int = option(32, "Samples per problem.")
    output_dir: str | None = option(None, "Default: `evaluation` in a local model, else outputs/evaluation/<model>.")
    data_file: str | None = option(None, "Local file to read in place of the preset's data set on the Hub.")
    data_split: str | None = option(None, "Split to read. Default: the preset's, else train.")
    data_config: str | None = option(None, "Configuration (subset) of a data set on the Hub.")
    prompt_column: str | None = option(None, "Column with the prompt or problem. Default: found by name.")
    solution_column: str | None = option(None, "Column with the reference answer. Default: found by name.")
    prompt_template: str | None = option(
        None,
        "`dapo`, `boxed`, `plain`, or text with {problem}. Default: as the model was trained; for models that this "
        "package has not trained, as the data has it, and `dapo` for bare problems.",
    )
    like: str | None = option(None, "Ask and judge as in the training of this model (directory or Hub id).")
    num_problems: int | None = option(None, "Evaluate the first so many problems only.")
    answer_rule: str | None = option(None, "`auto`, `boxed` or `math_dapo`. Default: as in training, else auto.")
    thinking_tags: list[str] | None = option(
        None,
        "Begin and end of the thinking, in which no answer is read. Default: as in training, else <think>, </think>.",
    )
    temperature: float = option(1.0, "Sampling temperature; 0 takes the most likely token (with k = 1).")
    top_p: float = option(0.7, "Nucleus sampling: the smallest set of tokens with this probability.")
    top_k: int = option(0, "Sample from so many tokens only; 0: from all.")
    max_completion_length: int = option(20480, "Longest completion in tokens.")
    seed: int = option(42, "Seed, from which every sample's own is made.")
    chat_template_kwargs: dict | str | None = option(
        None, "Arguments of the chat template, as JSON: '{\"enable_thinking\": false}'. Default: as in training."
    )
    backend: str = option("auto", "transformers, vllm, server, or auto: server with server_url, else transformers.")
    tokenizer: str | None = option(None, "Directory or Hub id of the tokenizer. Default: the model's.")
    revision: str | None = option(None, "Branch, tag or commit of a model on the Hub.")
    trust_remote_code: bool = option(False, "Run the code that comes with a model; read it before.")
    dtype: str = option("auto", "Type of the weights: auto, bfloat16, float16 or float32.")
    batch_size: int = option(32, "Completions at a time (transformers); may be lowered to continue an evaluation.")
    tensor_parallel_size: int = option(1, "GPUs that share the model (vllm).")
    gpu_memory_utilization: float = option(0.9, "Share of the GPU's memory to use (vllm).")
    vllm_extra: dict | str | None = option(None, "JSON for `vllm.LLM`, such as '{\"enforce_eager\": true}' (vllm).")
    server_url: str | None = option(None, "Base address of an OpenAI-compatible server: http://localhost:8000/v1.")
    server_api: str = option("completions", "completions: tokens are sent; chat: messages, without a tokenizer.")
    server_requests: int = option(64, "Requests under way at the same time (server).")
    server_timeout: float = option(3600.0, "Seconds to wait for one completion (server).")
    server_retries: int = option(6, "Attempts after an error of connection or server; waits of 1, 2, 4, ... seconds.")
    server_extra: dict | str | None = option(None, "More fields of requests, as JSON; `{}` for OpenAI's alone.")

    def __post_init__(self):
        for name in ("chat_template_kwargs", "vllm_extra", "server_extra"):
            setattr(self, name, _read_json(name, getattr(self, name)))
        if self.server_extra is None:
            self.server_extra = {"top_k": self.top_k or -1, **PLAIN_SAMPLING}
        if self.backend == "auto":
            self.backend = "server" if self.server_url else "transformers"
        _check_choices(self)
        _check_ranges(self)


def _read_json(name: str, value: dict | str | None) -> dict | None:
    if isinstance(value, dict) or value is None:
        return value
    try:
        parsed = json.loads(value)
    except ValueError:
        parsed = None
    if not isinstance(parsed, dict):
        raise ValueError(f"{name}={value!r} is not a JSON object. Write it as '{{\"name\": value}}'.")
    return parsed


def _check_choices(config: EvaluateConfig) -> None:
    from ..data.templates import resolve_template  # late: --help need not wait for the libraries behind these
    from ..rewards.answers import THINKING_TAGS
    from ..rewards.verifier import Verifier

    for name, known in (("backend", BACKENDS), ("server_api", SERVER_APIS)):
        if getattr(config, name) not in known:
            raise ValueError(f"{name}={getattr(config, name)!r} must be one of {', '.join(known)}.")
    if (config.backend == "server") != (config.server_url is not None):
        raise ValueError(
            f"backend={config.backend!r} with server_url={config.server_url!r}: a server needs its address, and only "
            "a server has one. Give --server_url (usually ending in /v1), or take it out."
        )
    tags = THINKING_TAGS if config.thinking_tags is None else config.thinking_tags
    Verifier(config.answer_rule or "auto", thinking_tags=tags)  # which checks both
    if config.prompt_template is not None:
        resolve_template(config.prompt_template)


def _check_ranges(config: EvaluateConfig) -> None:
    counts = ("k", "num_problems", "max_completion_length", "batch_size", "tensor_parallel_size", "server_requests")
    for names, is_allowed, rule in (
        (counts, lambda value: value is None or value >= 1, "be at least 1"),
        (("temperature", "top_k", "server_retries"), lambda value: value >= 0, "not be negative"),
        (("top_p", "gpu_memory_utilization"), lambda value: 0 < value <= 1, "be above 0 and at most 1"),
        (("server_timeout",), lambda value: value > 0, "be a positive number of seconds"),
    ):
        for name in names:
            if not is_allowed(getattr(config, name)):
                raise ValueError(f"{name}={getattr(config, name)} must {rule}.")
    if config.temperature == 0 and config.k > 1:
        raise ValueError(
            f"temperature=0 with k={config.k}: samples would be equal. Set k to 1, or raise the temperature."
        )
