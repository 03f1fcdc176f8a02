"""Is an answer finished? math-verify evaluates what it compares; here evaluation must find nothing to merge."""

import math
import re

import sympy
from sympy.concrete.expr_with_limits import ExprWithLimits
from sympy.core.parameters import distribute
from sympy.core.relational import Relational


# math-verify computes these, and reduces fractions of integers, while it reads.
_COMPUTED = re.compile(r"\\(?:[dt]?binom|gcd|lcm|det|bmod|pmod|mod|operatorname)(?![A-Za-z])")
_FRACTION = re.compile(r"\\frac *\{ *-?([0-9]+) *\} *\{ *-?([0-9]+) *\}|(?<![0-9.}^])([0-9]+) */ *([0-9]+)(?![0-9.])")
_FUNCTIONS = (sympy.Function, sympy.Max, sympy.Min)
_OPERATORS = (ExprWithLimits, sympy.Limit, sympy.Derivative, sympy.MatAdd, sympy.MatMul, sympy.MatPow)


def is_finished(text: str, tree: sympy.Basic | None, gold: sympy.Basic) -> bool:
    """
    Whether nothing is left to compute in an answer, given as neutral text and as parsed tree.

    A polynomial may be factored or expanded, unless the gold has several factors. A relation has its variable alone on
    one side. There may be a function more than in a gold with variables: `\\sec x` is `1 / \\cos x`.
    """
    if tree is None:  # an equation
        return True
    fractions = ([int(number) for number in match.groups() if number] for match in _FRACTION.finditer(text))
    if _COMPUTED.search(text) or any(math.gcd(*fraction) > 1 or fraction[1] == 1 for fraction in fractions):
        return False
    if isinstance(tree, sympy.Add) and _num_sums(gold) > 1:
        return False
    for part in getattr(tree, "_unsorted_args", [tree]):
        is_relation = isinstance(part, Relational) and not isinstance(part, sympy.Eq)
        if is_relation and not any(isinstance(side, sympy.Symbol) for side in part.args):
            return False
    nodes, gold_nodes = list(sympy.preorder_traversal(tree)), sympy.preorder_traversal(gold)
    num_functions = sum(isinstance(node, _FUNCTIONS) for node in nodes)
    if num_functions > sum(isinstance(node, _FUNCTIONS) for node in gold_nodes) + bool(gold.free_symbols):
        return False
    return not any(isinstance(node, _OPERATORS) for node in nodes) and not any(map(_has_work, nodes))


def _num_sums(product: sympy.Basic) -> int:
    """How many factors of a product are sums: 3 in `7(x + 1)(x + 2)^2`; 0 in a fraction."""
    factors = sympy.Mul.make_args(product) if isinstance(product, sympy.Expr) else ()
    powers = [factor.as_base_exp() for factor in factors]
    if any(exponent.could_extract_minus_sign() for _, exponent in powers):
        return 0
    return sum(int(exponent) for base, exponent in powers if isinstance(base, sympy.Add) and exponent.is_Integer)


def _evaluate(node: sympy.Basic) -> sympy.Basic:
    """The same with all its operations done, but products of sums."""
    if not isinstance(node, sympy.Expr) or not node.args:
        return node
    with distribute(False):
        return node.func(*map(_evaluate, node.args))


def _has_work(node: sympy.Basic) -> bool:
    """Whether an operation merges something, its operands being evaluated."""
    args, done = [_evaluate(arg) for arg in getattr(node, "args", ())], _evaluate(node)
    if isinstance(node, sympy.Add):
        products = [part for part in args if _num_sums(part) and not isinstance(part.as_coeff_Mul()[1], sympy.Add)]
        split = [part.as_coeff_Mul() for part in args]
        terms = [factor * term for factor, rest in split for term in sympy.Add.make_args(rest)]
        is_product = products and any(part.free_symbols for part in args if part is not products[0])
        return bool(is_product) or len(sympy.Add.make_args(sympy.Add(*terms))) < len(terms)
    if isinstance(node, sympy.Mul):
        contents = [part.primitive()[0] for part in args if isinstance(part, sympy.Add)]
        is_reducible = any(math.gcd(content.p, sympy.Rational(done.as_coeff_Mul()[0]).q) > 1 for content in contents)
        return is_reducible or any(
            _num_factors(done, kind) < sum(_num_factors(part, kind) for part in args) for kind in (False, True)
        )
    if isinstance(node, sympy.Pow):
        base, exponent = args
        return _is_computed_power(base, exponent, done)
    return isinstance(node, _FUNCTIONS) and not done.has(node.func)


def _num_factors(product: sympy.Expr, is_rational: bool) -> int:
    """Rational factors of a product, or its others; a fraction has two, and a minus sign is one."""
    parts = [part for part in sympy.Mul.make_args(product) if isinstance(part, sympy.Rational) == is_rational]
    return sum((abs(part.p) != 1) + (part.q != 1) + (part.p < 0) if is_rational else 1 for part in parts)


def _is_computed_power(base: sympy.Expr, exponent: sympy.Expr, done: sympy.Expr) -> bool:
    """A number has no power but `1/n` and roots from which nothing can be taken; a root of a power can be."""
    if exponent == -1 or not isinstance(exponent, sympy.Rational):
        return False
    if exponent.is_Integer:
        return isinstance(base, sympy.Rational) or not isinstance(done, sympy.Pow) or done.base != base
    factor, rest = base.as_coeff_Mul()
    numbers = (abs(factor.p), factor.q) if isinstance(factor, sympy.Rational) else ()
    roots = [sympy.Pow(number, abs(exponent)) for number in numbers if number != 1]
    return isinstance(rest, sympy.Pow) or not all(isinstance(root, sympy.Pow) for root in roots)
