"""A reward for models too weak to write an answer line."""

import re


NUMBER = re.compile(r"(?:(?<![\d)])-)?\d[\d,]*(?:\.\d+)?")  # a minus behind a number subtracts


def read_last_number(text: str) -> float | None:
    """
    The last number in `text`, without thousands separators; `None` if there is none.

    >>> read_last_number("He kept 1,200 - 50 = 1,150 tadpoles.")
    1150.0
    """
    numbers = NUMBER.findall(text)
    return float(numbers[-1].replace(",", "")) if numbers else None


def last_number(completions: list, solution: list[str], **kwargs) -> list[float | None]:
    """
    +1 where the last number of the completion is the gold number, else -1; `None` where the gold holds no number.

    This is how weak models are commonly scored on GSM8K: they reach the answer, if at all, without saying that it is
    one. It can be right by luck, so use the `accuracy` reward for a model that follows instructions.

    Args:
        completions (`list`): texts, or lists of messages of which the last is read.
        solution (`list[str]`): golds.
    """
    texts = [item if isinstance(item, str) else item[-1]["content"] for item in completions]
    golds = [read_last_number(gold) for gold in solution]
    return [
        None if gold is None else (1.0 if read_last_number(text) == gold else -1.0)
        for text, gold in zip(texts, golds, strict=True)
    ]
