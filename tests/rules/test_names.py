"""How rules are named: with combinators, and in files that make theirs of others."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

import steprule as sr
from steprule.errors import HyperparameterError, RuleError
from steprule.race.entrant import entrants
from steprule.rules import load


def test_combinators_are_named_as_they_are_written() -> None:
    assert load("l2(adam)") is sr.l2("adam")
    assert load("cautious(decoupled(momentum))") is sr.cautious(sr.decoupled("momentum"))
    assert load("maximize( sgd )") is sr.maximize("sgd")
    assert load("l2(adam)()") is sr.l2("adam")
    assert load("l2(adam) (weight_decay=0.1)").name == "l2(adam)(weight_decay=0.1)"


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("l2(adm)", "no rule is called 'adm'. Did you mean 'adam'"),
        (
            "l3(adam)",
            "Combinators take a rule by its name, as in l2(adam): "
            "l2, decoupled, cautious_decay, maximize, unscaled, cautious",
        ),
        ("decoupled(adamw)", "rule 'adamw' already has a hyperparameter 'weight_decay'"),
        ("l2(my.py:mine)", "combined = steprule.l2(mine)\nand give my.py:combined"),
        ("cautious(my.py)", "combined = steprule.cautious(mine)\nand give my.py:combined"),
    ],
)
def test_what_a_combinator_cannot_be_named_with(spec: str, words: str) -> None:
    with pytest.raises(RuleError, match=re.escape(words)):
        load(spec)


@pytest.mark.parametrize(
    ("spec", "maker", "right"),
    [
        ("l2", "l2", "l2(adam)"),
        ("l2()", "l2", "l2(adam)"),
        ("cautious(l2)", "cautious", "cautious(l2(adam))"),
        ("cautious(l2())", "cautious", "cautious(l2(adam))"),
        ("l2 (adam)", "l2", "l2(adam)"),
        ("l2(adam, weight_decay=0.1)", "l2", "l2(adam)(weight_decay=0.1)"),
        ("decoupled(sgd, weight_decay=0.1)", "decoupled", "decoupled(sgd)(weight_decay=0.1)"),
        ("l2(weight_decay=0.1)", "l2", "l2(adam)(weight_decay=0.1)"),
        ("l2(adam(beta2=0.9))", "l2", "l2(adam)(beta2=0.9)"),
        ("l2(adam(beta2=0.9))(weight_decay=0.1)", "l2", "l2(adam)(beta2=0.9, weight_decay=0.1)"),
        ("l2(adam)(beta2=0.9)(weight_decay=0.1)", "l2", "l2(adam)(beta2=0.9, weight_decay=0.1)"),
        ("cautious(l2(sgd, weight_decay=0.1), lr=1)", "cautious", "cautious(l2(sgd))(weight_decay=0.1, lr=1)"),
        ("l2(adam, 0.1)", "l2", "l2(adam)"),
    ],
)
def test_the_way_to_write_a_combinator_is_told_and_works(spec: str, maker: str, right: str) -> None:
    said = f"{spec}: {maker} is a combinator, which makes a rule of a rule: write {right}"
    with pytest.raises(RuleError, match=re.escape(said) + r"($|, with settings in parentheses of their own$)"):
        load(spec)
    assert load(right).name == right
    with pytest.raises(RuleError, match=re.escape(said)):  # a race parts its list at commas between rules alone
        entrants([f"sgd,{spec}"])


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("l2(adm, weight_decay=0.1)", "no rule is called 'adm'. Did you mean 'adam'"),
        ("decoupled(adamw(weight_decay=0.1))", "rule 'adamw' already has a hyperparameter 'weight_decay'"),
        ("l2(my.py:mine, weight_decay=0.1)", "combined = steprule.l2(mine)\nand give my.py:combined"),
        ("l2(adam", "the parenthesis is not closed"),
        ("l2(adam)(0.1)", "'0.1' is not a name=value"),
    ],
)
def test_what_is_wrong_beside_the_way_is_told_first(spec: str, words: str) -> None:
    with pytest.raises((RuleError, HyperparameterError), match=re.escape(words)):
        load(spec)


@pytest.mark.parametrize("name", ["l2", "l2()", "cautious(l2)"])
def test_a_combinator_alone_is_no_rule_for_an_optimizer(name: str) -> None:
    with pytest.raises(RuleError, match=r"l2 is a combinator, which makes a rule of a rule: write l2\(adam\)$"):
        sr.Optimizer(np.ones(2), name)


def test_a_file_that_combines(tmp_path: Path) -> None:
    def written(text: str) -> str:
        path = tmp_path / f"rules{len(list(tmp_path.iterdir()))}.py"
        path.write_text(f"import steprule as sr\n{text}")
        return str(path)

    own = "@sr.rule\ndef mine(theta, g, *, lr: sr.Rate = 0.1):\n    return theta - lr * g\n"
    assert load(written('penal = sr.l2("adam")\n')) is sr.l2("adam")
    assert load(written(f"{own}penal = sr.l2(mine)\n")).name == "mine"  # the one that it defines
    two = written('a, b = sr.l2("adam"), sr.maximize("sgd")\n')
    with pytest.raises(RuleError, match=re.escape(f"{two} defines 2 rules (a, b); say which: {two}:a")):
        load(two)
    imported = written("from steprule.rules import adam, lion\n")
    with pytest.raises(
        RuleError, match=re.escape(f"{imported} defines no rule, though it has adam, lion: give {imported}:adam")
    ):
        load(imported)
    with pytest.raises(RuleError, match=r"defines no rule; decorate a function with @steprule\.rule"):
        load(written("x = 1\n"))
