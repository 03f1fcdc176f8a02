import pytest

from dapo_trl.rewards.answers import ANSWER_RULES, clean_answer, find_auto, find_boxed, get_answer_rule


@pytest.mark.parametrize(
    "completion, answer",
    [
        ("So we add.\nAnswer: 540", "540"),
        ("Answer: 540.", "540"),
        ("**Answer:** 540", "540"),
        ("**Answer**: 540", "540"),
        ("Answer: **540**", "540"),
        ("**Answer: 540**", "540"),
        ("### Final Answer: $540$.", "540"),
        ("answer : \\(540\\)", "540"),
        ("ANSWER: 540", "540"),
        ("İstanbul\nAnswer: 540", "540"),
        ("Answer: \\boxed{540}", "540"),
        ("Answer: $\\boxed{\\frac{1}{2}}$", "\\frac{1}{2}"),
        ("Answer:\n\n$$\n540\n$$", "540"),
        ("Answer:\n\\[\n\\boxed{540}\n\\]", "540"),
        ("Answer：５４０", "５４０"),
        ("\\textbf{Answer: 540}", "540"),
        ("Final Answer: The final answer is $540$. I hope it is correct.", "540"),
        ("Answer: The largest $n$ is 34.", "34"),
        ("Answer: 1\nNo, wait.\nAnswer: 2", "2"),
    ],
)
def test_auto_reads_an_answer_line(completion, answer):
    assert find_auto(completion) == answer


@pytest.mark.parametrize(
    "completion, answer",
    [
        ("It is \\boxed{34}.", "34"),
        ("\\boxed{1} then \\boxed{2}", "2"),
        ("\\boxed{\\frac{1}{\\sqrt{2}}}", "\\frac{1}{\\sqrt{2}}"),
        ("\\boxed5", "5"),
        ("\\boxed {5}", "5"),
        ("\\fbox{5}", "5"),
        ("\\boxed{\\{1, 2\\}}", "\\{1, 2\\}"),
        ("\\boxed{34} and then \\boxed{35", "34"),
        ("\\boxed{}", None),
        ("nothing", None),
    ],
)
def test_boxed_reads_the_last_complete_box(completion, answer):
    assert find_boxed(completion) == answer


def test_auto_takes_what_is_stated_last():
    assert find_auto("\\boxed{1}\nAnswer: 2") == "2"
    assert find_auto("Answer: let us think step by step.\nIt is \\boxed{2}.") == "2"


@pytest.mark.parametrize(
    "completion, answer",
    [
        ("So it is <answer>540</answer>", "540"),
        ("<answer>\nThe answer is $\\frac{1}{2}$.\n</answer>", "\\frac{1}{2}"),
        ("\\boxed{1} <answer>\\boxed{2}</answer>", "2"),
        ("<answer>1</answer> so \\boxed{2}", "2"),
        ("<answer>1</answer><answer>2</answer>", "2"),
        ("<answer>1", None),
        ("<answer></answer>", None),
    ],
)
def test_auto_reads_an_answer_element(completion, answer):
    assert find_auto(completion) == answer


@pytest.mark.parametrize("space", ["\\,", "\\;", "\\ ", "\\quad", "\\,."])
def test_latex_spaces_at_the_end_are_no_part_of_the_answer(space):
    assert find_boxed(f"\\boxed{{\\,5{space}}}").endswith("5")
    assert find_auto(f"Answer: $x+1{space}$.") == "x+1"


@pytest.mark.parametrize("text", ["Nothing but this is 34", "The wrong one is 34", "34 is wrong"])
def test_sentences_that_say_otherwise_are_kept(text):
    assert clean_answer(text) == text


def test_clean_answer_drops_an_explanation():
    assert clean_answer("540. This is the sum") == "540"
    assert clean_answer("540. But not really") == "540. But not really"


def test_auto_joins_enumerated_boxes_and_boxed_does_not():
    text = "$n = \\boxed{-2}$ and $\\boxed{1}$"
    assert find_auto(text) == "-2, 1"
    assert find_boxed(text) == "1"
    assert find_auto("First \\boxed{3}. Corrected: \\boxed{4}") == "4"


def test_auto_reads_a_sentence_only_without_a_stated_answer():
    assert find_auto("So the answer is 34.") == "34"
    assert find_auto("#### 34") == "34"
    assert find_auto("So the answer is 34.\nAnswer: 35") == "35"


def test_auto_does_not_read_the_echo_of_the_instruction():
    assert find_auto("The last line should be Answer: $Answer (without quotes).\nAnswer: 7") == "7"


def test_an_answer_anywhere_in_the_completion_is_found():
    assert find_auto("Answer: 7\n" + "Let me check. " * 10_000) == "7"


@pytest.mark.parametrize("completion", ["", "Answer:", "Answer: **", "Answer: $$", "\\boxed{", "{" * 5000, "\x00"])
def test_no_answer(completion):
    assert find_auto(completion) is None


@pytest.mark.parametrize(
    "completion",
    [
        "{" * 1_000_000,
        "\\boxed{" * 200_000,
        "Answer: " * 200_000,
        "Answer:" + " " * 1_000_000,
        "the answer is " * 100_000,
    ],
)
def test_megabytes_are_read_in_bounded_steps(completion):
    assert len(find_auto(completion) or "") <= 1000


def test_clean_answer_keeps_what_is_part_of_the_answer():
    assert clean_answer("$5$ and $6$") == "$5$ and $6$"
    assert clean_answer("5!") == "5!"
    assert clean_answer("x = 5") == "x = 5"


def test_rules_have_names_and_versions():
    assert {name: rule.tag for name, rule in ANSWER_RULES.items()} == {
        "math_dapo": "math_dapo-1",
        "boxed": "boxed-2",
        "auto": "auto-2",
    }
    assert get_answer_rule("auto-2") is get_answer_rule("auto")
    with pytest.raises(ValueError, match="'minerva'.*auto, boxed, math_dapo"):
        get_answer_rule("minerva")
