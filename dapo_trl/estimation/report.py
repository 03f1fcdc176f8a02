"""An estimate as text."""

from .estimate import Changes, Estimate
from .memory import RESERVE, Budget
from .rollout import ENGINE_OVERHEAD, SERVER_UTILIZATION, TOKEN_SECONDS
from .scenario import GIB, Scenario


def format_estimate(scenario: Scenario, found: Estimate) -> str:
    """All of an estimate but what to change."""
    size, rollout, generator, args = found.size, found.rollout, found.generator, found.recipe.training_args
    without_embeddings = _billions(size.num_parameters - size.num_embedding)
    adapters = f"\nTrained      {_billions(size.num_trained)} parameters of adapters" if size.has_adapters else ""
    assumed = "" if scenario.sharding else " (assumed: no --accelerate-config is given)"
    place = {
        "server": f"a vLLM server on {generator.num_copies * generator.gpus_per_copy} x {scenario.gpu_memory:g} GiB, "
        f"{generator.num_copies} copies of the model",
        "colocate": "vLLM on the same GPUs",
        "transformers": "transformers",
    }[generator.kind]
    budgets = "\n".join(map(_format_budget, found.budgets))
    host = f"\n  In CPU memory, for each GPU {found.states.host / GIB:5.1f}" if found.states.host else ""
    return f"""\
Model        {found.recipe.model_args.model_name_or_path}: {_billions(size.num_parameters)} parameters, \
{without_embeddings} without embeddings{adapters}
Trainer      {scenario.gpus} x {scenario.gpu_memory:g} GiB, {found.sharding}{assumed}
Generation   {place}

Rollout      {rollout.num_generated} completions generated, {rollout.num_trained} trained on in \
{args.optimizer_steps_per_rollout} updates
Tokens       {rollout.num_generated * rollout.completion / 1e6:.3g} M generated, \
{rollout.num_trained * rollout.row / 1e6:.3g} M trained on with their prompts
KV cache     {generator.kv_bytes_per_token} bytes per token, {generator.kv_tokens * generator.num_copies} tokens in \
all: {generator.num_running(rollout.row) * generator.num_copies} usual completions at once

Memory of one GPU in GiB
{budgets}{host}

Assumed (options of this command change the first three lines)
  {scenario.peak:g} TFLOP/s at {scenario.mfu:.0%}, {scenario.bandwidth:g} GB/s at {scenario.bandwidth_utilization:.0%}
  {scenario.acceptance:.0%} of the groups are informative
  prompts of {scenario.prompt_length} tokens, completions of {scenario.completion_length or "a quarter of the longest"}
  {RESERVE / GIB:g} GiB in reserve; a vLLM engine takes {ENGINE_OVERHEAD / GIB:g} GiB beside weights, keys and \
values, a server {SERVER_UTILIZATION:.0%} of its GPUs
  a token takes at least {TOKEN_SECONDS["vllm"] * 1e3:g} ms with vLLM, {TOKEN_SECONDS["transformers"] * 1e3:g} ms \
with transformers
  not counted: rewards, sending weights, padding, checkpoints, the start, traffic with CPU memory

{summarize(scenario, found)}
"""


def summarize(scenario: Scenario, found: Estimate) -> str:
    """An estimate in a sentence."""
    args = found.recipe.training_args
    peak = max(budget.total for budget in found.budgets if "server" not in budget.phase)
    phases = ", ".join(f"{name} {seconds / 60:.1f}" for name, seconds in found.seconds.items())
    seconds = sum(found.seconds.values())
    sentence = (
        f"{peak / GIB:.1f} of {scenario.gpu_memory:g} GiB at most on a GPU of the trainer; "
        f"{seconds / 60:.1f} minutes per rollout ({phases})"
    )
    if args.max_steps > 0:
        num_rollouts = args.max_steps / args.optimizer_steps_per_rollout
        sentence += f", {_count(seconds * num_rollouts / 3600, 'hour')} for {_count(num_rollouts, 'rollout')}"
    return sentence + "."


def format_problems(found: Estimate, remedy: tuple[Changes, Estimate] | None) -> str:
    """What does not fit, and what to change."""
    lines = []
    for budget in found.budgets:
        if budget.excess:
            largest = max(budget.parts, key=lambda name: budget.parts[name])
            lines.append(
                f"{budget.phase} does not fit: {budget.excess / GIB:.1f} GiB too much. The largest part is {largest}."
            )
    if remedy is None:
        return "\n".join(
            [*lines, "No change to the recipe known to this command suffices: take more or larger GPUs.\n"]
        )
    changes, changed = remedy
    lines.append(f"It fits, at {sum(changed.seconds.values()) / 60:.1f} minutes per rollout, with")
    lines += [f"  {name}: {str(value).lower()}" for name, value in changes.items()]
    if changed.states.host:
        lines.append(
            "Offloading is slower than these minutes say: traffic with CPU memory is not estimated. For each GPU it "
            f"keeps {changed.states.host / GIB:.1f} GiB of weights, gradients and optimizer states in CPU memory; "
            "the rest there is not estimated."
        )
    return "\n".join(lines) + "\n"


def _format_budget(budget: Budget) -> str:
    parts = ", ".join(f"{name} {size / GIB:.1f}" for name, size in budget.parts.items() if size >= 0.05 * GIB)
    verdict = f"{budget.excess / GIB:.1f} TOO MUCH" if budget.excess else "fits"
    return f"  {budget.phase:<27}{budget.total / GIB:6.1f} of {budget.limit / GIB:.1f}  {verdict}: {parts}"


def _count(number: float, unit: str) -> str:
    text = f"{number:.0f}"
    return f"{text} {unit}" if text == "1" else f"{text} {unit}s"


def _billions(number: int) -> str:
    return f"{number / 1e9:.2f} B" if number >= 1e9 else f"{number / 1e6:.1f} M"
