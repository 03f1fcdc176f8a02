"""
A trainer in a second, nothing downloaded: tiny model, character tokenizer, scripted completions.

Example:

```python
>>> from tests.helpers import train, weights

>>> trainer = train(DAPOTrainer, {"updates_per_rollout": 3, "max_steps": 6})
>>> weights(trainer.model)
```
"""

import atexit
import functools
import gc
import random
import string
import tempfile
from typing import Any

import torch
from datasets import Dataset
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import OPTConfig, OPTForCausalLM, PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM
from trl import GRPOConfig

from dapo_trl import DAPOConfig, DAPOTrainer


SPECIAL_TOKENS = ("<pad>", "<eos>", "<unk>", "<|im_start|>", "<|im_end|>")
CHARACTERS = string.ascii_letters + string.digits + string.punctuation + " \n"
VOCABULARY = {token: number for number, token in enumerate((*SPECIAL_TOKENS, *CHARACTERS))}
EOS = VOCABULARY["<eos>"]
FIRST_CHARACTER = len(SPECIAL_TOKENS)
MAX_COMPLETION_LENGTH = 16

CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

BASE_CONFIG = {
    "use_cpu": True,
    "bf16": False,
    "gradient_checkpointing": False,
    "report_to": "none",
    "disable_tqdm": True,
    "save_strategy": "no",
    "logging_steps": 1,
    "lr_scheduler_type": "constant",
    "learning_rate": 1e-3,
    "per_device_train_batch_size": 4,
    "gradient_accumulation_steps": 2,
    "num_generations": 4,
    "max_completion_length": MAX_COMPLETION_LENGTH,
    "max_steps": 6,
}
"""What every test starts from: 8 completions per optimizer step, groups of 4."""

_SCRATCH = tempfile.TemporaryDirectory()
atexit.register(_SCRATCH.cleanup)


def tiny_model(seed: int = 0, dtype: torch.dtype = torch.float32, **config) -> Qwen2ForCausalLM:
    """A Qwen2 of 30 thousand parameters, randomly initialized."""
    torch.manual_seed(seed)
    defaults = {
        "vocab_size": 128,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "pad_token_id": VOCABULARY["<pad>"],
        "eos_token_id": EOS,
        "bos_token_id": None,
        "tie_word_embeddings": True,
    }
    return Qwen2ForCausalLM(Qwen2Config(**defaults | config)).to(dtype)


def exact_model(seed: int = 0) -> OPTForCausalLM:
    """
    A tiny OPT in float64, whose results depend on padding by 1e-15 only.

    OPT computes nothing in float32 whatever the model's type, as newer models do norms and rotary embeddings, and its
    positions do not count padding. So two ways to compute the same weights agree to what float32 leaves of advantages
    and denominators, and a small error is not mistaken for rounding.
    """
    torch.manual_seed(seed)
    config = OPTConfig(
        vocab_size=128,
        hidden_size=32,
        word_embed_proj_dim=32,
        ffn_dim=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=128,
        dropout=0.0,
        init_std=0.1,
        pad_token_id=VOCABULARY["<pad>"],
        eos_token_id=EOS,
        bos_token_id=None,
    )
    return OPTForCausalLM(config).to(torch.float64)


def char_tokenizer(chat_template: str | None = None, eos_token: str = "<eos>") -> PreTrainedTokenizerFast:
    """
    One token per printable character.

    Args:
        chat_template (`str`, *optional*): makes it a tokenizer for conversations; [`CHAT_TEMPLATE`] is a small one.
        eos_token (`str`): one of [`SPECIAL_TOKENS`].
    """
    tokenizer = Tokenizer(models.WordLevel(VOCABULARY, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token=eos_token,
        unk_token="<unk>",
        additional_special_tokens=["<|im_start|>", "<|im_end|>"],
        padding_side="left",
        chat_template=chat_template,
    )


def prompt_dataset(num_prompts: int = 40, is_conversational: bool = False) -> Dataset:
    """Different prompts of unequal lengths, with a column `number` that counts them."""
    texts = [f"p{i}={'x' * (i % 5)}" for i in range(num_prompts)]
    prompts = [[{"role": "user", "content": text}] for text in texts] if is_conversational else texts
    return Dataset.from_dict({"prompt": prompts, "number": list(range(num_prompts))})


class ScriptedRollouts:
    """
    A `rollout_func` whose completions depend only on the prompt, the position in its group, and the optimizer step.

    So they are the same for any number of processes, and however the prompts are spread over calls. About four fifths
    of the groups are informative under [`correct`].

    Args:
        min_tokens, max_tokens (`int`): bounds of a completion's length, `<eos>` included.
        frac_truncated (`float`): share of the completions that lack `<eos>`.
        has_logprobs (`bool`): return (made-up) sampling log-probabilities.
        has_env_mask (`bool`): return an `env_mask` in which the first token and some others are the model's.
        seed (`int`): another seed gives other completions.

    Attributes:
        num_rows (`list[int]`): rows of each call so far, on this process.
    """

    def __init__(
        self,
        min_tokens: int = 2,
        max_tokens: int = 13,
        frac_truncated: float = 0.0,
        has_logprobs: bool = False,
        has_env_mask: bool = False,
        seed: int = 0,
    ):
        self.min_tokens = min_tokens
        self.max_tokens = max_tokens
        self.frac_truncated = frac_truncated
        self.has_logprobs = has_logprobs
        self.has_env_mask = has_env_mask
        self.seed = seed
        self.num_rows: list[int] = []

    def __call__(self, prompts: list, trainer: Any) -> dict[str, list]:
        self.num_rows.append(len(prompts))
        training = trainer.model.training
        num_generations = trainer.num_generations if training else trainer.num_generations_eval
        first = trainer.accelerator.process_index * len(prompts)
        prompt_ids = [encode_prompt(prompt, trainer.processing_class) for prompt in prompts]
        step = trainer.state.global_step
        rows = [self.row(prompt, row % num_generations, step) for row, prompt in enumerate(prompts, start=first)]
        completion_ids, logprobs, env_mask = map(list, zip(*rows, strict=True))
        output = {
            "prompt_ids": prompt_ids,
            "completion_ids": completion_ids,
            "logprobs": logprobs if self.has_logprobs else None,
        }
        return output | {"env_mask": env_mask} if self.has_env_mask else output

    def completion(self, prompt: Any, position: int, global_step: int) -> list[int]:
        """Tokens of one completion."""
        return self.row(prompt, position, global_step)[0]

    def row(self, prompt: Any, position: int, global_step: int) -> tuple[list[int], list[float], list[int]]:
        """Tokens, sampling log-probabilities and environment mask of one completion."""
        draw = random.Random(f"{self.seed} {prompt_text(prompt)} {position} {global_step}")
        num_tokens = draw.randint(self.min_tokens, self.max_tokens)
        is_truncated = draw.random() < self.frac_truncated
        tokens = [draw.randrange(FIRST_CHARACTER, len(VOCABULARY)) for _ in range(num_tokens - 1)]
        tokens.append(draw.randrange(FIRST_CHARACTER, len(VOCABULARY)) if is_truncated else EOS)
        logprobs = [-draw.uniform(2, 6) for _ in tokens]
        env_mask = [1] + [1 if not self.has_env_mask else int(draw.random() < 0.6) for _ in tokens[1:]]
        return tokens, logprobs, env_mask


def prompt_text(prompt: Any) -> str:
    """A plain prompt, or the last message of a conversation."""
    return prompt if isinstance(prompt, str) else prompt[-1]["content"]


def encode_prompt(prompt: Any, tokenizer: PreTrainedTokenizerFast) -> list[int]:
    """Tokens of a prompt, plain or conversational."""
    if not isinstance(prompt, str):
        prompt = tokenizer.apply_chat_template(prompt, add_generation_prompt=True, tokenize=False)
    return tokenizer(prompt)["input_ids"]


def is_correct(completion_ids: list[int]) -> bool:
    """Whether a scripted completion counts as right: a third does."""
    return completion_ids[0] % 3 == 0


def correct(completion_ids: list[list[int]], **kwargs) -> list[float]:
    """The deciding reward of the tests: +1 or -1 (DAPO Eq. 7)."""
    return [1.0 if is_correct(ids) else -1.0 for ids in completion_ids]


def build(cls: type, config: dict[str, Any] | None = None, **arguments) -> Any:
    """
    A trainer on [`BASE_CONFIG`], tiny model and scripted completions.

    Args:
        cls (`type`): `DAPOTrainer` or `GRPOTrainer`.
        config (`dict`, *optional*): fields that differ from [`BASE_CONFIG`]; `output_dir` defaults to a fresh one.
        **arguments: arguments of the trainer that differ; `rollout_func=None` generates with the model.
    """
    fields = BASE_CONFIG | {"output_dir": tempfile.mkdtemp(dir=_SCRATCH.name)}
    if issubclass(cls, DAPOTrainer):
        fields |= {"warmup_rollouts": 0, "updates_per_rollout": 1}
    fields |= config or {}
    makers = {
        "model": tiny_model,
        "train_dataset": prompt_dataset,
        "processing_class": char_tokenizer,
        "rollout_func": ScriptedRollouts,
    }
    arguments = {name: make() for name, make in makers.items() if name not in arguments} | arguments
    config_class = DAPOConfig if issubclass(cls, DAPOTrainer) else GRPOConfig
    return cls(**{"reward_funcs": correct} | arguments, args=config_class(**fields))


def train(cls: type, config: dict[str, Any] | None = None, **arguments) -> Any:
    """[`build`], then train; returns the trainer."""
    trainer = build(cls, config, **arguments)
    trainer.train()
    _spare_garbage_collection()
    return trainer


@functools.cache
def _spare_garbage_collection() -> None:
    """Every training collects garbage, and would spend half of its time on the libraries' objects."""
    gc.collect()
    gc.freeze()


def weights(model: torch.nn.Module) -> torch.Tensor:
    """All parameters in one vector, a copy."""
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()]).clone()


def largest_difference(a: torch.Tensor, b: torch.Tensor) -> float:
    """The largest absolute difference."""
    return (a - b).abs().max().item()
