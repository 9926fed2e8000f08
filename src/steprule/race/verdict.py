"""The verdict of a race, or of a suite, in three sentences: what can be said, what cannot, for what that holds."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from steprule.race.evidence import Evidence
from steprule.race.plan import Plan
from steprule.race.standing import Standing
from steprule.race.statistics import LEVEL, fewest_seeds
from steprule.race.summary import Row
from steprule.race.words import counted, listed, loss_name

__all__ = ["suite_verdict", "verdict"]

_MOST_NAMED = 6
"""Of rules that none is told apart from; more are counted."""


def verdict(plan: Plan, rows: Sequence[Row], evidence: Evidence, written: Callable[[float], str]) -> list[str]:
    """Return the sentences, without markup."""
    ranked = [row for row in rows if row.best is not None]
    if not ranked:
        return ["Every run that is finished has diverged, so nothing can be said about these rules here."]
    if not (ranked[0].is_fresh and evidence.seeds):
        return [
            "Nothing can be said yet: no fresh seed is finished for every rule, and the losses of the tuning flatter "
            "the settings that were selected by them."
        ]
    return [_said(ranked[0], evidence, written), _unsaid(plan, ranked, evidence), _scope(plan, ranked)]


def _said(first: Row, evidence: Evidence, written: Callable[[float], str]) -> str:
    assert first.best is not None
    label = first.entrant.label
    low, high = evidence.judged[label].interval
    runs = len(first.best.runs)
    spread = f"95 % interval {written(low)} to {written(high)}, {runs} fresh seeds" if runs > 1 else "one fresh seed"
    begin = f"{label} has the lowest {loss_name(evidence.metric)}: median {written(first.best.median)} ({spread})"
    worse = [other for other in evidence.labels if other not in (label, *evidence.alike(label))]
    if len(evidence.labels) == 1:
        return f"{begin}; there is no other rule to tell it apart from."
    if not worse:
        return f"{begin}, but this race cannot tell it apart from any other rule."
    everyone = len(worse) == len(evidence.labels) - 1 > 1
    return f"{begin}, and is better than {'every other rule' if everyone else listed(worse)}."


def _unsaid(plan: Plan, ranked: Sequence[Row], evidence: Evidence) -> str:
    seeds, pairs = counted(evidence.seeds, "seed"), counted(evidence.pairs, "pair")
    test = f"Wilcoxon's signed-rank test over {seeds}, Holm's correction for {pairs}, {100 * LEVEL:g} % level"
    fewest = fewest_seeds(len(evidence.labels))
    if len(evidence.labels) > 1 and evidence.seeds < fewest:
        return (
            f"With {seeds} no two of {len(evidence.labels)} rules can be told apart, however they "
            f"differ; it takes at least {fewest} (--seeds {fewest})."
        )
    alike = evidence.alike(ranked[0].entrant.label)
    if alike:
        other = f"{listed(alike)} cannot be told apart from it"
        return f"{other} ({test}): that is no proof that they are equal, and more seeds may part them."
    others = [(a, b) for i, a in enumerate(evidence.labels) for b in evidence.labels[i + 1 :] if b in evidence.alike(a)]
    if others:
        some = [f"{a} from {b}" for a, b in others[:3]]
        more = f", nor {len(others) - 3} other pairs" if len(others) > 3 else ""
        return f"It cannot tell {', '.join(some) if more else listed(some)}{more} ({test})."
    return f"No pair of rules is left undecided ({test})." if evidence.pairs else "A race of one rule compares nothing."


def _scope(plan: Plan, ranked: Sequence[Row]) -> str:
    falls = "a constant learning rate" if plan.schedule == "constant" else f"a {plan.schedule} decay to zero"
    text = f"All of it holds for {plan.problem.name}, {plan.steps} steps with {falls}, and {_tuned(plan)}"
    if plan.found.metric == "train_loss":
        text += (
            "; the problem has no validation data, so settings were selected and rules compared by the training loss"
        )
    edge = [row.entrant.label for row in ranked if row.at_edge]
    return (
        f"{text}; at the edge of its learning rates is {listed(edge)}, which may do better beyond."
        if edge
        else f"{text}."
    )


def _tuned(plan: Plan) -> str:
    rates = f"{counted(len(plan.lrs), 'learning rate')} and nothing else"
    return f"{counted(plan.trials, 'trial')} of each rule" if plan.trials else rates


def suite_verdict(standing: Standing) -> list[str]:
    """Return the sentences on a suite, without markup."""
    return [_said_of_all(standing), _unsaid_of_all(standing), _scope_of_all(standing)]


def _said_of_all(standing: Standing) -> str:
    first, rules, problems = standing.labels[0], len(standing.labels), len(standing.results)
    if rules == 1:
        return "A suite of one rule compares nothing."
    begin = (
        f"{first} has the lowest mean rank, {standing.mean_ranks[0]:.1f} of {rules} over {counted(problems, 'problem')}"
    )
    alike = standing.alike(first)
    worse = [label for label in standing.labels[1:] if label not in alike]
    said = f", better than {listed(worse)}" if worse else ", but mean ranks alone tell it apart from no other rule"
    best = [result.name for result in standing.results if result.evidence.judged[first].rank == (1, 1)]
    own = f"; it is told apart as the best of all on {listed(best)}" if best else ""
    return f"{begin}{said}{own}."


def _unsaid_of_all(standing: Standing) -> str:
    apart = sum((result.evidence.p < LEVEL).sum() // 2 for result in standing.results)
    pairs = sum(result.evidence.pairs for result in standing.results)
    if not pairs:
        return "There is no pair of rules to tell apart."
    alike = standing.alike(standing.labels[0])
    if len(alike) > _MOST_NAMED and len(alike) == len(standing.labels) - 1:
        none = f"None of the other {len(alike)} rules can be told apart from it over all problems"
    else:
        none = (
            f"{listed(alike)} cannot be told apart from it over all problems" if alike else "No rule shares its place"
        )
    return (
        f"{none} (mean ranks must differ by {standing.difference:.1f}, Nemenyi's test at {100 * LEVEL:g} %), which is "
        f"no proof that they are equal; problem by problem, {apart} of {pairs} pairs of rules are told apart."
    )


def _scope_of_all(standing: Standing) -> str:
    plan = standing.results[0].race.plan
    names = listed([result.name for result in standing.results])
    seeds = counted(len(plan.seeds), "fresh seed")
    edges = sum(row.at_edge for result in standing.results for row in result.rows)
    beyond = f"; {counted(edges, 'best rate')} of {sum(len(result.rows) for result in standing.results)} "
    beyond += f"{'is' if edges == 1 else 'are'} at the edge of what was tried, and may be better beyond"
    return f"All of it holds for {names}, with {_tuned(plan)} and {seeds}{beyond if edges else ''}."
