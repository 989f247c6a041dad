"""Checks a data set before anybody spends GPU hours on it."""
