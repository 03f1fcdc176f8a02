r"""
Golds as answers: each is right for its own problem in any spelling, and for no other one; and a copy from the problem
is no answer.

    python -m benchmarks.rewards.agreement math_testset_annotation.json gsm8k_test.jsonl

- `math_testset_annotation.json`: the 5,000 test problems of MATH with their final answers
  (https://github.com/MARIO-Math-Reasoning/MARIO_EVAL, MIT);
- any other data that `load_prompts` reads.

What is not as it should be is printed, with every answer to another problem that was rewarded although it is written
in another way.
"""

import argparse
import random
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.record import RESULTS, record, show
from dapo_trl.data.records import Counts, Record, RecordReader
from dapo_trl.rewards.pool import VerifierPool
from dapo_trl.rewards.spelling import neutral, without_spaces
from dapo_trl.rewards.verifier import Verifier


ABOUT = """\
## Golds as answers

The final answers of data sets, judged by `accuracy`. *Spellings*: every gold as the answer to its own problem, in each
of the spellings of `benchmarks/rewards/agreement.py` that change it. *Shuffled*: as the answer to five other problems,
drawn at random; *neighbours*: to those whose golds come before and after it in the alphabet; pairs of equal golds are
left out. *Echo*: every formula of the problem as the answer, if it is not the gold as written; counted by problems.
*Expected*: spellings that are right, others that are wrong. *Same number*: others that are right, because they are the
same number with another name or unit, such as `x = 12` or `12^\\circ` for `12 \\text{ gm}`. *Ratio*: share of both.
"""
SETTINGS = {"data": "", "check": ""}
MEASURED = {"cases": "d", "expected": "d", "same number": "d", "ratio": ".3%"}
NUM_SHUFFLES = 5

FORMS = {
    "box": r"So it is \boxed{{{}}}.",
    "line": "Answer: {}",
    "dollars": "Answer: ${}$",
    "bold, full stop": "**Answer:** ${}$.",
    "boxed line": r"Answer: $\boxed{{{}}}$",
    "display": "We find\n\\[\n\\boxed{{{}}}.\n\\]",
    "thin spaces": r"\boxed{{\,{}\,}}",
    "element": "<answer>{}</answer>",
    "sentence": "<think>Hm.</think>The final answer is ${}$. I hope it is correct.",
}


def _left_right(gold: str) -> str:
    if re.search(r"\\left|\\text|\\mbox|\\sqrt\[|\\\\\[", gold):
        return gold
    return re.sub(r"([)\]]|\\\})", r"\\right\1", re.sub(r"([(\[]|\\\{)", r"\\left\1", gold))


def _words(text: str) -> bool:
    return re.search(r"(?<!\\)\b[A-Za-z]{2,}|\\(?:text|mbox|begin)", text) is not None


_CHARACTERS = str.maketrans({"-": "−"})
_SEPARATED = re.compile(r"[1-9][0-9]{0,2}(?:(?:,|\{,\}|,? *\\! *)[0-9]{3})+")
REWRITES: dict[str, Callable[[str], str]] = {
    "dfrac": lambda gold: re.sub(r"\\[tc]?frac", r"\\dfrac", gold),
    "tfrac": lambda gold: re.sub(r"\\[dc]?frac", r"\\tfrac", gold),
    "left and right": _left_right,
    "no spaces": lambda gold: gold if _words(gold) else re.sub(r"(?<![A-Za-z0-9\\]) | (?![A-Za-z0-9])", "", gold),
    "spaces": lambda gold: gold if _words(gold) else re.sub(r" *([+=]|,(?! *[0-9]{3}| *\\!)) *", r" \1 ", gold),
    "display style": lambda gold: r"\displaystyle " + gold,
    "unit": lambda gold: gold + r"\text{ units}" if re.fullmatch(r"-?[0-9.]+", gold) else gold,
    "other unit text": lambda gold: re.sub(r"\\(?:text|mbox)\{ ?([a-z]+)\}", r"\\,\\mathrm{\1}", gold),
    "unit without text": lambda gold: re.sub(r"\\(?:text|mbox)\{ ?([a-z]{2,})\}", r" \1", gold),
    "named": lambda gold: "x = " + gold if re.fullmatch(r"-?[0-9.]+|-?\\[dt]?frac\{\d+\}\{\d+\}", gold) else gold,
    "thousands": lambda gold: f"{int(gold):,}".replace(",", "{,}") if re.fullmatch(r"[1-9][0-9]{3,}", gold) else gold,
    "no separators": lambda gold: re.sub(r"\D", "", gold) if _SEPARATED.fullmatch(gold) else gold,
    "short fraction": lambda gold: re.sub(r"\\[dt]?frac\{(\d)\}\{(\d)\}", r"\\frac\1\2", gold),
    "slash": lambda gold: re.sub(r"^(-?)\\[dt]?frac\{(\d+)\}\{(\d+)\}$", r"\1\2/\3", gold),
    "minus in numerator": lambda gold: re.sub(r"^-\\[dt]?frac\{(\d+)\}", r"\\frac{-\1}", gold),
    "braced powers": lambda gold: re.sub(r"\^([0-9a-z])", r"^{\1}", gold),
    "dot": lambda gold: gold if _words(gold) else re.sub(r"(\d)([a-z]|\\(?:pi|sqrt))", r"\1 \\cdot \2", gold),
    "Unicode": lambda gold: re.sub(r"\\sqrt\{(\d+)\}", r"√\1", gold).translate(_CHARACTERS),
    "Unicode signs": lambda gold: gold.replace(r"\pi", "π").replace(r"\cup", "∪").replace(r"\infty", "∞"),
    "degrees": lambda gold: re.sub(r" *\^\{?\\circ\}?", "°", gold),
    "no degrees": lambda gold: re.sub(r" *\^\{?\\circ\}?$", "", gold),
    "percent": lambda gold: gold.replace(r"\%", " percent"),
    "dollars in words": lambda gold: re.sub(r"^\\\$(.*)$", r"\1\\text{ dollars}", gold),
    "plain words": lambda gold: re.sub(r"^\\text\{\(?([^{}()]*)\)?\}$", r"\1", gold),
    "decimal point": lambda gold: gold + ".0" if re.fullmatch(r"-?[0-9]+", gold) else gold,
}

_FORMULA = re.compile(r"\$\$?([^$]+)\$\$?|\\\[(.+?)\\\]|\\\((.+?)\\\)", re.DOTALL)
Case = tuple[str, str, str]
"""Kind, completion, gold."""


def spellings(records: list[Record]) -> Iterator[Case]:
    """Every gold in every spelling that is one of its own; right."""
    for gold in dict.fromkeys(row.solution for row in records):
        for name, form in FORMS.items():
            if "$" not in form or "$" not in gold.replace(r"\$", ""):
                yield name, form.format(" ".join(gold.split())), gold
        for name, rewrite in REWRITES.items():
            if rewrite(gold) != gold:
                yield name, FORMS["box"].format(rewrite(gold)), gold


def shuffled(records: list[Record]) -> Iterator[Case]:
    """Golds as answers to other problems; wrong, unless they are equal."""
    golds = [row.solution for row in records]
    for seed in range(NUM_SHUFFLES):
        others = random.Random(seed).sample(golds, len(golds))
        yield from _strangers("shuffled", zip(others, golds, strict=True))


def neighbours(records: list[Record]) -> Iterator[Case]:
    """Golds as answers to problems whose golds are written most alike; wrong, unless they are equal."""
    golds = sorted({row.solution for row in records})
    yield from _strangers("before", zip(golds, golds[1:], strict=False))
    yield from _strangers("after", zip(golds[1:], golds, strict=False))


def _strangers(name: str, pairs: Iterator[tuple[str, str]]) -> Iterator[Case]:
    for answer, gold in dict.fromkeys(pairs):
        if _plain(answer) != _plain(gold):
            yield name, FORMS["box"].format(answer), gold


def _plain(text: str) -> str:
    return without_spaces(neutral(text))


def echo(records: list[Record]) -> Iterator[Case]:
    """Formulas of the problem, but for single letters, plain numbers, and the gold as written; wrong."""
    for row in records:
        for found in _FORMULA.finditer(row.problem):
            text = " ".join(next(filter(None, found.groups())).split()).rstrip(".,;? ")
            is_short = len(text) < 3 or re.fullmatch(r"[-\d.,]+", text)
            if not is_short and _plain(text) != _plain(row.solution):
                yield row.id, FORMS["box"].format(text), row.solution


CHECKS: dict[str, tuple[Callable[[list[Record]], Iterator[Case]], bool]] = {
    "spellings": (spellings, True),
    "shuffled": (shuffled, False),
    "neighbours": (neighbours, False),
    "echo": (echo, False),
}


def check(name: str, records: list[Record], verifier: Verifier) -> dict[str, int]:
    """The numbers of cases; for the echo, of problems."""
    make_cases, is_right = CHECKS[name]
    cases = list(dict.fromkeys(make_cases(records)))
    outcomes = verifier([completion for _, completion, _ in cases], [gold for *_, gold in cases])
    failures, coincidences = {}, {}
    for (kind, completion, gold), outcome in zip(cases, outcomes, strict=True):
        if (outcome.is_correct is True) != is_right:
            is_same = not is_right and _is_same_number(outcome.answer, gold)
            (coincidences if is_same else failures)[kind, completion, gold] = outcome
            what = "same number" if is_same else "not as expected"
            print(
                f"  {name}, {what}, {kind}: {completion!r:.200} for {gold!r}: {outcome.is_correct}, {outcome.reason}"
            )
    if name == "echo":
        cases = records
        failures, coincidences = ({kind for kind, *_ in part} for part in (failures, coincidences))
        coincidences -= failures
    num_expected = len(cases) - len(failures) - len(coincidences)
    return {"cases": len(cases), "expected": num_expected, "same number": len(coincidences)}


def _is_same_number(answer: str, gold: str) -> bool:
    first, second = (
        re.findall(r"[0-9.]+", re.sub(r"^.*=|\\(?:text|mbox) *\{[^{}]*\}|\^\{?[23]\}?$", "", text))
        for text in (answer, gold)
    )
    return first == second != []


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--checks", nargs="+", choices=CHECKS, default=list(CHECKS))
    parser.add_argument("--timeout", type=float, default=10.0, help="Seconds of math-verify for one case.")
    parser.add_argument("--workers", type=int, help="Processes of math-verify. Default: as in training.")
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    verifier = Verifier(timeout=arguments.timeout, pool=VerifierPool(arguments.workers))
    rows: list[dict[str, Any]] = []
    for file in arguments.files:
        records = list(RecordReader(str(file), Counts()))
        for name in arguments.checks:
            counts = check(name, records, verifier)
            settings = {"data": f"{file.name} ({len(records)})", "check": name}
            ratio = (counts["expected"] + counts["same number"]) / max(1, counts["cases"])
            command = f"python -m benchmarks.rewards.agreement {file.name} --checks {name}"
            rows.append({**settings, **counts, "ratio": ratio, "command": command})
            show(SETTINGS | MEASURED, rows[-1:])
    record("rewards_agreement", ABOUT, SETTINGS, MEASURED, rows, arguments.results)


if __name__ == "__main__":
    main()
