"""
What rounds cost: seconds to fill a rollout with dynamic sampling over seconds to generate as many completions at once.

Every second group is informative, whatever the model says, so that a rollout takes twice its completions. After each
rollout the same prompts are sent again in one request, without seeds. Needs the environment of `make test-vllm`:

    .venv-vllm/bin/python -m benchmarks.vllm.rounds
"""

import hashlib
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

from tests.real_vllm.models import save_tiny
from tests.real_vllm.server import running
from tests.real_vllm.trainers import build


NUM_ROLLOUTS = 16
NUM_GENERATIONS = 8
NUM_GROUPS = 32
CONFIG = {
    "num_generations": NUM_GENERATIONS,
    "per_device_train_batch_size": 16,
    "gradient_accumulation_steps": 4,
    "updates_per_rollout": 4,
    "max_completion_length": 48,
    "max_steps": 4 * NUM_ROLLOUTS,
    "learning_rate": 1e-6,
    "logging_steps": 4,
}


def every_second_group(prompts: list[str], **kwargs) -> list[float]:
    """Right and wrong by turns in groups whose prompt has an even hash; all wrong in the others."""
    is_informative = [hashlib.sha256(prompt.encode()).digest()[0] % 2 == 0 for prompt in prompts]
    return [1.0 if informative and i % 2 else -1.0 for i, informative in enumerate(is_informative)]


class Stopwatch:
    """Seconds spent in methods, by name, since the last look."""

    def __init__(self):
        self.seconds: dict[str, float] = defaultdict(float)

    def watch(self, owner: object, method: str) -> None:
        function = getattr(owner, method)

        def timed(*args, **kwargs):
            started = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                self.seconds[method] += time.perf_counter() - started

        setattr(owner, method, timed)

    def take(self) -> dict[str, float]:
        seconds, self.seconds = self.seconds, defaultdict(float)
        return seconds


def measure(url: str, model: str) -> list[dict[str, float]]:
    """Seconds of each rollout, and of the same completions in one request."""
    trainer = build(url, model, reward_funcs=every_second_group, **CONFIG)
    client, watch, rollouts = trainer.vllm_generation.vllm_client, Stopwatch(), []
    for owner, method in (
        (trainer.sampler, "collect"),
        (trainer.vllm_generation, "sync_weights"),
        (trainer.vllm_generation, "generate"),
        (trainer, "_calculate_rewards"),
    ):
        watch.watch(owner, method)
    collect = trainer.sampler.collect

    def collect_and_repeat(*args):
        client.requests.clear()
        watch.take()
        result = collect(*args)
        seconds = watch.take()
        prompts = [prompt for request in client.requests for prompt in request["prompts"]]
        options = {name: value for name, value in client.requests[0].items() if name != "prompts"}
        options["generation_kwargs"] = {}  # no seed
        seconds["rounds"] = result[0].num_rounds
        seconds["completions"] = len(prompts) * NUM_GENERATIONS
        started = time.perf_counter()
        client.generate(prompts=prompts, **options)
        seconds["one request"] = time.perf_counter() - started
        rollouts.append(seconds)
        return result

    trainer.sampler.collect = collect_and_repeat
    trainer.train()
    return rollouts


def report(rollouts: list[dict[str, float]]) -> None:
    """Prints the mean over the rollouts; the first, which does not know the acceptance rate yet, is left out."""
    mean = {name: statistics.mean(rollout[name] for rollout in rollouts[1:]) for name in rollouts[0]}
    total, at_once = mean["collect"], mean["one request"]
    parts = {
        "requests beyond one": mean["generate"] - at_once,
        "sending weights": mean["sync_weights"],
        "rewards": mean["_calculate_rewards"],
    }
    parts["the rest"] = total - at_once - sum(parts.values())
    ratios = [rollout["collect"] / rollout["one request"] for rollout in rollouts[1:]]
    trained = NUM_GENERATIONS * NUM_GROUPS
    print(f"{mean['completions']:.0f} completions for {trained} trained in {mean['rounds']:.1f} rounds: {total:.2f} s")
    print(f"as many in one request: {at_once:.2f} s")
    print(f"ratio {total / at_once:.2f} (from {min(ratios):.2f} to {max(ratios):.2f})")
    for name, seconds in parts.items():
        print(f"  {name}: {seconds:.2f} s = {seconds / at_once:.2f} of the one request")


def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        model = save_tiny(Path(directory, "tied"), is_tied=True)
        with running(model, Path(directory, "log"), max_model_len="128") as server:
            report(measure(server.url, model))


if __name__ == "__main__":
    sys.exit(main())
