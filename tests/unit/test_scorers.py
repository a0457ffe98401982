"""The guard before reasoning-gym's scorers: some evaluate a reply, which a model wrote."""

import pytest

from neuromas.tasks.scorers import may_score


class Plain:
    def score_answer(self, answer: str) -> float:
        return float(answer == "7")


class Evaluates:
    def score_answer(self, answer: str) -> float:
        return float(eval(answer) == [7])


class ParsesFormulas:
    def score_answer(self, answer: str) -> float:
        from sympy.parsing.sympy_parser import parse_expr

        return float(parse_expr(answer) == 7)


LISTS = ["[1, 2, [3, 'a']]", "7", "True", '["x", None]']
FORMULAS = ["x**2 + 3*x - 1", "sin(x) + exp(2)", "(a + b)**(1/2)", "3 / 4", "Abs(x) * pi", "x^10"]
HOSTILE = [
    "__import__('os').system('true')",
    "().__class__",
    "open('/etc/passwd')",
    "lambda: 0",
    "[x for x in (1,)]",
    "9**9**9**9",
    "x.diff(x)",
    "{1: 2}",
    "a := 1",
    "1e99999",
    "'%s' % 1",
    "f'{1}'",
]


@pytest.mark.parametrize("reply", LISTS)
def test_lists_of_plain_values_may_be_evaluated(reply: str) -> None:
    assert may_score(Evaluates(), reply)


@pytest.mark.parametrize("reply", FORMULAS)
def test_formulas_of_known_functions_may_be_parsed(reply: str) -> None:
    assert may_score(ParsesFormulas(), reply)


@pytest.mark.parametrize("scorer", [Evaluates(), ParsesFormulas()], ids=["eval", "parse_expr"])
@pytest.mark.parametrize("reply", HOSTILE)
def test_what_could_run_or_take_long_is_never_evaluated(scorer: object, reply: str) -> None:
    assert not may_score(scorer, reply)


@pytest.mark.parametrize(
    "reply", ["2**1000", "x**(y**2)", "(x)**2*(y)**2*(z)**2", "12345678901234", "foo(x)", "x**2**3", "1.real"]
)
def test_formulas_that_grow_or_name_anything_else_are_not_parsed(reply: str) -> None:
    assert not may_score(ParsesFormulas(), reply)


def test_a_scorer_that_evaluates_nothing_gets_every_reply_of_ordinary_length() -> None:
    assert may_score(Plain(), "open('/etc/passwd')")
    assert not may_score(Plain(), "7" * 20_001)
    assert not may_score(Plain(), "1e99999"), "a number that int() would take for ever to write out"
