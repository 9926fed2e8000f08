"""AdamW: Adam with decoupled weight decay."""

from steprule.rules.adam import adam
from steprule.rules.combinators import decoupled

adamw = decoupled(adam, name="adamw")
