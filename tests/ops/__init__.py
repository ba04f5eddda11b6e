"""Surviving failures, with real frameworks under real servers."""

from pathlib import Path

# How servers are started and spoken to is known next door, in a folder of another root.
__path__.append(str(Path(__file__).parents[1] / "servers"))
