"""Comparison of the server's log-probabilities with the trainer's: of one text, and of all trained tokens."""

from typing import Any

import torch
from accelerate import Accelerator
from torch import nn
from torch.distributed.fsdp import FSDPModule


# Ordinary text, which a language model finds likely: where it does not, rounding alone makes large differences.
TEXT = (
    "A baker sells 24 rolls in the morning and half as many in the afternoon. How many rolls does she sell on this "
    "day? In the afternoon she sells 24 / 2 = 12 rolls. Together these are 24 + 12 = 36 rolls, which is the same as "
    "$3 \\cdot 12$. So the answer is \\boxed{36}. Let us check it: 36 - 12 = 24, which is what she sold first."
)

MAX_TOKENS = 128  # of the text are compared, at most

# Largest mean difference of log-probabilities on TEXT, in nats per token, that rounding explains. A right server
# differed by 3e-7 in float32 on a CPU (by 1e-4 in TensorFloat-32), and by 0.04 to 0.05 in bfloat16, whose numbers have
# 8 bits (SmolLM2-135M; float16 has 11). Wrong ones, in bfloat16: 1.4 for one layer more, 1.1 for positions scaled by
# 2, 0.28 for another base of the rotations, 0.25 for YaRN; and in float32, with random weights, 0.5 and 0.1 for the
# first two.
TOLERANCES = {torch.float32: 2e-3, torch.float16: 0.03, torch.bfloat16: 0.15}

# The same for the tokens of a rollout. Means are 1e-6 in float32, and 0.01 to 0.04 in bfloat16.
USUAL_DIFFERENCES = {torch.float32: 2e-3, torch.float16: 0.02, torch.bfloat16: 0.1}

EIGHT_BIT = 0.5  # Either for a model in 8 bits, whose layers round what goes into them, too; the server's do not.


def tolerance(model: nn.Module, mixed_precision: str, by_dtype: dict[torch.dtype, float] = TOLERANCES) -> float:
    """Allowed mean difference in nats per token: by the coarsest type that the model keeps weights or computes in."""
    parameters = list(model.parameters())
    if any(type(parameter).__name__ == "Int8Params" for parameter in parameters):
        return EIGHT_BIT
    dtypes = {parameter.dtype for parameter in parameters}
    dtypes.add({"fp16": torch.float16, "bf16": torch.bfloat16}.get(mixed_precision, torch.float32))
    return by_dtype[max(dtypes & by_dtype.keys(), key=lambda dtype: torch.finfo(dtype).eps)]


def text_ids(processing_class: Any, vocab_size: int) -> list[int]:
    """The first tokens of [`TEXT`] that a model of this vocabulary knows; a tokenizer may have more."""
    tokenizer = getattr(processing_class, "tokenizer", processing_class)
    return [token for token in tokenizer(text=TEXT)["input_ids"] if token < vocab_size][:MAX_TOKENS]


@torch.no_grad()
def score_text(model: nn.Module, accelerator: Accelerator, ids: list[int]) -> torch.Tensor:
    """Log-probabilities `(T - 1,)` of a text in nats, at temperature 1, without dropout. All processes must call."""
    was_training = model.training
    input_ids = torch.tensor([ids], device=accelerator.device)
    model.eval()
    try:
        with accelerator.autocast():
            logits = model(input_ids=input_ids, attention_mask=torch.ones_like(input_ids)).logits
    finally:
        model.train(was_training)
        for module in model.modules():
            if isinstance(module, FSDPModule):
                module.reshard()  # the root keeps its weights whole until a backward pass, which does not follow
    return logits[0, :-1].float().log_softmax(dim=-1).gather(1, input_ids[0, 1:, None])[:, 0]


def find_difference(served: list[list[float]], trained: list[float], allowed: float) -> str | None:
    """What is wrong if the mean difference of an engine, a row of `served`, in nats, is above `allowed`."""
    differences = (torch.tensor(served, dtype=torch.float64) - torch.tensor(trained, dtype=torch.float64)).abs()
    means = differences.mean(dim=1)
    worst = int(means.argmax())  # NaN, if there is one
    if means[worst] <= allowed:
        return None
    return (
        "computes something else than the trainer, with the trainer's weights: on a text of "
        f"{len(trained) + 1} tokens their log-probabilities differ by {means[worst]:.3g} nats per token (by up to "
        f"{differences[worst].max():.3g}), where rounding explains {allowed:g}"
    )
