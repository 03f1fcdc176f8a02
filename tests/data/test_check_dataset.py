"""The check that golds score, with rewards written for the purpose and with the accuracy reward."""

import logging
import re

import pytest
from datasets import Dataset, DatasetDict
from transformers import AutoTokenizer

from dapo_trl.data import CheckFailedError, check_dataset
from dapo_trl.data.check import gold_completion
from dapo_trl.data.templates import apply_template
from dapo_trl.data.tokens import length_statistics, prompt_ids
from dapo_trl.rewards import load_reward


def reads_answer_lines(prompts, completions, completion_ids, solution, **kwargs):
    """+1 / -1 by the `Answer:` line; golds that are not numbers cannot be read."""
    texts = [completion if isinstance(completion, str) else completion[0]["content"] for completion in completions]
    return [
        None if not gold.isdigit() else 1.0 if re.search(r"^Answer: (\d+)$", text) else -1.0
        for text, gold in zip(texts, solution, strict=True)
    ]


def data(golds, template="plain"):
    return Dataset.from_dict(
        {"prompt": [apply_template(template, f"Q{n}?") for n in range(len(golds))], "solution": golds}
    )


def test_all_golds_score():
    report = check_dataset(data(["1", "2", "3"]), reads_answer_lines)
    assert report.frac_right == {"reads_answer_lines": 1.0}
    assert report.failures == []


def test_failures_are_listed_with_row_and_reason():
    with pytest.raises(CheckFailedError) as error:
        check_dataset(data(["1"] * 98 + ["pi", "2"]), reads_answer_lines, min_frac_right=0.995)
    (failure,) = error.value.report.failures
    assert failure == "row 98, reads_answer_lines, answer 'pi' as 'Answer: pi': no reward, the answer cannot be read"
    assert "reads_answer_lines (99.00%)" in str(error.value)
    assert failure in str(error.value)


def test_bound_is_99_percent():
    assert len(check_dataset(data(["1"] * 99 + ["pi"]), reads_answer_lines).failures) == 1
    with pytest.raises(CheckFailedError, match=r"98.00%"):
        check_dataset(data(["1"] * 98 + ["pi"] * 2), reads_answer_lines)


def test_prompt_asking_for_a_form_that_is_not_read_fails():
    golds = ["1", "2"]
    check_dataset(data(golds, "dapo"), reads_answer_lines)
    with pytest.raises(CheckFailedError, match=r"as '\\\\boxed\{1\}': reward -1, judged wrong"):
        check_dataset(data(golds, "boxed"), reads_answer_lines)


@pytest.mark.parametrize(
    ("template", "answer_rule"), [("dapo", "auto"), ("boxed", "auto"), ("boxed", "boxed"), ("dapo", "math_dapo")]
)
@pytest.mark.parametrize("conversational", [False, True])
def test_accuracy_reward_reads_what_the_templates_ask_for(template, answer_rule, conversational):
    dataset = data(["34", "-5"], template)
    if conversational:
        dataset = dataset.map(lambda row: {"prompt": [{"role": "user", "content": row["prompt"]}]})
    reward_func = load_reward("accuracy", answer_rule=answer_rule)
    assert check_dataset(dataset, reward_func).frac_right == {f"accuracy ({reward_func.answer_rule})": 1.0}


def test_sample_is_seeded():
    seen = []

    def record(completions, solution, **kwargs):
        seen.append(solution)
        return [1.0] * len(completions)

    golds = [str(n) for n in range(1000)]
    reports = [check_dataset(data(golds), record, sample=5, seed=seed) for seed in (1, 1, 2)]
    assert [report.num_checked for report in reports] == [5, 5, 5]
    assert seen[0] == seen[1] != seen[2]
    assert len(set(seen[0])) == 5


def test_every_function_must_pass():
    def never(completions, **kwargs):
        return [0.0] * len(completions)

    with pytest.raises(CheckFailedError, match=r"from never \(0.00%\)") as error:
        check_dataset(data(["1"]), [reads_answer_lines, never])
    assert error.value.report.frac_right == {"reads_answer_lines": 1.0, "never": 0.0}


def test_functions_of_one_name_do_not_hide_each_other():
    def judge(value):
        def reward(completions, **kwargs):
            return [value] * len(completions)

        return reward

    for values in ((1.0, 0.0), (0.0, 1.0)):
        with pytest.raises(CheckFailedError, match=r"from reward \(0.00%\)"):
            check_dataset(data(["1"]), [judge(value) for value in values])


def test_other_columns_and_async_functions():
    async def by_column(completions, level, **kwargs):
        return [float(value) for value in level]

    dataset = data(["1", "2"]).add_column("level", [1, 2])
    assert check_dataset(dataset, by_column).frac_right == {"by_column": 1.0}


def test_wrong_number_of_rewards():
    with pytest.raises(ValueError, match=r"'<lambda>' returned 1 rewards for 2 completions"):
        check_dataset(data(["1", "2"]), lambda **kwargs: [1.0])


def test_duplicates_are_counted_and_warned_of(caplog):
    dataset = Dataset.from_dict({"prompt": ["Q?", "Q?", " Q?", "R?"], "solution": ["1", "1", "2", "3"]})
    with caplog.at_level(logging.WARNING, logger="dapo_trl.data.check"):
        report = check_dataset(dataset, lambda completions, **kwargs: [1.0] * len(completions))
    assert report.num_duplicates == 2
    assert "2 of 4 rows repeat the problem of another row" in caplog.text


def test_lengths_in_tokens(tokenizer_path):
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_path)
    assert list(map(len, prompt_ids(["a a a", "a"], tokenizer))) == [3, 1]
    assert list(map(len, prompt_ids([[{"role": "user", "content": "a a a"}]], tokenizer))) == [5]
    assert prompt_ids([], tokenizer) == []
    tokenizer.chat_template = None
    with pytest.raises(ValueError, match=r"has no chat template, and the prompts are lists of messages. Use the"):
        prompt_ids([[{"role": "user", "content": "a"}]], tokenizer)
    dataset = Dataset.from_dict({"prompt": ["a", "a a", "a a a"], "solution": ["1", "1", "1"]})
    report = check_dataset(dataset, reads_answer_lines, tokenizer=tokenizer)
    assert report.prompt_tokens == {"min": 1, "median": 2, "95%": 3, "max": 3}
    assert "prompt tokens: min 1, median 2, 95% 3, max 3" in report.summary()


def test_length_statistics_are_nearest_ranks():
    assert length_statistics(list(range(1, 101))) == {"min": 1, "median": 50, "95%": 95, "max": 100}
    assert length_statistics([7]) == {"min": 7, "median": 7, "95%": 7, "max": 7}


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("12+7=", "Answer: 19"),
        ("Last line: Answer: $Answer.", "Answer: 19"),
        ("Within \\boxed{}.", "\\boxed{19}"),
        ("Last line: Answer: \\boxed{$Answer}.", "Answer: \\boxed{19}"),
        ([{"role": "system", "content": "Use \\boxed{}."}, {"role": "user", "content": "12+7="}], "\\boxed{19}"),
    ],
)
def test_gold_is_written_as_the_prompt_asks(prompt, expected):
    assert gold_completion(prompt, "19") == expected


@pytest.mark.parametrize(
    ("dataset", "reward_funcs", "options", "message"),
    [
        (Dataset.from_dict({"prompt": ["Q?"]}), reads_answer_lines, {}, "no column 'solution', only .'prompt'"),
        (Dataset.from_dict({"prompt": [], "solution": []}), reads_answer_lines, {}, "no rows"),
    ],
)
def test_bad_arguments(dataset, reward_funcs, options, message):
    with pytest.raises(ValueError, match=message):
        check_dataset(dataset, reward_funcs, **options)


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        (
            DatasetDict(test=data(["1"])),
            r"a DatasetDict with the splits \['test'\], but .* one of the splits",
        ),
        (data(["1"]).to_iterable_dataset(), "is a IterableDataset, .* without streaming"),
        ([{"prompt": "Q?", "solution": "1"}], "is a list, .* built with Dataset.from_list"),
    ],
)
def test_what_is_no_data_set(dataset, message):
    with pytest.raises(TypeError, match=message):
        check_dataset(dataset, reads_answer_lines)
