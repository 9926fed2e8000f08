"""Gradient descent without a schedule: gradients between where it steps and where it averages."""

from steprule.rules.papers.sgd import sgd
from steprule.rules.schedule_free import schedule_free

schedule_free_sgd = schedule_free(sgd, name="schedule_free_sgd")
