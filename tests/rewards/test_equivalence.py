from fractions import Fraction

import pytest

from dapo_trl.rewards.equivalence import compare, read, read_number
from dapo_trl.rewards.outcome import Reason
from dapo_trl.rewards.spelling import neutral


@pytest.mark.parametrize(
    "answer, gold",
    [
        ("033", "33"),
        ("540.0", "540"),
        ("1,024", "1024"),
        ("1{,}024", "1024"),
        ("1,\\!024", "1024"),
        ("111, \\! 111, \\! 111", "111111111"),
        ("1 024", "1024"),
        ("x = 540", "540"),
        ("540", "x=540"),
        ("f(2) = 540", "540"),
        ("540 degrees", "540"),
        ("540^\\circ", "540"),
        ("540°", "540"),
        ("540 \\text{ square units}", "540"),
        ("540cm^2", "540"),
        ("$540", "540"),
        ("\\$32,348", "32348"),
        ("negative 540", "-540"),
        ("m + n = 540", "540"),
        ("0.333333", "1/3"),
        ("1.5 \\times 10^{3}", "1500"),
        ("540^{\\text{th}}", "540"),
        ("540 \\mathrm{m/s^2}", "540"),
        ("540\\text{ kg}\\cdot\\text{m}^2", "540"),
        ("\\{540\\}", "540"),
        ("540 cm squared", "540"),
        ("540 m/s", "540"),
        ("540^\\circ C", "540"),
        ("\\text{540 cm}", "540"),
        ("\\approx 540", "540"),
        ("540 \\approx 539.99", "540"),
        ("Option C", "C"),
        ("12", "C. 12"),
        ("(C) 12", "C"),
        ("C. 12", "\\textbf{(C)}\\ 12"),
        ("12", "(C) 12"),
        ("9:00 am", "9\\text{ a.m.}"),
        ("16:30", "\\text{4:30 p.m.}"),
        ("June 20", "\\text{June 20}"),
        ("C, A", "\\text{A,C}"),
        ("40_9", "40_{9}"),
        ("40", "40_9"),
        ("-3/4", "-\\frac{3}{4}"),
        ("\\dfrac{3}{4}", "0.75"),
        ("\\frac34", "3/4"),
        ("2 1/2", "5/2"),
        ("0.\\overline{3}", "1/3"),
        ("-\\frac{3}{22}", "-0.1\\overline{36}"),
        ("\\\\dfrac{1}{2}", "1/2"),
        ("2\\frac{1}{2}", "2.5"),
        (".5", "1/2"),
        ("−5", "-5"),
        ("５４０", "540"),
        ("50%", "50"),
        ("50\\%", "0.5"),
        ("\\left( 3, \\frac{\\pi}{2} \\right)", "(3,\\frac{\\pi}{2})"),
        ("\\text{Evelyn}", "Evelyn"),
        ("evelyn", "\\text{Evelyn}"),
        ("C", "\\text{(C)}"),
        ("x \\neq 3", "x != 3"),
        ("2√13", "2\\sqrt{13}"),
        ("√(2x + 1)", "\\sqrt{2x+1}"),
        ("√x", "\\sqrt x"),
        ("6+9*i", "6 + 9i"),
        ("6 + 9 \\cdot i", "6+9i"),
        ("2112_{\\text{6}}", "2112_6"),
        ("\\sqrt{x^{9}y}", "\\sqrt{x^9y}"),
    ],
)
def test_equal(answer, gold):
    assert compare(answer, gold).is_correct is True


@pytest.mark.parametrize(
    "answer, gold",
    [
        ("34", "35"),
        ("-5", "5"),
        ("1024", "1.024"),
        ("3/4", "4/3"),
        ("540 degrees", "54 degrees"),
        ("0,111", "111"),
        ("Briana", "\\text{Evelyn}"),
        ("D", "\\text{(C)}"),
        ("(D) 12", "(C) 12"),
        ("(C) 13", "(C) 12"),
        ("(C) 13", "12"),
        ("0.33", "1/3"),
        ("0.\\overline{34}", "1/3"),
        ("0.0000001", "0"),
        ("34.0000001", "34"),
        ("5", "x = 6"),
        ("y = 6", "x = 6"),
        ("so " * 200, "5"),
        ("June 5", "\\text{May 5}"),
        ("9 p.m.", "9\\text{ a.m.}"),
        ("9", "9\\text{ a.m.}"),
        ("der", "\\text{red}"),
        ("z = c", "\\text{(C)}"),
        ("ba", "ab"),
        ("40_8", "40_9"),
    ],
)
def test_different(answer, gold):
    assert compare(answer, gold).is_correct is False


UNITS = [
    ["5\\text{ cm}", "5 centimeters", "5\\,\\mathrm{centimetres}"],
    ["5\\text{ m}", "5 meters"],
    ["5\\text{ cm}^2", "5\\text{ square centimeters}", "5\\text{ sq. cm}", "5 cm squared", "5cm^{2}"],
    ["5\\text{ cm}^3", "5 cubic centimeters", "5 cc", "5\\text{ ml}"],
    ["5\\text{ h}", "5 hr", "5 hours"],
    ["5\\text{ mi}/\\text{h}", "5 mph", "5 miles per hour"],
    ["5\\text{ m/s}^2", "5 meters per second squared", "5\\text{ m}\\cdot\\text{s}^{-2}"],
    ["\\$5", "5\\text{ dollars}"],
    ["5^\\circ", "5°", "5 degrees"],
    ["5\\%", "5\\text{ percent}"],
    ["5_6", "5_{\\text{6}}"],
]


@pytest.mark.parametrize("spellings", UNITS)
def test_units_have_to_be_the_same_if_both_are_stated(spellings):
    others = [other for unit in UNITS if unit is not spellings for other in unit]
    for gold in spellings:
        assert all(compare(answer, gold).is_correct for answer in (*spellings, "5", "5 units", "5\\text{ of them}"))
        assert [answer for answer in others if compare(answer, gold).is_correct is not False] == []


def test_square_units_are_of_any_area():
    answers = ["100 cm^2", "100\\text{ square feet}", "100 units", "100\\%", "100\\text{ cm}", "100^\\circ"]
    verdicts = [compare(answer, "100\\text{ square units}").is_correct for answer in answers]
    assert verdicts == [True, True, True, False, False, False]


def test_units_of_what_is_left_to_algebra():
    gold = "2\\sqrt{3}\\text{ cm}"
    assert compare("\\sqrt{12}\\text{ m}", gold).is_correct is False
    assert compare("\\sqrt{12}\\text{ centimeters}", gold) is None
    assert compare("x^{9}2", "x^{92}") is None


@pytest.mark.parametrize(
    "answer",
    [
        "2 + 3",
        "10/2",
        "\\frac{5}{1}",
        "\\sqrt{25}",
        "5!",
        "5^1",
        "\\binom{5}{1}",
        "5 or 6",
        "5, 6",
        "5 million",
        "5x",
        "5 x",
        "5h",
    ]
    + [
        "\\pm 5",
        "[5, 5]",
        "5 \\pmod{7}",
        "3 < 5",
        "xy = 5",
        "x = 2, y = 5",
        "5 tenths",
        "5 below zero",
        "5 is wrong",
        "5!!",
    ]
    + [
        "٥",
        "10**10**10",
        "1e999999999",
        "\\frac{5}{0}",
        "not 5",
        "5 squared",
        "5 tens",
        "|x| = 5",
        "x/y = 5",
        "twice 5",
        "May 5",
        "\\text{any of the first } 5",
        "5 or more",
    ],
)
def test_what_is_no_finished_number_is_wrong_for_a_number(answer):
    outcome = compare(answer, "5")
    assert outcome.is_correct is False
    assert outcome.reason in (Reason.UNFINISHED, Reason.RULE)


def test_a_fraction_must_be_in_lowest_terms_if_the_gold_is():
    assert compare("\\frac{84}{144}", "\\frac{7}{12}").reason is Reason.UNFINISHED
    assert compare("\\frac{7}{12}", "\\frac{84}{144}").is_correct is True
    assert compare("\\frac{14}{24}", "\\frac{84}{144}").is_correct is True


@pytest.mark.parametrize(
    "answer, gold",
    [
        ("2x", "x^2"),
        ("5 x", "5 y"),
        ("0", "a + 3z = 0"),
        ("x = 6", "xy = 6"),
        ("5", "2^2 + 1"),
        ("5, 6", "\\{5, 6\\}"),
        ("5g", "5h"),
        ("5bc", "5ab"),
        ("2 + 3 = 5", "5"),
        ("p q", "p - q"),
    ],
)
def test_left_to_algebra(answer, gold):
    assert compare(answer, gold) is None


def test_read_number():
    assert read_number("-1,024.50").value == Fraction(-2049, 2)
    assert read_number("50%").unit == "%"
    assert read_number("no number") is None
    assert read_number("2 1/2").value == Fraction(5, 2)


def test_what_needs_no_algebra_as_a_gold():
    plain = ["34", "\\frac{7}{12}", "\\text{Evelyn}", "no solution", "9 a.m.", "C", "x = 34", "34\\text{ cm}^2"]
    assert all(read(gold).is_plain for gold in plain)
    assert not any(
        read(gold).is_plain for gold in ["\\frac{84}{144}", "x", "2\\sqrt{3}", "(1, 2)", "1, 2", "5h", "xy = 6"]
    )


def test_neutral_keeps_the_rows_of_a_matrix():
    assert neutral("\\begin{pmatrix} 1 \\\\ 10 \\end{pmatrix}") == "\\begin{pmatrix} 1 \\\\ 10 \\end{pmatrix}"
    assert neutral("$\\dfrac{1{,}024}{ 3 }\\,\\text{cm}$.") == "\\frac{1,024}{3} \\text{cm}"
