"""
What moving and dealing the rows of a rollout costs: 512 prompts x 16 completions on 8, 64 and 128 processes.

Plays the part of one process, without the others and without a model: rows with completions of 5,000 tokens on average
(log-normal, 20,480 at most), half of the groups informative. Moving is packed and unpacked as in a run; the network is
left out. Seconds are those of one core.

    OMP_NUM_THREADS=1 python benchmarks/exchange/simulate.py
"""

import time
from collections import defaultdict
from contextlib import contextmanager

import numpy as np
import torch

from dapo_trl.batching import rollout
from dapo_trl.batching.micro_batches import PADDING_ROW, Lengths
from dapo_trl.batching.optimizer_steps import assign_rows
from dapo_trl.batching.rollout import Rollout, RolloutPlan
from dapo_trl.distributed.all_to_all import pack, unpack
from dapo_trl.sampling import collection
from dapo_trl.sampling.collection import Collection, GeneratedRow, collected_batch, padding_completion
from dapo_trl.sampling.groups import Outcome
from dapo_trl.sampling.refill import GroupPool


NUM_PROMPTS, NUM_GENERATIONS, NUM_STEPS = 512, 16, 16
MEAN_TOKENS, MAX_TOKENS, PROMPT_TOKENS = 5_000, 20_480, 200
NUM_ROUNDS, ACCEPTANCE = 2, 0.5
ROWS_PER_MICRO_BATCH = 4
STEP_SECONDS = 60.0
VOCABULARY = 150_000


class OneProcess:
    """Process `rank` of `num_processes`: counts what is sent, and receives back what it sends."""

    def __init__(self, rank: int, num_processes: int):
        self.process_index, self.num_processes = rank, num_processes
        self.device = torch.device("cpu")
        self.seconds = defaultdict(float)
        self.moved = {}

    @contextmanager
    def timed(self, what: str):
        start = time.process_time()
        yield
        self.seconds[what] += time.process_time() - start

    def exchange(self, what: str, outgoing: list[list]) -> list:
        """As much comes in as goes out, so that unpacking costs what it costs in a run."""
        with self.timed(f"pack {what}"):
            blobs = pack(outgoing, self.process_index)
            sent = torch.frombuffer(bytearray(b"".join(blobs)), dtype=torch.uint8)
        self.moved[what] = sent.numel()
        with self.timed(f"unpack {what}"):
            received = sent.split([len(blob) for blob in blobs])
            return unpack(received, self.process_index, outgoing[self.process_index])


def draw_lengths(rng: np.random.Generator, num_rows: int) -> np.ndarray:
    sigma = 0.8
    lengths = rng.lognormal(np.log(MEAN_TOKENS) - sigma**2 / 2, sigma, num_rows)
    return lengths.clip(2, MAX_TOKENS).astype(int)


def generated_row(rng: np.random.Generator, num_tokens: int) -> GeneratedRow:
    """As vLLM returns it: lists of ids and log-probabilities; four characters of text per token."""
    ids = rng.integers(VOCABULARY, size=num_tokens).tolist()
    prompt = "p" * 4 * PROMPT_TOKENS
    logprobs = rng.standard_normal(num_tokens).tolist()
    return GeneratedRow(
        {"prompt": prompt, "solution": "7"}, ids[:PROMPT_TOKENS], ids, "c" * 4 * num_tokens, logprobs=logprobs
    )


def collect(rng: np.random.Generator, process: OneProcess) -> tuple[Collection, GroupPool, np.ndarray]:
    """The rows this process generated in its rounds, which groups are kept, and the lengths of all rows."""
    pool, collected = GroupPool(NUM_PROMPTS), Collection(NUM_GENERATIONS, keeps_dropped=False)
    groups_per_round = int(NUM_PROMPTS / ACCEPTANCE / NUM_ROUNDS)
    lengths = draw_lengths(rng, groups_per_round * NUM_ROUNDS * NUM_GENERATIONS)
    for _ in range(NUM_ROUNDS):
        is_kept = rng.permutation(groups_per_round) < groups_per_round * ACCEPTANCE
        pool.add_round([Outcome.INFORMATIVE if kept else Outcome.ALL_WRONG for kept in is_kept])
        share = groups_per_round * NUM_GENERATIONS // process.num_processes
        first = collected.num_rows + process.process_index * share
        rows = [generated_row(rng, n) for n in lengths[first : first + share]]
        rewards = torch.zeros(groups_per_round * NUM_GENERATIONS, 1)
        collected.add_call(rows, process.process_index, rewards, {})
        collected.drop_rejected(pool)
    return collected, pool, lengths


def scored(rows: list[GeneratedRow], num_columns: int) -> dict[str, torch.Tensor]:
    """This process's rows as TRL pads them."""
    batch = {
        "prompt_ids": torch.tensor([row.prompt_ids for row in rows]),
        "prompt_mask": torch.ones(len(rows), PROMPT_TOKENS, dtype=torch.long),
        "completion_ids": torch.zeros(len(rows), num_columns, dtype=torch.long),
        "completion_mask": torch.zeros(len(rows), num_columns, dtype=torch.int),
        "old_per_token_logps": torch.zeros(len(rows), num_columns),
        "importance_sampling_ratio": torch.zeros(len(rows), num_columns),
        "advantages": torch.zeros(len(rows)),
    }
    for i, row in enumerate(rows):
        batch["completion_ids"][i, : len(row.completion_ids)] = torch.tensor(row.completion_ids)
        batch["completion_mask"][i, : len(row.completion_ids)] = 1
    return batch


def build_plan(lengths: list[Lengths], num_processes: int) -> RolloutPlan:
    rows_per_step = NUM_PROMPTS * NUM_GENERATIONS // NUM_STEPS
    return RolloutPlan.build(
        lengths,
        [length.completion for length in lengths],
        assign_rows(len(lengths), NUM_STEPS, seed=0),
        num_processes=num_processes,
        num_micro_batches=max(1, rows_per_step // num_processes // ROWS_PER_MICRO_BATCH),
        num_generations=NUM_GENERATIONS,
        token_normalization="step",
        is_balanced=True,
        has_equal_rows=False,
    )


def imbalance(tokens: np.ndarray) -> float:
    """How much longer the most loaded process takes than the mean one; `tokens` is `(steps, processes)`."""
    return float((tokens.max(axis=1) / tokens.mean(axis=1)).mean() - 1)


def tokens_before(lengths: np.ndarray, num_processes: int, rng: np.random.Generator) -> np.ndarray:
    """As TRL does it: each process shuffles the rows it generated and cuts them into steps."""
    shares = [rng.permutation(share).reshape(NUM_STEPS, -1).sum(axis=1) for share in np.split(lengths, num_processes)]
    return np.stack(shares, axis=1)


def tokens_after(plan: RolloutPlan) -> np.ndarray:
    return np.array(
        [
            [sum(sum(plan.lengths[row]) for rows in process for row in rows if row != PADDING_ROW) for process in step]
            for step in plan.partitions
        ]
    )


def num_bytes(rows: dict[int, dict[str, torch.Tensor]]) -> int:
    return sum(tensor.numel() * tensor.element_size() for row in rows.values() for tensor in row.values())


def simulate(num_processes: int, seed: int = 0) -> dict[str, float]:
    """One rollout on one of the processes."""
    rng = np.random.default_rng(seed)
    process = OneProcess(num_processes // 2, num_processes)
    collected, pool, all_lengths = collect(rng, process)
    kept = collected.kept_numbers(pool)
    lengths = [Lengths(PROMPT_TOKENS, int(all_lengths[number])) for number in kept]

    collection.all_to_all = lambda outgoing, accelerator: process.exchange("groups", outgoing)
    rollout.all_to_all = lambda outgoing, accelerator: process.exchange("rows", outgoing)
    with process.timed("groups, all"):
        padding = padding_completion({}, 0)
        collected_batch(collected, pool, process, padding, has_logprobs=True)
    share = len(kept) // num_processes
    first = process.process_index * share
    batch = scored([generated_row(rng, length.completion) for length in lengths[first : first + share]], MAX_TOKENS)
    with process.timed("plan"):
        plan = build_plan(lengths, num_processes)
        plan.padding_metrics()
    with process.timed("rows, all"):
        mine = Rollout.distribute(batch, plan, process, 0)
    seconds = process.seconds["groups, all"] + process.seconds["plan"] + process.seconds["rows, all"]
    kept_lengths = np.array([sum(length) for length in lengths])
    return {
        "processes": num_processes,
        "groups moved (MB)": process.moved["groups"] / 1e6,
        "rows moved (MB)": process.moved["rows"] / 1e6,
        "held (MB)": num_bytes(mine.rows) / 1e6,
        "of a rollout": num_bytes(mine.rows) / num_bytes_of_all(lengths),
        "groups (s)": process.seconds["groups, all"],
        "plan (s)": process.seconds["plan"],
        "rows (s)": process.seconds["rows, all"],
        "of 16 steps": seconds / NUM_STEPS / STEP_SECONDS,
        "of one step": seconds / STEP_SECONDS,
        "imbalance before": imbalance(tokens_before(kept_lengths, num_processes, rng)),
        "imbalance after": imbalance(tokens_after(plan)),
    }


def num_bytes_of_all(lengths: list[Lengths]) -> int:
    """All rows of the rollout: ids and masks of 8 and 4 bytes, two numbers of 4 bytes per completion token."""
    return sum(16 * length.prompt + 20 * length.completion + 4 for length in lengths)


FORMATS = defaultdict(lambda: "{:.2f}", {"processes": "{}", "of 16 steps": "{:.3%}", "of one step": "{:.2%}"})
FORMATS |= {"of a rollout": "{:.1%}", "imbalance before": "{:.1%}", "imbalance after": "{:.2%}"}


def main() -> None:
    results = [simulate(num_processes) for num_processes in (8, 64, 128)]
    print("| " + " | ".join(results[0]) + " |")
    print("|" + " --: |" * len(results[0]))
    for result in results:
        print("| " + " | ".join(FORMATS[name].format(value) for name, value in result.items()) + " |")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
