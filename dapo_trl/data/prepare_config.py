"""Settings of `dapo-trl prepare-data`, and the checks on them."""

from dataclasses import MISSING, dataclass
from typing import Any

from ..checks.fields import option
from .templates import resolve_template


_NEEDS = {
    "max_prompt_tokens": ("tokenizer", "the tokenizer of the model to be trained"),
    "pass_rate_server": ("pass_rate_model", "the name of the model on the server"),
}


@dataclass
class PrepareConfig:
    """Settings of the command; a ValueError for combinations that cannot work."""

    source: str = option(MISSING, "Hub id, path of a .json, .jsonl or .parquet file, or a directory with such files.")
    output: str | None = option(None, "Directory to write to (as `./parent/name`), or `owner/name` on the Hub.")
    overwrite: bool = option(False, "Replace a data set already in the output directory.")
    private: bool = option(True, "Create the data set on the Hub as a private one.")
    split: str = option("train", "Split to read.")
    config_name: str | None = option(None, "Configuration of a data set on the Hub.")
    prompt_column: str | None = option(None, "Column or dotted path with the problem, if not found by name.")
    solution_column: str | None = option(None, "Column or dotted path with the answer, if not found by name.")
    prompt_template: str | None = option(
        None,
        "`dapo`, `boxed`, `plain`, or text with `{problem}`, put in place of a known template around it. "
        "Default: prompts stay as they are, bare problems get `dapo`.",
    )
    conversational: bool | None = option(None, "Prompts as messages (true) or texts (false). Default: as they are.")
    tokenizer: str | None = option(None, "Tokenizer (Hub id or path) to count tokens with.")
    max_prompt_tokens: int | None = option(None, "Leave out prompts with more tokens.")
    decontaminate: list[str] | None = option(None, "Evaluation files or Hub ids whose problems are to be left out.")
    decontaminate_split: str = option("train", "Split of the evaluation sets on the Hub.")
    pass_rate_model: str | None = option(None, "Model to measure pass rates with: Hub id, path, name on the server.")
    pass_rate_server: str | None = option(None, "OpenAI-compatible server, such as http://localhost:8000/v1.")
    num_generations: int = option(8, "Completions per prompt for the pass rate.")
    min_pass_rate: float = option(0.0, "Lowest pass rate to keep.")
    max_pass_rate: float = option(1.0, "Highest pass rate to keep.")
    max_completion_length: int = option(2048, "Longest completion for it, in tokens.")
    temperature: float = option(1.0, "Sampling temperature for the pass rate.")
    seed: int = option(42, "Seed of the sampling.")
    reward_funcs: list[str] = option(
        ["accuracy"], "Rewards that judge correctness, by name or dotted path; the first one tells pass rates."
    )
    answer_rule: str | None = option(None, "Answer rule of the `accuracy` reward: `auto`, `boxed` or `math_dapo`.")
    thinking_tags: list[str] | None = option(None, "Begin and end of the thinking. Default: <think> and </think>.")
    check: bool = option(False, "Score every reference answer as a completion; `min_frac_right` must be right.")
    check_sample: int | None = option(None, "Check so many rows only. Default: all.")
    min_frac_right: float = option(0.99, "Share of the reference answers that must score.")

    def __post_init__(self):
        if self.output is None and not self.check:
            raise ValueError("output=None with check=False leaves nothing to do. Give --output, --check or both.")
        if self.prompt_template is not None:
            resolve_template(self.prompt_template)
        for name, (needed, what) in _NEEDS.items():
            if getattr(self, name) is not None and getattr(self, needed) is None:
                raise ValueError(f"{name}={getattr(self, name)!r} needs {needed}. Give --{needed}, {what}.")
        for name in ("max_prompt_tokens", "num_generations", "check_sample"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 1. Leave it out for the default.")
        if not 0 <= self.min_pass_rate <= self.max_pass_rate <= 1:
            raise ValueError(
                f"min_pass_rate={self.min_pass_rate}, max_pass_rate={self.max_pass_rate}: not in order in [0, 1]."
            )
        if self.pass_rate_model is None and (self.min_pass_rate, self.max_pass_rate) != (0, 1):
            raise ValueError(
                f"min_pass_rate={self.min_pass_rate}, max_pass_rate={self.max_pass_rate}: a range needs "
                "pass_rate_model, the model to measure pass rates with."
            )

    def reading(self) -> dict[str, Any]:
        """What [`load_prompts`] is told besides the source."""
        names = ("split", "prompt_column", "solution_column", "prompt_template", "conversational")
        return {"config": self.config_name, **{name: getattr(self, name) for name in names}}
