"""A cache of base models that these tests share, and contexts as the worker makes them."""

from tests.families.conftest import cache, context, one_thread

__all__ = ["cache", "context", "one_thread"]
