"""A cache of base models that these tests share, and contexts as the worker makes them."""

from tests.families.conftest import cache, context, one_thread
from tests.families.finetune.conftest import mlp, name, workload

__all__ = ["cache", "context", "mlp", "name", "one_thread", "workload"]
