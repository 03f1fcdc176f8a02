import pytest

from dapo_trl.data.decontaminate import Decontaminator, read_problems


EVALUATION = "A train leaves the station at noon and travels sixty miles per hour until it meets another train"


def test_copy_in_other_writing_is_found():
    found = Decontaminator([EVALUATION], ngram_size=4)
    assert found.is_contaminated(EVALUATION.upper().replace(" ", "  ") + "!")


def test_share_of_common_ngrams_decides():
    # 18 words make 15 n-grams of 4 words; the first 10 words are 7 of them, the first 11 are 8.
    found = Decontaminator([EVALUATION], ngram_size=4, min_overlap=0.5)
    other = " one two three four five six seven eight nine ten eleven twelve thirteen fourteen"
    words = EVALUATION.split()
    assert not found.is_contaminated(" ".join(words[:10]) + other)
    assert found.is_contaminated(" ".join(words[:11]) + other)


@pytest.mark.parametrize(
    "copy",
    [
        r"Let $x_{1} + \dfrac{1}{2} = \left(3 \times y\right)^2$. Find $\sin x_{1}$.",
        r"Let $x_1+\frac12=(3×y)^2$. Find $\sinx_1$.",
        r"Solve this and explain. Let $x_1 + \frac{1}{2} = (3 \times y)^2$.  Find $\sin x_1$.",
    ],
)
def test_copy_in_another_spelling_of_latex_is_found(copy):
    problem = r"Let $x_1 + \frac{1}{2} = (3 \times y)^2$. Find $\sin x_1$."
    assert Decontaminator([problem], min_overlap=1.0).is_contaminated(copy)
    assert not Decontaminator([problem]).is_contaminated(r"Let $z_3 - \frac{7}{2} = (5 + y)^4$. Find $\cos z_3$.")


def test_short_problem_is_found_behind_a_prefix_but_not_in_the_middle():
    found = Decontaminator(["What is 1+1?", "Find x."])
    assert found.is_contaminated("Solve the following problem and explain it well. What is 1+1?")
    assert not found.is_contaminated("Solve the following problem and explain it well. What is 1+1+1?")
    assert not found.is_contaminated("The side of the square has length x and area nine. Find x.")


def test_part_of_an_evaluation_problem_is_found():
    assert Decontaminator([EVALUATION], ngram_size=4).is_contaminated("travels sixty miles per hour until it meets")


def test_short_problem_is_compared_as_a_whole():
    found = Decontaminator(["What is 1+1?"], ngram_size=8)
    assert found.is_contaminated("what is $1 + 1$")
    assert not found.is_contaminated("What is 1+2?")


def test_common_phrase_is_no_contamination():
    phrase = " can be written as m over n where m and n are relatively prime positive integers find m plus n"
    long = "The sum of the areas of all triangles whose vertices are also vertices of a one by one by one cube"
    found = Decontaminator([long + phrase], ngram_size=8)
    other = "A fair die is rolled until the total is at least one hundred and the chance that it is exactly that"
    assert not found.is_contaminated(other + phrase)


def test_no_words_are_nothing_in_common():
    assert not Decontaminator(["???", EVALUATION]).is_contaminated("!!!")


@pytest.mark.parametrize(("options", "field"), [({"ngram_size": 0}, "ngram_size=0"), ({"min_overlap": 0}, "lap=0")])
def test_bad_settings(options, field):
    with pytest.raises(ValueError, match=field):
        Decontaminator([EVALUATION], **options)


def test_evaluation_problems_need_no_gold(write_jsonl):
    path = write_jsonl("aime.jsonl", {"problem": "Q1?"}, {"problem": "Q2?"})
    assert read_problems(path) == ["Q1?", "Q2?"]
    with pytest.raises(ValueError, match=r"bad.jsonl': no column `problem`.*among text"):
        read_problems(write_jsonl("bad.jsonl", {"text": "Q1?"}))
    with pytest.raises(ValueError, match=r"gap.jsonl', row 1 .*column 'problem': a prompt must be a text"):
        read_problems(write_jsonl("gap.jsonl", {"problem": "Q1?"}, {"problem": None}))
