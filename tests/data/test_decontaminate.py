import functools
import re

import pytest

from dapo_trl.data.decontaminate import Decontaminator, read_problems


EVALUATION = "A train leaves the station at noon and travels sixty miles per hour until it meets another train"


def test_copy_in_other_writing_is_found():
    found = Decontaminator([EVALUATION])
    assert found.is_contaminated(EVALUATION.upper().replace(" ", "  ") + "!")


@pytest.mark.parametrize(("num_common", "is_found"), [(43, False), (44, True)])
def test_share_of_common_ngrams_decides(num_common, is_found):
    # 49 letters make 10 n-grams of 40; the first 43 letters are 4 of them, the first 44 are 5.
    letters = "abcdefghijklmnopqrstuvwxyz" * 2
    other = letters[:num_common] + letters[::-1]
    assert Decontaminator([letters[:49]]).is_contaminated(other) is is_found


def test_part_of_an_evaluation_problem_is_found():
    assert Decontaminator([EVALUATION]).is_contaminated("travels sixty miles per hour until it meets another train")


PROBLEMS = {
    "long": r"Let $x_1 \le \frac{3}{4}$, $(y + 1,200)$ be reals, $\sin \alpha \cdot x^2 = -1{,}005$. Find $xy$.",
    "short": r"Compute $\frac{1}{2} - \sqrt{18}$.",
    "relations": r"For which $n$ is $0 \le n \lt 18$ and $x^2 \ge n$?",
    "without numbers": r"Simplify $\frac{\sec x}{\sin x} - \cos x$.",
}
SPELLINGS = {
    "fractions": lambda text: text.replace(r"\frac", r"\dfrac"),
    "fraction bar": lambda text: re.sub(r"\\frac\{([^{}]*)\}\{([^{}]*)\}", r"(\1)/(\2)", text),
    "no braces": lambda text: re.sub(r"\\frac\{(\d)\}\{(\d)\}", r"\\frac\1\2", text),
    "more braces": lambda text: re.sub(r"([_^])(\w)", r"\1{\2}", text),
    "sized brackets": lambda text: text.replace("(", r"\left(").replace(")", r"\right)"),
    "round delimiters": lambda text: re.sub(r"\$(.*?)\$", r"\\(\1\\)", text),
    "square delimiters": lambda text: re.sub(r"\$(.*?)\$", r"\\[\1\\]", text),
    "no delimiters": lambda text: text.replace("$", ""),
    "no spaces": lambda text: re.sub(r"\$.*?\$", lambda match: match[0].replace(" ", ""), text),
    "thin spaces": lambda text: re.sub(r"\$.*?\$", lambda match: match[0].replace(" ", r"\, "), text),
    "other white space": lambda text: text.replace(" ", " \u00a0\n"),
    "upper case": str.upper,
    "no punctuation": lambda text: re.sub(r"[.,](?=\s|$)", "", text),
    "text": lambda text: re.sub(r"(?<!\\)\b([A-Z][a-z]+)", r"\\text{\1}", text),
    "Unicode": lambda text: functools.reduce(lambda text, pair: text.replace(*pair), UNICODE.items(), text),
    "HTML": lambda text: text.replace(r"\le", "&le;"),
    "thousands": lambda text: text.replace("{,}", ",").replace("1,200", "1, 200"),
}
UNICODE = {r"\le": "≤", "-": "−", r"\cdot": "·", r"\alpha": "α", "^2": "²", r"\frac{1}{2}": "½", r"\sqrt": "√"}
PROMPTS = {
    "words before": "Solve the following problem and explain. {}",
    "number before": "5. {}",
    "label": "**Problem 5 (AMC 2019).** {}",
    "words around": "Question: {}\nAnswer:",
    "template": "{}\n\nPlease reason step by step, and put your final answer within \\boxed{{}}.",
    "words after": "{} Let's think step by step.",
}


@pytest.mark.parametrize("problem", PROBLEMS)
def test_copies_in_another_spelling_are_found(problem):
    text = PROBLEMS[problem]
    found = Decontaminator([text])
    assert [name for name, spelling in SPELLINGS.items() if not found.is_contaminated(spelling(text))] == []
    assert all(spelling(PROBLEMS["long"]) != PROBLEMS["long"] for spelling in SPELLINGS.values())


def test_copies_without_latex_are_found():
    assert Decontaminator([PROBLEMS["long"]]).is_contaminated(
        "Let x1 <= 3/4, (y+1200) be reals, sin(alpha)*x^2 = -1005. Find xy."
    )
    assert Decontaminator([PROBLEMS["short"]]).is_contaminated("COMPUTE 1/2 - sqrt(18)")


@pytest.mark.parametrize("problem", PROBLEMS)
def test_copies_in_a_longer_prompt_are_found(problem):
    text = PROBLEMS[problem]
    found = Decontaminator([text])
    assert [name for name, prompt in PROMPTS.items() if not found.is_contaminated(prompt.format(text))] == []


@pytest.mark.parametrize(
    ("problem", "other"),
    [
        ("What is 1+1?", "What is 1+2?"),
        ("What is 1+1?", "What is 1+1+1?"),
        ("What is 1+1?", "What is 11+1?"),
        ("What is 3+5?", "What is 3-5?"),
        ("What is 12*7?", "What is 1*27?"),
        ("What is 3.5% of 200?", "What is 35% of 200?"),
        ("Compute $x$ if $2x < 5$.", "Compute $x$ if $2x > 5$."),
        ("Compute $\\sin 60$.", "Compute $\\cos 60$."),
        ("Compute $2^3$.", "Solve this. Compute $2^3 + 1$."),
        ("Compute $2^3$.", "Solve this. Compute $2^3x$ for $x = 4$."),
        ("Find the shaded area.", "Triangle ABC has the sides 3, 4 and 5. Find the shaded area."),
        (PROBLEMS["long"], PROBLEMS["long"].replace("-1{,}005", "1{,}005")),
        (PROBLEMS["long"], PROBLEMS["long"].replace("x^2", "x^3")),
        (PROBLEMS["long"], PROBLEMS["long"].replace(r"\le", r"\ge")),
        (EVALUATION.replace("sixty", "60"), EVALUATION.replace("sixty", "65")),
    ],
)
def test_other_numbers_or_signs_are_another_problem(problem, other):
    assert not Decontaminator([problem]).is_contaminated(other)
    assert Decontaminator([problem]).is_contaminated(problem)


def test_short_problem_is_compared_as_a_whole():
    assert Decontaminator(["What is 1+1?"]).is_contaminated("what is $1 + 1$")


def test_common_phrase_is_no_contamination():
    phrase = " can be written as m over n where m and n are relatively prime positive integers find m plus n"
    long = "The sum of the areas of all triangles whose vertices are also vertices of a one by one by one cube"
    found = Decontaminator([long + phrase])
    other = "A fair die is rolled until the total is at least one hundred and the chance that it is exactly that"
    assert not found.is_contaminated(other + phrase)


def test_no_words_are_nothing_in_common():
    assert not Decontaminator(["???", EVALUATION]).is_contaminated("!!!")


def test_evaluation_problems_need_no_gold(write_jsonl):
    path = write_jsonl("aime.jsonl", {"problem": "Q1?"}, {"problem": "Q2?"})
    assert list(read_problems([path, path])) == ["Q1?", "Q2?"] * 2
    with pytest.raises(ValueError, match=r"bad.jsonl': no column `problem`.*among text"):
        list(read_problems([write_jsonl("bad.jsonl", {"text": "Q1?"})]))
    with pytest.raises(ValueError, match=r"gap.jsonl', row 1 .*column 'problem': a prompt must be a text"):
        list(read_problems([write_jsonl("gap.jsonl", {"problem": "Q1?"}, {"problem": None})]))
