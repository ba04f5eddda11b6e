"""The page of the ops app in a real browser, over real servers with several workers."""

from pathlib import Path

import pytest

# How servers are started and ended is known next door, in a folder of another root.
__path__.append(str(Path(__file__).parents[1] / "servers"))

pytest.register_assert_rewrite(f"{__name__}.looking")
