"""AdamW: Adam with decoupled weight decay."""

from steprule.rules.combinators import decoupled
from steprule.rules.papers.adam import adam

adamw = decoupled(adam, name="adamw")
