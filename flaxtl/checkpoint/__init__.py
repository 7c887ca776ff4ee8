"""Orbax in and out: a load is a plan, every leaf is accounted for and verified, nothing is written over."""

from flaxtl.checkpoint.digest import nbytes
from flaxtl.checkpoint.files import new_directory
from flaxtl.checkpoint.planning import Entry, Plan, plan
from flaxtl.checkpoint.restoring import Report, restore
from flaxtl.checkpoint.run import RunCheckpoints
from flaxtl.checkpoint.store import Description, describe, load, save, save_lazily

__all__ = [
    "Description",
    "Entry",
    "Plan",
    "Report",
    "RunCheckpoints",
    "describe",
    "load",
    "nbytes",
    "new_directory",
    "plan",
    "restore",
    "save",
    "save_lazily",
]
