r"""
Our verdicts against labels of others: the test cases of four public graders, `(answer, gold, is it right?)`.

    pip download --no-deps --no-binary :all: math-verify==0.9.0
    python -m benchmarks.rewards.labelled --math_verify math_verify-0.9.0.tar.gz \\
        --hendrycks math_equivalence_test.py --mario test_is_equiv.py --qwen math_cot_100.jsonl

- math-verify: the parametrized cases of its test suite (Apache 2.0, huggingface/Math-Verify);
- Hendrycks MATH: `modeling/math_equivalence_test.py` (MIT, hendrycks/math);
- MARIO: `math_evaluation/tests/test_is_equiv.py` (MIT, MARIO-Math-Reasoning/MARIO_EVAL);
- Qwen2.5-Math: `evaluation/data/eval_rm_maj_example/math_cot_100.jsonl`, 800 completions for problems of MATH, graded
  (Apache 2.0, QwenLM/Qwen2.5-Math).

Every disagreement is printed. Where it was reviewed, `REVIEWED` says who is right and why; only labels that are right
count in the agreement, and only texts that state an answer.
"""

import argparse
import ast
import json
import math
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path

from dapo_trl.rewards.answers import find_auto
from dapo_trl.rewards.verifier import Verifier


EXPECTED = ("expected", "result")
Case = tuple[str, str, bool]
"""Completion, gold, and whether it is right."""

BY_RULE = "unfinished, which the label does not ask about"
REVIEWED = {
    # the answer found -> why the label does not count
    "(9+1)": BY_RULE,
    r"\frac3{3}": BY_RULE,
    "-x > -1": BY_RULE,
    "-x >= -1": BY_RULE,
    r"\frac{10\sqrt{10.5}}{27}": BY_RULE,
    "i(2-i)": BY_RULE,
    r"\sin(90^{\circ}-x)": BY_RULE,
    "1+2i": BY_RULE,
    r"40\pi": "the label allows a relative error of 1e-4",
    r"\frac13, \sqrt3, \pi": "the label allows a relative error of 1e-4",
    r"x + \sqrt2I": "the label allows a relative error of 1e-4",
    r"\begin{cases} a+b=\frac12 \\ a-b=\sqrt3 \end{cases}": "the label allows a relative error of 1e-4",
    r"\begin{matrix} \frac12 \\ 1 \end{matrix}": "the gold [0.5, 1] is an interval, and no column",
    r"\frac{v_{0}}{r_{0}} \frac{1}{\left(1+r / r_{0}\right)^{3 / 2}}": "equal only if r / r_0 > -1, which is not said",
    "10, 4, -2": "the order of solutions does not matter",
    "0.1, 4, 2": "the order of solutions does not matter",
    "10000": "the label is wrong: 10{,}000 is 10000",
    "10cm": "the label asks for a space before the unit",
    "1,2": "the gold has two boxes, of which the label compares the last",
    r"1 + \frac{1}{\mathrm{e}}": "the label is wrong: the numbers differ",
    "x = 5+5+1 = 7 =11": "the label is wrong: 5 + 5 + 1 is not 7",
    r"x = 5+5+1 = 1/3 \approx 11": "the label is wrong: 5 + 5 + 1 is not 1/3",
    "0": "the gold is no answer: 1 = \\zzz = x = 0",
    "W(x)=1orW(x)=-1": "the gold does not close its box",
    "1000,99": "a comma is no decimal point here",
    "Soucis : 2,74 $ a": "a comma is no decimal point here",
    "1.22": "a comma is no decimal point here",
    r"f(x) = 2x + 3": "another name than in the gold",
    "9": "the label asks for a word before the answer",
    r"[1,+\infty)": "the gold is not in lowest form, and not 1 exactly",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in READERS:
        parser.add_argument(f"--{name}", type=Path)
    arguments = vars(parser.parse_args())
    for name, path in arguments.items():
        if path is not None:
            report(name, [case for case in READERS[name](path) if is_stated(case[0])])


def is_stated(completion: str) -> bool:
    """Whether a text states an answer, in one of the forms we read or as nothing but mathematics."""
    words = re.findall("[a-z]{3,}", re.sub(r"\\\\[a-z]+\\*?\\{?[a-z]*|\\$[^$]*\\$", "", completion))
    return find_auto(completion) is not None or len(words) < 2


def report(name: str, cases: list[Case]) -> None:
    completions = [text if find_auto(text) else "Answer: " + text.replace("\n", " ") for text, _, _ in cases]
    outcomes = Verifier(timeout=60.0)(completions, [gold for _, gold, _ in cases])
    num_agreed = num_reviewed = 0
    for (_, gold, is_right), outcome in zip(cases, outcomes, strict=True):
        if outcome.is_correct is is_right:
            num_agreed += 1
            continue
        verdict = REVIEWED.get(outcome.answer)
        num_reviewed += verdict is not None
        print(f"  {outcome.answer!r:.150} for {gold[-150:]!r}: label {is_right}, ours {outcome.is_correct}", end=" ")
        print(f"({outcome.reason}); {'label does not count: ' + verdict if verdict else 'the label is right'}")
    num_counting = len(cases) - num_reviewed
    print(
        f"{name}: {num_agreed} of {len(cases)} agree; of those whose label counts {num_agreed} of {num_counting}, ",
        end="",
    )
    print(f"{num_agreed / num_counting:.1%}")


def read_assertions(path: Path) -> Iterator[Case]:
    """`test_in` against `test_out`, or every pair of `test_pairs`, asserted to be equivalent or not."""
    for function in ast.walk(ast.parse(path.read_text(encoding="utf-8").expandtabs(4))):
        if not isinstance(function, ast.FunctionDef) or not function.name.startswith("test_"):
            continue
        pairs: list = []
        for statement in function.body:
            if isinstance(statement, ast.Assign) and statement.targets[0].id == "test_pairs":
                pairs = ast.literal_eval(statement.value)
            elif isinstance(statement, ast.Assign) and statement.targets[0].id == "test_in":
                pairs = [(ast.literal_eval(statement.value), None)]
            elif isinstance(statement, ast.Assign) and statement.targets[0].id == "test_out":
                pairs = [(pairs[0][0], ast.literal_eval(statement.value))]
            elif "assert" in (text := ast.unparse(statement)):
                yield from ((rf"\boxed{{{one}}}", other, "assertTrue" in text) for one, other in pairs)


def read_qwen(path: Path) -> Iterator[Case]:
    for row in map(json.loads, path.read_text(encoding="utf-8").splitlines()):
        yield from ((text, row["gt"], is_right) for text, is_right in zip(row["code"], row["score"], strict=True))


def read_math_verify(path: Path) -> Iterator[Case]:
    """The parametrized cases of the source distribution whose options are ours."""
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
                            yield row["pred"], row["gold"], bool(expected[0])


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


READERS = {
    "math_verify": read_math_verify,
    "hendrycks": read_assertions,
    "mario": read_assertions,
    "qwen": read_qwen,
}


if __name__ == "__main__":
    main()
