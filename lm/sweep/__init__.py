"""Sweeps: many runs of an experiment, each in its own process and folder, one JSONL row each."""

from lm.sweep.sweep import Sweep

__all__ = ['Sweep']
