r"""
Wrong answers that a policy could learn to give, built from golds: none may be rewarded. And the golds as answers: all
must be, in any spelling, and none as the answer to another problem.
"""

import re

import pytest

from dapo_trl.rewards import AccuracyReward
from dapo_trl.rewards.verifier import Verifier
from tests.rewards.golds import GOLDS


INTEGERS = (34, 7, 1024, 60)

# Kind -> answers in a box that are wrong for the integer n.
BOXED = {
    "sums": (r"{m}+1", r"{k}-1", r"\sum_{{i=1}}^{{{n}}} 1", r"{n}+0"),
    "products": (r"1 \cdot {n}", r"\frac{{{d}}}{{2}}", r"{d}/2", r"\frac{{{n}}}{{1}}", r"\prod_{{i={n}}}^{{{n}}} i"),
    "powers and roots": (r"\sqrt{{{n}^2}}", r"{n}^1", r"\sqrt[3]{{{n}^3}}"),
    "functions": (r"\binom{{{n}}}{{1}}", r"|{n}|", r"\log_2 2^{{{n}}}", r"\lfloor {n}.5 \rfloor", r"\gcd({n},{d})"),
    "neighbours": (r"{m}", r"{k}", r"-{n}", r"{n}.0000001", r"{n}.5", r"0.{n}", r"{n}\%0"),
    "permutations": (r"{r}", r"{n}{n}", r"{n}_8 + {n}_9"),
    "candidate lists": (
        r"{n}, {k}",
        r"{m},{n},{k}",
        r"{n} \text{{ or }} {k}",
        r"\{{{n}, {k}\}}",
        r"{n};{k}",
        r"{n}|{k}",
    ),
    "ranges": (
        r"[{m},{k}]",
        r"({m},{k})",
        r"{m} < x < {k}",
        r"x \ge {n}",
        r"{m}\text{{ to }}{k}",
        r"\approx {k}",
        r"{n}-{k}",
    ),
    "sets that contain it": (
        r"\mathbb{{Z}}",
        r"\mathbb{{N}}",
        r"(-\infty, \infty)",
        r"\{{{n}\}} \cup \{{{k}\}}",
        r"n \in \mathbb{{Z}}",
    ),
    "either sign": (r"\pm {n}", r"{n} \pm 1", r"\pm{n}, 0", r"-{n} \text{{ or }} {n}"),
    "variables": (r"{n}x", r"{n}h", r"{n}ab", r"{n}t+c", r"x", r"n"),
    "equations": (r"x^2={n}", r"2x={n}", r"xy={n}", r"{n}=x^2", r"x={n}, y={k}", r"{k}={n}", r"0={n}x", r"x+1={n}+1"),
    "words that change it": (
        *(
            r"\text{{twice }}{n}",
            r"\text{{not }}{n}",
            r"{n}\text{{ is wrong}}",
            r"{n}\text{{ thousand}}",
            r"{n}\text{{ tenths}}",
        ),
        *(r"\text{{at least }}{n}", r"{n}\text{{ or more}}", r"{n}\text{{ dozen}}", r"\text{{all multiples of }}{n}"),
        *(
            r"\text{{negative }}{n}",
            r"\text{{the square of }}{n}",
            r"{n}\text{{ below zero}}",
            r"\text{{anything but }}{n}",
        ),
    ),
    "look-alikes": ("٣٤", "𝟑𝟒", "③④", r"\boldsymbol{{x}}", "З4", "l0", "O", "{n}\u20dd", "⁷", "{n}²"),
    "nothing": ("", " ", r"\,", r"\text{{}}", r"\boxed{{}}", "{{}}", "?", "$answer", "None", "nan", r"\infty"),
    "instructions": (
        r"\text{{the right answer}}",
        "Answer",
        "__import__('os')",
        r"\input{{gold}}",
        "True",
        "print({n})",
        "solution",
    ),
}

# Kind -> whole completions that are wrong for n.
COMPLETIONS = {
    "another answer after it": (
        *(
            "\\boxed{{{n}}} \\boxed{{{k}}}",
            "Answer: {n}\nAnswer: {k}",
            "\\boxed{{{n}}}\nAnswer: {k}",
            "Answer: {n}\n\\boxed{{{k}}}",
        ),
        *(
            "<answer>{n}</answer><answer>{k}</answer>",
            "The answer is {n}. The answer is {k}.",
            "\\boxed{{{n}}}, \\boxed{{{k}}}",
        ),
    ),
    "in the thinking": (
        *(
            "<think>\\boxed{{{n}}}</think>",
            "<think>\\boxed{{{n}}}",
            "<think>Answer: {n}</think>\\boxed{{{k}}}",
            "Answer: {n}</think>",
        ),
        *(
            "<think>a</think><think>Answer: {n}",
            "<think>\\boxed{{{n}}}</think>\nThe answer is {k}.",
            "\\boxed{{{n}}}</think>{k}",
        ),
    ),
    "not closed": ("\\boxed{{{n}", "<answer>{n}", "It is {n}", "{n}", "$${n}$$", "#{n}"),
}


def wrong_completions():
    """`(kind, completion, gold)` of every wrong answer."""
    for n in INTEGERS:
        values = {"n": n, "m": n - 1, "k": n + 1, "d": 2 * n, "r": str(n)[::-1] + "1"}
        for kind, answers in BOXED.items():
            for answer in answers:
                yield kind, rf"So it is \boxed{{{answer.format(**values)}}}.", str(n)
        for kind, completions in COMPLETIONS.items():
            for completion in completions:
                yield kind, completion.format(**values), str(n)
        yield "megabytes", rf"\boxed{{{str(n) * 100_000}}}", str(n)
        yield "megabytes", r"\boxed{" * 50_000 + str(n), str(n)
        yield "megabytes", f"Answer: {n}" + " or 5" * 100_000, str(n)


def test_no_wrong_answer_to_a_number_is_rewarded():
    cases = list(wrong_completions())
    assert len(cases) > 150 and len({kind for kind, *_ in cases}) > 15
    rewards = AccuracyReward()(completions=[text for _, text, _ in cases], solution=[gold for *_, gold in cases])
    rewarded = [case for case, reward in zip(cases, rewards, strict=True) if reward != -1.0]
    assert [(kind, text[:80], gold) for kind, text, gold in rewarded] == []


ALGEBRA = {
    r"\frac{7}{12}": (
        r"\frac{84}{144}",
        r"\frac{1}{3}+\frac{1}{4}",
        r"\frac{7}{13}",
        r"\frac{12}{7}",
        r"0.58",
        r"7, 12",
        r"7:12x",
    ),
    r"2\sqrt{3}": (
        r"\sqrt{12}",
        r"\sqrt{3}+\sqrt{3}",
        r"\sqrt{2}\cdot\sqrt{6}",
        r"3\sqrt{2}",
        r"2\sqrt{3}x",
        r"\pm 2\sqrt{3}",
    ),
    r"\frac{\pi}{6}": (
        r"\arcsin\frac{1}{2}",
        r"\frac{\pi}{2}-\frac{\pi}{3}",
        r"\frac{2\pi}{12}",
        r"30",
        r"\frac{\pi}{3}",
        r"0.52",
    ),
    r"2x+1": (r"x+x+1", r"3x-x+1", r"2(x+1)-1+0", r"(x+1)^2-x^2", r"2x", r"2y+1", r"2x+1=0", r"\frac{4x+2}{2}"),
    r"5r^5": (r"\frac{(10r^3)(4r^6)}{8r^4}", r"5r^2 \cdot r^3", r"5r^6", r"5^5 r", r"r^5"),
    r"(a+5)(b+2)": (r"ab+5b+2a+10", r"(a+2)(b+5)", r"a(b+2)+5(b+2)"),
    r"\cot x": (r"\frac{\sec x}{\sin x}-\frac{\sin x}{\cos x}", r"\tan x", r"\cot y"),
    r"(3, 4)": (r"(4, 3)", r"\{3, 4, 5\}", r"(1+2, 4)", r"(3, \sqrt{16})", r"3", r"(3, 4), (4, 3)", r"[3, 5]"),
    r"1, 2": (r"1", r"2", r"1, 2, 3", r"1 \text{ to } 2", r"x^2-3x+2=0", r"\{x : (x-1)(x-2)=0\}", r"12"),
    r"[2, 5)": (
        r"(2, 5)",
        r"[2, 5]",
        r"\sqrt{x-2} > \log(x-5)",
        r"[2, 5) \cup \{7\}",
        r"2, 5",
        r"x^2-7x+10 < 0",
        r"\mathbb{R}",
    ),
    r"x^2+y^2=4": (r"4", r"x^2+y^2", r"x^2+y^2=2", r"x^2-y^2=4"),
    r"\text{Evelyn}": (
        r"\text{Briana}",
        r"\text{Evelyn or Briana}",
        r"\text{nylevE}",
        r"\text{not Evelyn}",
        r"E",
        r"\text{Eve}",
    ),
    r"\text{(C)}": (
        r"\text{(D)}",
        r"\text{(A), (B), (C)}",
        r"\text{(C) or (D)}",
        r"c",
        r"x = c",
        r"CD",
        r"\text{not C}",
    ),
    r"9\text{ a.m.}": (
        r"9\text{ p.m.}",
        r"9",
        r"10\text{ a.m.}",
        r"21{:}00",
        r"9\text{ a.m. or 10 a.m.}",
        r"9\text{ am to }11\text{ am}",
    ),
    r"\sqrt{2} \cdot 10^{-16}": ("0", r"\sqrt{3} \cdot 10^{-16}", r"10^{-16}"),
    r"5ab": ("5bc", "5", r"5\text{ ab}c", "ab"),
    r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}": (
        r"\begin{pmatrix} 2 \\ 1 \end{pmatrix}",
        r"\begin{pmatrix} 1 & 0 \\ 0 & 1 \end{pmatrix} \begin{pmatrix} 1 \\ 2 \end{pmatrix}",
    ),
}


@pytest.mark.parametrize("gold", ALGEBRA)
def test_no_wrong_answer_to_another_gold_is_rewarded(gold):
    answers = ALGEBRA[gold]
    outcomes = Verifier()([rf"\boxed{{{answer}}}" for answer in answers], [gold] * len(answers))
    assert [(outcome.answer, outcome.reason.value) for outcome in outcomes if outcome.is_correct is not False] == []


SPELLINGS = {
    "box": r"\boxed{{{}}}",
    "line": "Answer: {}",
    "dollars": "Answer: ${}$",
    "full stop": "**Answer:** ${}$.",
    "display": "Answer:\n$$\n{}\n$$",
    "element": "<answer>{}</answer>",
    "LaTeX spaces": r"\boxed{{\,{}\,}}",
    "sentence": "<think>Hm.</think>The final answer is ${}$. I hope it is correct.",
}
REWRITES = {
    "dfrac": lambda gold: gold.replace(r"\frac", r"\dfrac").replace(r"\tfrac", r"\dfrac"),
    "left and right": lambda gold: re.sub(r"([)\]])", r"\\right\1", re.sub(r"([(\[])", r"\\left\1", gold)),
    "text": lambda gold: gold.replace(r"\text", r"\mbox"),
    "no spaces": lambda gold: re.sub(r"(?<![A-Za-z,.0-9]) | (?![A-Za-z0-9])", "", gold),
    "spaces": lambda gold: gold.replace("+", " + ").replace("=", " = ").replace(",", ", ").replace(r", \!", r",\!"),
}


def test_every_gold_is_right_for_itself_in_any_spelling():
    cases = [(name, form.format(gold), gold) for gold in GOLDS for name, form in SPELLINGS.items()]
    cases += [(name, rf"\boxed{{{rewrite(gold)}}}", gold) for gold in GOLDS for name, rewrite in REWRITES.items()]
    outcomes = Verifier(timeout=30.0)([text for _, text, _ in cases], [gold for *_, gold in cases])
    wrong = [(*case, one.answer) for case, one in zip(cases, outcomes, strict=True) if one.is_correct is not True]
    assert wrong == []


@pytest.mark.parametrize("shift", [1, 7])
def test_no_gold_is_right_for_another(shift):
    others = GOLDS[shift:] + GOLDS[:shift]
    outcomes = Verifier()([rf"\boxed{{{gold}}}" for gold in GOLDS], others)
    right = [pair for *pair, one in zip(GOLDS, others, outcomes, strict=True) if one.is_correct is not False]
    assert right == []
