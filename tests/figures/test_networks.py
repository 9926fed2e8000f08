"""AdamW's maps, the networks through PyTorch, and the verdicts on them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from steprule.figures.adam_network import Dropout
from steprule.figures.adam_torch import Autoencoder, Convolutions
from steprule.figures.adamw import AdamMaps, Schedules, SgdMaps, lean
from steprule.figures.amsgrad_networks import Cifarnet, Network
from steprule.figures.catalogue import PAPERS, figures_of
from steprule.figures.contest import Contest
from steprule.figures.networks import _bound, _images, _network, autoencoder, convolutions
from steprule.figures.samples import samples
from steprule.race.statistics import fewest_seeds


def _basin(shape: tuple[int, int], tilt: float) -> Any:
    """Return losses that are best where row + tilt * column is in the middle."""
    rows, columns = np.indices(shape, dtype=float)
    middle = (shape[0] - 1) / 2 + tilt * (shape[1] - 1) / 2
    return 1 + 0.2 * np.abs(rows + tilt * columns - middle) + 0.05 * np.abs(columns - (shape[1] - 1) / 2)


def test_how_a_basin_leans() -> None:
    assert lean(_basin((7, 6), 1.0)) < -0.8
    assert abs(lean(_basin((7, 6), 0.0))) < 1e-9
    assert lean(_basin((7, 6), -1.0)) > 0.8
    assert lean(_basin((7, 6), 1.0)) == pytest.approx(-lean(_basin((7, 6), 1.0)[::-1]))


def test_a_map_has_the_mean_over_seeds_and_a_guess_where_it_diverged() -> None:
    figure, of = AdamMaps(), AdamMaps.maps[0]
    losses = np.minimum(_basin((len(of.decays), len(figure.lrs)), 1.0), 2)
    results: dict[Any, Any] = {}
    for place, loss in np.ndenumerate(losses):
        cell = of.decays[place[0]], figure.lrs[place[1]]
        results |= {of.part(*cell, seed): {"test": loss + off} for seed, off in ((0, 0.1), (1, -0.1))}
    np.testing.assert_allclose(figure.losses(of, results), losses)
    results[of.part(of.decays[0], figure.lrs[0], 0)] = results[of.part(of.decays[0], figure.lrs[0], 1)] = {"test": None}
    assert figure.losses(of, results)[0, 0] == pytest.approx(math.log(10))


@pytest.mark.parametrize("figure", [AdamMaps(), SgdMaps()])
def test_maps_are_judged_by_how_they_lean(figure: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """True where L2 is diagonal and the others upright, false the other way round."""
    for tilts, lowest, expected in (((1.0, 0.0, 0.0), 0.9, True), ((0.0, 1.0, 1.0), 1.0, False)):
        made = {
            of.name: _basin((len(of.decays), len(figure.lrs)), tilt) * (lowest if of.per_step else 1.0)
            for of, tilt in zip(figure.maps, tilts, strict=True)
        }
        monkeypatch.setattr(figure, "losses", lambda of, results, made=made: made[of.name])
        assert [one.holds for one in figure.judge({})] == [expected] * 4
        assert len(figure.table({}).rows) == sum(len(of.decays) for of in figure.maps) * len(figure.lrs)


def test_a_decay_per_step_is_divided_by_the_rate() -> None:
    """Which the rule multiplies it by."""
    inside, per_step, times_rate = AdamMaps.maps
    decays = [
        dict(dict(of.part(0.01, 0.1, 0).arguments)["hyperparameters"])["weight_decay"]
        for of in (inside, per_step, times_rate)
    ]
    assert decays == [0.01, pytest.approx(0.1), 0.01]


def test_schedules_are_judged_on_fresh_seeds() -> None:
    figure = Schedules()
    for gain, expected in ((0.8, True), (1.0, False)):
        results: dict[Any, Any] = {}
        while todo := figure.left(results):
            for part in todo:
                given = dict(part.arguments)
                loss = 0.3 * (gain if given["rule"] == "adamw" else 1.0)
                loss *= gain if given["schedule"] == "cosine" else 1.0
                results[part] = {"test": loss * (1 + 1e-3 * given["seed"] + abs(math.log(given["lr"] / 0.032)))}
        assert len(results) == 2 * 3 * (12 + figure.seeds)
        assert [one.holds for one in figure.judge(results)] == [expected] * 2


@pytest.mark.parametrize("paper", PAPERS)
def test_seeds_are_enough_to_tell_rules_apart(paper: str) -> None:
    """Fewer could never say that two rules differ, however much they do."""
    contests = [figure for figure in figures_of(paper) if isinstance(figure, Contest)]
    for figure in contests:
        assert figure.seeds >= fewest_seeds(len(figure.entries)), figure.name
    assert Schedules.seeds >= fewest_seeds(len(Schedules.rules) * len(Schedules.schedules))


def _contest(figure: Contest, losses: dict[str, float], early: dict[str, float]) -> dict[Any, Any]:
    results: dict[Any, Any] = {}
    while todo := figure.left(results):
        for part in todo:
            given = dict(part.arguments)
            entry = next(one for one in figure.entries if one.rule == given["rule"])
            worse = 1 + abs(math.log(given["lr"] / entry.lrs[1])) + 1e-3 * given["seed"]
            end = losses[entry.label] * worse
            results[part] = {"batch": [early[entry.label]] * 3 + [end] * (figure.setup["epochs"] - 3)}
    return results


def test_dropout_asks_for_adam_below_each() -> None:
    figure = Dropout()
    losses = {entry.label: 0.2 + 0.1 * place for place, entry in enumerate(figure.entries)}
    assert [one.holds for one in figure.judge(_contest(figure, losses, losses))] == [True]
    other = {**losses, "AdaDelta": 0.2}
    (one,) = figure.judge(_contest(figure, other, other))
    assert not one.holds
    assert "Adam cannot be told from AdaDelta" in one.why
    assert "Lower than" not in one.why
    better = {**losses, "AdaGrad": 0.1}
    (one,) = figure.judge(_contest(figure, better, better))
    assert (
        one.why == "AdaGrad has the lowest median here. Lower than Adam's are those of AdaGrad, each at its best rate."
    )


@pytest.mark.parametrize("figure", [Network(), Cifarnet()])
def test_amsgrad_is_judged_by_both_losses(figure: Contest) -> None:
    better = {"Adam": 0.2, "AMSGrad": 0.1}
    for losses, expected in ((better, True), (dict(zip(better, (0.1, 0.2), strict=True)), False)):
        results = _contest(figure, losses, losses)
        results = {part: {**one, "test": one["batch"][-1]} for part, one in results.items()}
        assert [one.holds for one in figure.judge(results)] == [expected] * 2


def test_convolutions_are_judged_early_and_late() -> None:
    figure = Convolutions()
    ends, early = {"Adam": 0.1, "Nesterov": 0.1, "AdaGrad": 0.3}, {"Adam": 1.0, "Nesterov": 1.5, "AdaGrad": 1.0}
    assert [one.holds for one in figure.judge(_contest(figure, ends, early))] == [True, True]
    assert [one.holds for one in figure.judge(_contest(figure, early, ends))] == [False, False]


def test_the_autoencoder_is_judged_by_its_grid() -> None:
    figure = Autoencoder()
    for harm, expected in ((2.0, [True, True, True]), (0.9, [False, False, False])):
        results = {}
        for part in figure.parts({}):
            given = dict(part.arguments)
            loss = 20 * (1 + abs(math.log10(given["lr"]) + 3))
            results[part] = {"loss": loss * (1.0 if given["corrected"] else harm)}
        assert [one.holds for one in figure.judge(results)] == expected
    diverged = {part: {"loss": None} if not dict(part.arguments)["corrected"] else one for part, one in results.items()}
    assert figure.judge(diverged)[0].holds


def test_convolutions_learn_and_are_the_same_again() -> None:
    given: dict[str, Any] = {"data": "digits-300", "rule": "adam", "seed": 1, "channels": (2,), "units": 8}
    first = convolutions(lr=0.02, epochs=4, dropout=0.1, **given)
    assert first == convolutions(lr=0.02, epochs=4, dropout=0.1, **given)
    assert first["batch"][-1] < first["batch"][0] - 0.05
    assert 0 < first["test"] < math.log(10)
    assert convolutions(lr=1e30, epochs=2, dropout=0.1, **given) == {"batch": None, "test": None}


def test_images_are_read_from_rows() -> None:
    grey = _images(samples("digits").train_x)
    assert grey.shape[1:] == (1, 8, 8)
    rows = np.arange(2 * 3 * 4 * 4, dtype=np.float32).reshape(2, 48)
    colours = _images(rows)
    assert colours.shape == (2, 3, 4, 4)
    assert colours[1, 2, 0, 1] == rows[1, 33]
    assert _network(colours, 5, (2, 3), 7, 0.5)(colours).shape == (2, 5)
    with pytest.raises(ValueError, match="rows of 47 numbers are no square images"):
        _images(rows[:, :47])


def test_the_bound_is_that_of_the_paper() -> None:
    """With an encoder that says mean 0 and variance 1, the divergence is 0 and the rest is the cross entropy."""
    x = torch.rand(5, 4)
    encoder, decoder = torch.nn.Linear(4, 6), torch.nn.Linear(3, 4)
    with torch.no_grad():
        for one in (*encoder.parameters(), *decoder.parameters()):
            one.zero_()
        assert _bound(encoder, decoder, x).item() == pytest.approx(4 * math.log(2), rel=1e-6)
        encoder.bias[:3] = 2.0  # the mean; a divergence of 2^2 / 2 for each of three dimensions
        assert _bound(encoder, decoder, x).item() == pytest.approx(4 * math.log(2) + 6, rel=1e-6)


def test_an_autoencoder_learns() -> None:
    given: dict[str, Any] = {"data": "digits-300", "seed": 0, "beta1": 0.9, "beta2": 0.999, "hidden": 20, "latent": 3}
    few, many = (autoencoder(epochs=epochs, lr=0.01, corrected=True, **given)["loss"] for epochs in (1, 12))
    assert many < 0.9 * few < 60
    assert autoencoder(epochs=1, lr=0.01, corrected=False, **given)["loss"] != few
