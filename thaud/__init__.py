"""THAU, the Trainable Helpful AI Unit: a daemon that turns dropped examples into served model versions.

The map of the package is in README.md; the reasons are in docs/design.md.
"""

__version__ = "0.1.0"
