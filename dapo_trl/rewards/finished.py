r"""
Is an answer finished, or does something in it still have to be computed?

math-verify evaluates what it compares, so that a copy from the problem (`513^2 - 487^2`) equals the gold. Here an
expression is finished if evaluating it, operation by operation, finds nothing to merge:

- a sum has no like terms (`19x + 1 - 4x`, `\pi + \pi`), and beside a product of sums numbers at most; a product has no
  numbers or powers to multiply (`2 \cdot 3`, `x \cdot x`, `\frac{2\sqrt{3}}{4}`);
- a number has no power but `1/n` and roots from which nothing can be taken (`\sqrt{2}`, not `3^2`, `\sqrt{12}`);
- a function has no value that sympy knows (`\log_2 3`, not `\log_2 8`, `5!`, `\arcsin 1`), and there is no binomial,
  sum, product, limit or integral sign;
- every element of a set, tuple, interval or matrix is finished; an inequality is solved for its variable.

A factored and an expanded polynomial are both finished, but a gold of several factors asks for factors. If the gold
itself is not finished, so need not be the answer.
"""

import math
import re

from sympy import (
    Add,
    Basic,
    Derivative,
    Expr,
    Integral,
    Limit,
    MatAdd,
    MatMul,
    MatPow,
    MatrixBase,
    Mul,
    Pow,
    Product,
    Rational,
    Sum,
    Symbol,
    preorder_traversal,
)
from sympy.core.function import Application
from sympy.core.parameters import distribute
from sympy.core.relational import Eq, Relational


# math-verify computes these, and reduces fractions of integers, while it reads.
_COMPUTED = re.compile(r"\\(?:[dt]?binom|gcd|lcm|det|bmod|pmod|mod|operatorname)(?![A-Za-z])")
_FRACTION = re.compile(r"\\frac *\{ *-?([0-9]+) *\} *\{ *-?([0-9]+) *\}|(?<![0-9.}])([0-9]+) */ *([0-9]+)(?![0-9.])")


class _Unfinished(Exception):
    """Something was found to compute."""


def is_finished(text: str, tree: Basic | MatrixBase) -> bool:
    """Whether there is nothing left to compute in an expression, given as neutral text and as parsed."""
    if _COMPUTED.search(text):
        return False
    for match in _FRACTION.finditer(text):
        top, bottom = (int(number) for number in match.groups() if number)
        if math.gcd(top, bottom) > 1 or bottom == 1:
            return False
    try:
        _evaluate(tree)
    except _Unfinished:
        return False
    return True


def is_solved(tree: Basic | MatrixBase) -> bool:
    """Whether a relation has its variable alone on one side, as in `x > 2` and `1 < x < 2`; true of what is none."""
    relations = [part for part in getattr(tree, "_unsorted_args", [tree]) if isinstance(part, Relational)]
    return all(
        isinstance(part, Eq) or isinstance(part.lhs, Symbol) or isinstance(part.rhs, Symbol) for part in relations
    )


def num_functions(tree: Basic | MatrixBase) -> int:
    """How often functions are applied, such as sine and logarithm."""
    return sum(isinstance(node, Application) and isinstance(node, Expr) for node in preorder_traversal(tree))


def num_sums(product: Basic | MatrixBase) -> int:
    """How many factors of a product are sums: 3 in `7(x + 1)(x + 2)^2`; 0 in a fraction."""
    powers = [factor.as_base_exp() for factor in Mul.make_args(product)] if isinstance(product, Expr) else []
    if any(exponent.could_extract_minus_sign() for _, exponent in powers):
        return 0
    return sum(int(exponent) for base, exponent in powers if isinstance(base, Add) and exponent.is_Integer)


def _evaluate(node: Basic | MatrixBase) -> Basic:
    """The same expression with all its operations done; raises where one of them had something to do."""
    if isinstance(node, (Sum, Product, Integral, Limit, Derivative, MatAdd, MatMul, MatPow)):
        raise _Unfinished
    if isinstance(node, MatrixBase):
        node.applyfunc(_evaluate)
    if not isinstance(node, Expr) or not node.args:
        for part in getattr(node, "args", ()) if not isinstance(node, MatrixBase) else ():
            _evaluate(part)
        return node
    args = [_evaluate(part) for part in node.args]
    with distribute(False):
        done = node.func(*args)
    if isinstance(node, Add):
        terms = [term for part in args for term in _terms(part)]
        products = [part for part in args if num_sums(part) and not isinstance(part.as_coeff_Mul()[1], Add)]
        is_product = bool(products) and any(part.free_symbols for part in args if part is not products[0])
        is_merged = is_product or len(Add.make_args(Add(*terms))) < len(terms)
    elif isinstance(node, Mul):
        contents = [part.primitive()[0] for part in args if isinstance(part, Add)]
        is_reducible = any(math.gcd(content.p, Rational(done.as_coeff_Mul()[0]).q) > 1 for content in contents)
        is_merged = is_reducible or any(
            _num_factors(done, kind) < sum(_num_factors(part, kind) for part in args) for kind in (0, 1)
        )
    elif isinstance(node, Pow):
        is_merged = _is_computed_power(*args, done)
    else:
        is_merged = isinstance(node, Application) and not done.has(node.func)
    if is_merged:
        raise _Unfinished
    return done


def _terms(part: Expr) -> list[Expr]:
    coefficient, rest = part.as_coeff_Mul()
    return [coefficient * term for term in Add.make_args(rest)]


def _num_factors(product: Expr, is_rational: bool) -> int:
    """Rational factors of a product, or its others; a fraction has two, its sign is a further one."""
    parts = [part for part in Mul.make_args(product) if isinstance(part, Rational) == is_rational]
    return sum((abs(part.p) != 1) + (part.q != 1) + (part.p < 0) if is_rational else 1 for part in parts)


def _is_computed_power(base: Expr, exponent: Expr, done: Expr) -> bool:
    if exponent == -1 or not isinstance(exponent, Rational):
        return False
    coefficient, rest = base.as_coeff_Mul()
    if exponent.is_Integer:
        return isinstance(base, Rational) or not isinstance(done, Pow) or done.base != base
    numbers = (abs(coefficient.p), coefficient.q) if isinstance(coefficient, Rational) else ()
    parts = [Pow(part, abs(exponent)) for part in numbers if part != 1]
    return not all(isinstance(part, Pow) for part in parts) or isinstance(rest, Pow)
