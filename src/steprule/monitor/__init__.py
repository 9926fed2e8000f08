"""Monitoring: what steps did, read while they were taken, and what that says about a run."""

from steprule.monitor.diagnosis import Diagnoses, Diagnosis
from steprule.monitor.monitor import Monitor

__all__ = ["Diagnoses", "Diagnosis", "Monitor"]
