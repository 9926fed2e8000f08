"""The catalogue: one line per rule. Everything else (docs, CLI, tests) follows from it."""

from __future__ import annotations

from steprule.rules.papers.adabelief import adabelief
from steprule.rules.papers.adadelta import adadelta
from steprule.rules.papers.adafactor import adafactor
from steprule.rules.papers.adagrad import adagrad
from steprule.rules.papers.adam import adam
from steprule.rules.papers.adam_mini import adam_mini
from steprule.rules.papers.adamax import adamax
from steprule.rules.papers.adamw import adamw
from steprule.rules.papers.adan import adan
from steprule.rules.papers.ademamix import ademamix
from steprule.rules.papers.adopt import adopt
from steprule.rules.papers.amsgrad import amsgrad
from steprule.rules.papers.asgd import asgd
from steprule.rules.papers.came import came
from steprule.rules.papers.dadapt_adam import dadapt_adam
from steprule.rules.papers.lamb import lamb
from steprule.rules.papers.laprop import laprop
from steprule.rules.papers.lars import lars
from steprule.rules.papers.lion import lion
from steprule.rules.papers.mars import mars
from steprule.rules.papers.momentum import momentum, momentum_ema
from steprule.rules.papers.muon import muon
from steprule.rules.papers.nadam import nadam
from steprule.rules.papers.normuon import normuon
from steprule.rules.papers.novograd import novograd
from steprule.rules.papers.prodigy import prodigy
from steprule.rules.papers.radam import radam
from steprule.rules.papers.rmsprop import rmsprop
from steprule.rules.papers.rprop import rprop
from steprule.rules.papers.schedule_free_adamw import schedule_free_adamw
from steprule.rules.papers.schedule_free_sgd import schedule_free_sgd
from steprule.rules.papers.sgd import sgd
from steprule.rules.papers.signum import signum
from steprule.rules.papers.yogi import yogi
from steprule.rules.registry import CATALOGUE, find, register

__all__ = ["CATALOGUE", "find"]

register(
    sgd,
    momentum,
    momentum_ema,
    adagrad,
    adadelta,
    rmsprop,
    adam,
    adamax,
    amsgrad,
    adamw,
    nadam,
    radam,
    rprop,
    asgd,
    adabelief,
    yogi,
    laprop,
    lion,
    signum,
    adan,
    adopt,
    ademamix,
    lars,
    lamb,
    mars,
    novograd,
    prodigy,
    dadapt_adam,
    adafactor,
    came,
    adam_mini,
    muon,
    normuon,
    schedule_free_sgd,
    schedule_free_adamw,
)
