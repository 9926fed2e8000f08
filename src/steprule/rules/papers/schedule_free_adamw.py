"""AdamW without a schedule: gradients between where it steps and where it averages."""

from steprule.rules.papers.adamw import adamw
from steprule.rules.schedule_free import schedule_free

schedule_free_adamw = schedule_free(adamw, name="schedule_free_adamw")
