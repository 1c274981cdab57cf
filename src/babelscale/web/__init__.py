"""The page on this machine: the report of a study, or plans from published figures.

Names are imported when they are first used: the process that reads uploads lives in this package and needs no server.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from babelscale.web.app import create_app, serve

__all__ = ["create_app", "serve"]


def __getattr__(name: str) -> object:
    if name in __all__:
        from babelscale.web import app

        return getattr(app, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
