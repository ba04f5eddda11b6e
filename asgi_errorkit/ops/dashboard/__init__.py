"""The page of the ops app, and what it loads: read once, served as it lies here.

It holds no figures: what it shows it asks for, as anybody who has the token may.
"""

from asgi_errorkit.ops.dashboard.files import ASSETS, asset, is_of_page, page, wants_page

__all__ = ["ASSETS", "asset", "is_of_page", "page", "wants_page"]
