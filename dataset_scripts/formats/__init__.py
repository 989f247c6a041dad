"""Readers of other people's annotation files, one a format, for training's converters and evaluation's tasks alike.

A reader says what a file holds and joins its parts; it judges neither texts nor boxes. What is wrong with an entry goes
to a :class:`~dataset_scripts.report.Report`: training counts it and goes on, evaluation stops.
"""
