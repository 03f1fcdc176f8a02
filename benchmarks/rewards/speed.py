"""
10,000 integer answers in completions of 4,000 characters: `accuracy` against TRL's `accuracy_reward`, in one run.

    python benchmarks/rewards/speed.py
"""

import random
import time

from trl.rewards import accuracy_reward

from dapo_trl.rewards import accuracy


NUM_ROWS = 10_000
SENTENCE = "We add {} to both sides, so that $x_{} + {} = {}$ and the sum is even. "


def main() -> None:
    rng = random.Random(0)
    golds = [str(rng.randint(0, 999)) for _ in range(NUM_ROWS)]
    answers = [gold if rng.random() < 0.5 else str(rng.randint(0, 999)) for gold in golds]
    completions = [[{"role": "assistant", "content": completion(rng, answer)}] for answer in answers]
    solution = [f"${gold}$" for gold in golds]
    start = time.perf_counter()
    ours = accuracy(completions=completions, solution=golds)
    our_seconds = time.perf_counter() - start
    start = time.perf_counter()
    theirs = accuracy_reward(completions, solution)
    their_seconds = time.perf_counter() - start
    agreed = sum((one == 1.0) == (other == 1.0) for one, other in zip(ours, theirs, strict=True))
    truth = sum((one == 1.0) == (answer == gold) for one, answer, gold in zip(ours, answers, golds, strict=True))
    print(f"accuracy: {our_seconds:.2f} s, {truth} of {NUM_ROWS} right; accuracy_reward: {their_seconds:.2f} s")
    print(f"the same verdict on {agreed} of {NUM_ROWS}; {their_seconds / our_seconds:.0f} times faster")


def completion(rng: random.Random, answer: str) -> str:
    """4,000 characters of reasoning that ends in a form both can read."""
    end = f"\n\nAnswer: $\\boxed{{{answer}}}$"
    body = ""
    while len(body) < 4000:
        body += SENTENCE.format(*(rng.randint(0, 99) for _ in range(4)))
    return body[: 4000 - len(end)] + end


if __name__ == "__main__":
    main()
