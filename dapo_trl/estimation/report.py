"""An estimate as text."""

from .generation import ENGINE_OVERHEAD, SERVER_UTILIZATION, STEP_SECONDS
from .hardware import GIB
from .memory import RESERVE, Budget
from .remedies import Remedy
from .run import Estimate, Question


def format_estimate(question: Question, found: Estimate) -> str:
    """All of an estimate but what to change."""
    lines = [
        *_model_lines(question, found),
        "",
        *_rollout_lines(found),
        "",
        "Memory of one GPU in GiB",
        *(_budget_line(budget) for budget in found.budgets),
        *_host_lines(found),
        "",
        *_assumption_lines(question),
        "",
        summarize(question, found),
    ]
    return "\n".join(lines) + "\n"


def _model_lines(question: Question, found: Estimate) -> list[str]:
    size, hardware = found.size, question.hardware
    lines = [
        f"Model        {found.recipe.model_args.model_name_or_path}: {_billions(size.num_parameters)} parameters, "
        f"{_billions(size.num_parameters - size.num_embedding)} without embeddings"
    ]
    if size.has_adapters:
        lines.append(f"Trained      {_billions(size.num_trained)} parameters of adapters")
    generator = found.generator
    places = f"{generator.num_copies * generator.gpus_per_copy} x {hardware.gpu_memory:g} GiB"
    copies = f"{generator.num_copies} copies of the model"
    kinds = {
        "server": f"a vLLM server on {places}, {copies}",
        "colocate": "vLLM on the same GPUs",
        "transformers": "transformers",
    }
    return [
        *lines,
        f"Trainer      {hardware.num_gpus} x {hardware.gpu_memory:g} GiB, {found.sharding}{_is_assumed(question)}",
        f"Generation   {kinds[generator.kind]}",
    ]


def _is_assumed(question: Question) -> str:
    return "" if question.is_sharding_given else " (assumed: no --accelerate-config is given)"


def _rollout_lines(found: Estimate) -> list[str]:
    workload, generator, args = found.workload, found.generator, found.recipe.training_args
    running = generator.num_running(workload.row) * generator.num_copies
    return [
        f"Rollout      {workload.num_generated} completions generated, {workload.num_trained} trained on in "
        f"{args.updates_per_rollout * args.num_iterations} updates",
        f"Tokens       {workload.num_generated * workload.completion / 1e6:.3g} M generated, "
        f"{workload.num_trained * workload.row / 1e6:.3g} M trained on with their prompts",
        f"KV cache     {generator.kv_bytes_per_token} bytes per token, {generator.kv_tokens * generator.num_copies} "
        f"tokens in all: {running} usual completions at once",
    ]


def _budget_line(budget: Budget) -> str:
    parts = ", ".join(f"{name} {size / GIB:.1f}" for name, size in budget.parts.items() if size >= 0.05 * GIB)
    verdict = f"{budget.excess / GIB:.1f} TOO MUCH" if budget.excess else "fits"
    return f"  {budget.phase:<27}{budget.total / GIB:6.1f} of {budget.limit / GIB:.1f}  {verdict}: {parts}"


def _host_lines(found: Estimate) -> list[str]:
    if not found.states.host:
        return []
    return [f"  In CPU memory, for each GPU {found.states.host / GIB:5.1f}"]


def summarize(question: Question, found: Estimate) -> str:
    """An estimate in a sentence."""
    args = found.recipe.training_args
    peak = max(budget.total for budget in found.budgets if "server" not in budget.phase)
    phases = ", ".join(f"{name} {seconds / 60:.1f}" for name, seconds in found.seconds.items())
    seconds = sum(found.seconds.values())
    sentence = (
        f"{peak / GIB:.1f} of {question.hardware.gpu_memory:g} GiB at most on a GPU of the trainer; "
        f"{seconds / 60:.1f} minutes per rollout ({phases})"
    )
    if args.max_steps > 0:
        num_rollouts = args.max_steps / (args.updates_per_rollout * args.num_iterations)
        sentence += f", {_count(seconds * num_rollouts / 3600, 'hour')} for {_count(num_rollouts, 'rollout')}"
    return sentence + "."


def _assumption_lines(question: Question) -> list[str]:
    hardware = question.hardware
    return [
        "Assumed (options of this command change the first three lines)",
        f"  {hardware.peak:g} TFLOP/s at {hardware.utilization:.0%}, {hardware.bandwidth:g} GB/s at "
        f"{hardware.bandwidth_utilization:.0%}",
        f"  {question.acceptance:.0%} of the groups are informative",
        f"  prompts of {question.prompt} tokens, completions of {question.completion or 'a quarter of the longest'}",
        f"  {RESERVE / GIB:g} GiB in reserve; a vLLM engine takes {ENGINE_OVERHEAD / GIB:g} GiB beside weights, keys "
        f"and values, a server {SERVER_UTILIZATION:.0%} of its GPUs",
        f"  a token takes at least {STEP_SECONDS['vllm'] * 1e3:g} ms with vLLM, "
        f"{STEP_SECONDS['transformers'] * 1e3:g} ms with transformers",
        "  not counted: rewards, sending weights, padding, checkpoints, the start, traffic with CPU memory",
    ]


def format_problems(found: Estimate, remedy: Remedy | None) -> str:
    """What does not fit, and what to change."""
    lines = []
    if found.num_unreadable:
        lines.append(
            f"The model was made for {found.size.config.max_position_embeddings} tokens, but the longest row has "
            f"{found.workload.longest_row}: lower max_completion_length."
        )
    for budget in found.budgets:
        if budget.excess:
            largest = max(budget.parts, key=budget.parts.get)
            lines.append(
                f"{budget.phase} does not fit: {budget.excess / GIB:.1f} GiB too much. The largest part is {largest}."
            )
    if remedy is None:
        lines.append("No change to the recipe known to this command suffices: take more or larger GPUs.")
    else:
        changes = "".join(f"\n  {name}: {_as_yaml(value)}" for name, value in remedy.changes.items())
        seconds = sum(remedy.estimate.seconds.values())
        lines.append(f"It fits, at {seconds / 60:.1f} minutes per rollout, with{changes}")
        lines += _offload_lines(remedy)
    return "\n".join(lines) + "\n"


def _offload_lines(remedy: Remedy) -> list[str]:
    if not remedy.estimate.states.host:
        return []
    per_gpu = remedy.estimate.states.host / GIB
    return [
        "Offloading is slower than these minutes say: traffic with CPU memory is not estimated. For each GPU it keeps "
        f"{per_gpu:.1f} GiB of weights, gradients and optimizer states in CPU memory; the rest there is not estimated."
    ]


def _count(number: float, unit: str) -> str:
    text = f"{number:.0f}"
    return f"{text} {unit}" if text == "1" else f"{text} {unit}s"


def _as_yaml(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _billions(number: int) -> str:
    return f"{number / 1e9:.2f} B" if number >= 1e9 else f"{number / 1e6:.1f} M"
