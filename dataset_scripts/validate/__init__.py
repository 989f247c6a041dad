"""Checks a data set before anybody spends GPU hours on it."""

from dataset_scripts.validate.check import Findings, check

__all__ = ["Findings", "check"]
