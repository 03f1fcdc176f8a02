"""
Hostile completions and golds: none may raise, hang, or grow memory without bound.

    python benchmarks/rewards/hostile.py
"""

import resource
import time

from dapo_trl.rewards import AccuracyReward


MEGA = 1_000_000
COMPLETIONS = {
    "nested braces": "{" * 4 * MEGA + "}" * 4 * MEGA,
    "open boxes": r"\boxed{" * MEGA,
    "nested boxes": r"\boxed{" * 100_000 + "5" + "}" * 100_000,
    "boxed megabyte": r"\boxed{" + "7" * MEGA + "}",
    "answers": "Answer: " * MEGA,
    "answer and spaces": "Answer:" + " " * 4 * MEGA,
    "answer and lines": "Answer:" + "\n" * 4 * MEGA,
    "answer and digits": "Answer: " + "9" * 4 * MEGA,
    "the answer is": "the answer is " * MEGA,
    "dollars": "Answer: " + "$" * MEGA,
    "letters": "Answer: " + "a" * 900,
    "words": "Answer: " + "ab " * 300,
    "open parentheses": r"Answer: " + r"\(" * 450,
    "deep parentheses": "Answer: " + "(" * 450 + "1" + ")" * 450,
    "deep fractions": "Answer: " + r"\frac{1}{" * 90 + "x" + "}" * 90,
    "deep square roots": "Answer: " + r"\sqrt{" * 140 + "x" + "}" * 140,
    "tower": "Answer: 10**10**10",
    "LaTeX tower": "Answer: $10^{10^{10}}$",
    "factorial": "Answer: $99999999!$",
    "sum": r"Answer: $\sum_{n=1}^{10^{9}} \frac{1}{n}$",
    "exponent": "Answer: 1e999999999",
    "division by zero": r"Answer: \frac{1}{0}",
    "unicode digits": "Answer: ٣٤ ३४ ➆ ⅞ ²",
    "full-width": "Answer: ３４",
    "NUL": "Answer: \x0034\x00",
    "lone surrogate": "Answer: \ud83434",
    "right to left": "Answer: \u202e34",
    "code": "Answer: __import__('os').system('true')",
    "empty": "",
    "None": None,
    "spaces": " " * MEGA,
}


def main() -> None:
    reward = AccuracyReward(timeout=2.0)
    for gold in ("34", r"\frac{\sqrt{3}}{2}"):
        for name, completion in COMPLETIONS.items():
            report(f"{name}, gold {gold}", reward, completion, gold)
    for name, gold in COMPLETIONS.items():
        report(f"gold: {name}", reward, r"Answer: \sqrt{2}", gold)


def report(title: str, reward: AccuracyReward, completion: str | None, gold: str | None) -> None:
    columns = {}
    start = time.perf_counter()
    rewards = reward(completions=[completion], solution=[gold], log_extra=columns.__setitem__)
    seconds = time.perf_counter() - start
    megabytes = (
        max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)) // 1024
    )
    print(f"{title}: {rewards[0]} ({columns['verdict'][0]}), {seconds:.2f} s, at most {megabytes} MB so far")


if __name__ == "__main__":
    main()
