"""
The parametrized cases of math-verify's own test suite, through our verifier.

    pip download --no-deps --no-binary :all: math-verify==0.9.0
    python benchmarks/rewards/math_verify_suite.py math_verify-0.9.0.tar.gz

A prediction is given as the completion; where our rule finds no stated answer in it, as `Answer: <prediction>`.
Cases with options that our verifier does not have (non-strict comparison, another precision, string extraction) are
counted apart.
"""

import ast
import math
import sys
import tarfile
from pathlib import Path

from dapo_trl.rewards.answers import find_auto
from dapo_trl.rewards.verifier import Verifier


EXPECTED = ("expected", "result")


def main(path: str) -> None:
    cases, num_other = read_cases(path)
    completions = [pred if find_auto(pred) else "Answer: " + pred.replace("\n", " ") for _, _, pred, _ in cases]
    outcomes = Verifier()(completions, [gold for _, gold, _, _ in cases])
    num_agreed = 0
    for (test, gold, pred, expected), outcome in zip(cases, outcomes, strict=True):
        agrees = outcome.is_correct is bool(expected)
        num_agreed += agrees
        if not agrees:
            print(f"{test}: expected {bool(expected)}, is {outcome.is_correct} ({outcome.reason}) {outcome.detail}")
            print(f"    gold {gold[-150:]!r}, prediction {pred[-150:]!r}, our answer {outcome.answer!r}")
    print(f"{num_agreed} of {len(cases)} agreed; {num_other} other cases have options that we do not offer")


def read_cases(path: str) -> tuple[list[tuple[str, str, str, int]], int]:
    """`(test, gold, prediction, expected)` of every parametrized case of the source distribution."""
    cases, num_other = [], 0
    with tarfile.open(path) as archive:
        for member in archive.getmembers():
            if not Path(member.name).match("tests/test_*.py"):
                continue
            tree = ast.parse(archive.extractfile(member).read())
            for function in (node for node in tree.body if isinstance(node, ast.FunctionDef)):
                for names, values in parametrizations(function):
                    for row in (dict(zip(names, value, strict=True)) for value in values):
                        expected = [row[name] for name in EXPECTED if name in row]
                        if "gold" in row and expected and has_our_options(row):
                            cases.append(
                                (f"{Path(member.name).stem}::{function.name}", row["gold"], row["pred"], expected[0])
                            )
                        else:
                            num_other += 1
    return cases, num_other


def has_our_options(row: dict) -> bool:
    """Our verifier compares strictly, to 6 decimals, and a set with a relation either way."""
    return row.get("strict", True) and row.get("precision", 6) == 6 and row.get("allow_set_relation_comp", True)


def parametrizations(function: ast.FunctionDef) -> list[tuple[list[str], list[tuple]]]:
    """Argument names and values of the `pytest.mark.parametrize` decorators whose values are literals."""
    found = []
    for decorator in function.decorator_list:
        if isinstance(decorator, ast.Call) and getattr(decorator.func, "attr", "") == "parametrize":
            names = [name.strip() for name in ast.literal_eval(decorator.args[0]).split(",")]
            if "config" not in names:
                values = eval(compile(ast.Expression(decorator.args[1]), "cases", "eval"), {"math": math})
                found.append((names, values))
    return found


if __name__ == "__main__":
    main(sys.argv[1])
