"""Hostile input: definitions and REST bodies made up from seeds, a million of them where that is asked for.

``python -m tests.fuzz.definitions`` and ``python -m tests.fuzz.bodies``. An input is made from the seed and its number
alone, so that one that breaks something can be made again: ``--first NUMBER --inputs 1``.
"""
