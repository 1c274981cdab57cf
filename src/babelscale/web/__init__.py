"""The page on this machine: the report of a study, or plans from published figures."""

from babelscale.web.app import create_app, serve

__all__ = ["create_app", "serve"]
