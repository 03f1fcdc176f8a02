"""
What DAPOTrainer adds to a step of the demo's tiny model, as a share of all processor time.

    python -m benchmarks.training_phase.bookkeeping
"""

import argparse
import contextlib
import dataclasses
import functools
import inspect
import io
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

import torch
import yaml
from datasets import Dataset
from transformers import PrinterCallback, TrainerCallback
from trl import GRPOTrainer

from benchmarks.record import RESULTS, record, show
from dapo_trl import DAPOConfig, DAPOTrainer
from demo.arithmetic import split_sums
from demo.model import build_model, build_tokenizer


ABOUT = """\
## Bookkeeping

All that DAPOTrainer adds to a rollout and its optimizer steps (prompt stream, planner, exchange, cuts, metrics,
callbacks, completions table), as a share of the processor time of training. Everything in its methods that is not in
a method of the parent counts, so the share also holds what replaces work of the parent. The model and the recipe are
the demo's; with a larger model the share is smaller. The weights are random and the reward depends on the first
token, so that two thirds of the groups are informative.
"""
SETTINGS = {
    "setting": "",
}
MEASURED = {
    "rollouts": "d",
    "all (s)": ".2f",
    "DAPOTrainer's own (s)": ".3f",
    "ratio": ".2%",
}
RECIPE = Path("recipes/Tiny/arithmetic.yaml")


class Charge:
    """Processor seconds by owner; what is called inside is charged to its own owner only."""

    def __init__(self):
        self.seconds: dict[str, float] = defaultdict(float)
        self._open, self._since = ["parent"], time.process_time()

    def to(self, owner: str, function: Callable) -> Callable:
        """The function, charged to `owner`."""

        @functools.wraps(function)
        def charged(*args, **kwargs):
            self._switch()
            self._open.append(owner)
            try:
                return function(*args, **kwargs)
            finally:
                self._switch()
                self._open.pop()

        return charged

    def reset(self) -> None:
        """Forgets what has been counted so far."""
        self._switch()
        self.seconds.clear()

    def stop(self) -> None:
        """Counts up to now."""
        self._switch()

    def _switch(self) -> None:
        now = time.process_time()
        self.seconds[self._open[-1]] += now - self._since
        self._since = now


@contextlib.contextmanager
def charging(charge: Charge) -> Iterator[None]:
    """Methods of DAPOTrainer that override one are charged to `ours`, the overridden ones to `parent`."""
    ours = DAPOTrainer.__mro__[: DAPOTrainer.__mro__.index(GRPOTrainer)]
    with contextlib.ExitStack() as stack:

        def patch(cls: type, name: str, owner: str) -> None:
            stack.enter_context(mock.patch.object(cls, name, charge.to(owner, getattr(cls, name))))

        overriding = [
            (cls, name) for cls in ours for name in vars(cls) if name[:2] != "__" and hasattr(GRPOTrainer, name)
        ]
        overriding = [
            (cls, name)
            for cls in ours
            for name, value in vars(cls).items()
            if inspect.isfunction(value) and not name.startswith("__") and hasattr(GRPOTrainer, name)
        ]
        for name in {name for _, name in overriding}:
            patch(GRPOTrainer, name, "parent")
        for cls, name in overriding:
            patch(cls, name, "ours")
        yield


class EndOfWarmUp(TrainerCallback):
    """Starts counting after the first rollout, and charges the callbacks of DAPOTrainer to it."""

    def __init__(self, charge: Charge, trainer: DAPOTrainer):
        self.charge = charge
        for callback in trainer.callback_handler.callbacks:
            if type(callback).__module__.startswith("dapo_trl"):
                for name in (name for name in dir(callback) if name.startswith("on_")):
                    setattr(callback, name, charge.to("ours", getattr(callback, name)))

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == args.updates_per_rollout:
            self.charge.reset()


def one_in_eight(completion_ids: list[list[int]], **kwargs) -> list[float]:
    """A reward that an eighth of the completions of a random model get."""
    return [1.0 if ids[0] % 8 == 0 else -1.0 for ids in completion_ids]


def measure(num_rollouts: int, **config) -> dict[str, float]:
    """Processor seconds by owner, the first rollout left out."""
    recipe = yaml.safe_load(RECIPE.read_text(encoding="utf-8"))
    names = {field.name for field in dataclasses.fields(DAPOConfig)}
    fields = {name: value for name, value in recipe.items() if name in names}
    num_steps = (num_rollouts + 1) * fields["updates_per_rollout"]
    with tempfile.TemporaryDirectory() as output_dir:
        fields |= {"max_steps": num_steps, "output_dir": output_dir, "save_strategy": "no", "disable_tqdm": True}
        tokenizer = build_tokenizer()
        charge = Charge()
        with charging(charge):
            trainer = DAPOTrainer(
                model=build_model(tokenizer, seed=0),
                reward_funcs=one_in_eight,
                args=DAPOConfig(**fields | config),
                train_dataset=Dataset.from_dict({"prompt": [item.problem for item in split_sums(seed=0)[0]]}),
                processing_class=tokenizer,
            )
            trainer.remove_callback(PrinterCallback)
            trainer.add_callback(EndOfWarmUp(charge, trainer))
            with contextlib.redirect_stdout(io.StringIO()):  # the table is printed, too
                trainer.train()
            charge.stop()
    return charge.seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--rollouts", type=int, default=10)
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()

    torch.set_num_threads(1)
    rows = []
    for setting, config in {"the demo": {}, "with completions table": {"log_completions": True}}.items():
        seconds = measure(arguments.rollouts, **config)
        rows.append(
            {
                "setting": setting,
                "rollouts": arguments.rollouts,
                "all (s)": sum(seconds.values()),
                "DAPOTrainer's own (s)": seconds["ours"],
                "ratio": seconds["ours"] / sum(seconds.values()),
                "command": f"python -m benchmarks.training_phase.bookkeeping --rollouts {arguments.rollouts}",
            }
        )
    record("training_phase_bookkeeping", ABOUT, SETTINGS, MEASURED, rows, arguments.results)
    show(SETTINGS | MEASURED, rows)


if __name__ == "__main__":
    main()
