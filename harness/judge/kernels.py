"""Kernels one after the other, called by the interpreter of TorchScript instead of Python's.

A call of a kernel from Python takes microseconds, about as long as a kernel on a small tensor. The interpreter makes
the same calls with the same arguments in less. Its optimisations are off, since they would replace kernels by others.
What the interpreter cannot call is called from Python in between.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import Any, Final

import torch
from torch import Tensor

PLAIN: Final = (bool, int, float, str, type(None), torch.dtype, torch.device, torch.layout)
"""Types of arguments that a graph holds as they are."""

MEMORY_FORMATS: Final = {torch.contiguous_format: 0, torch.preserve_format: 1, torch.channels_last: 2}
"""The numbers that stand for formats of memory in a graph."""

LARGEST_EXACT: Final = 2**24
"""The integers up to this size are numbers of float32."""

GRAPHS: Final = 16
"""The number of graphs that are kept, for other programs of the same kernels on other tensors."""


@dataclass(frozen=True, kw_only=True)
class Kernel:
    """A call of a kernel on tensors that stay the same, and the tensors that its results are copied to.

    ``copied`` is empty where the kernel writes into its arguments; None in it is a result that nobody reads.
    """

    operator: Any
    arguments: tuple[Any, ...]
    named: Mapping[str, Any]
    copied: Sequence[Tensor | None] = ()

    def __call__(self) -> None:
        """Call the kernel from Python."""
        results = self.operator(*self.arguments, **self.named)
        if self.copied:
            for target, value in zip(self.copied, listed(results), strict=True):
                if target is not None:
                    target.copy_(value)


def in_sequence(kernels: Sequence[Kernel]) -> Sequence[Callable[[], object]]:
    """Return the calls that together run the kernels in their order, without gradients."""
    calls: list[Callable[[], object]] = []
    run = _Run()
    for kernel in kernels:
        if not run.takes(kernel):
            calls += [*run.calls(), kernel]
            run = _Run()
    return [*calls, *run.calls()]


def listed(result: Any) -> list[Any]:
    """Return what a kernel returned, one or several values or lists of values, as one list."""
    return [value for part in result for value in listed(part)] if isinstance(result, list | tuple) else [result]


@dataclass(frozen=True, kw_only=True)
class _Constant:
    """An argument that a graph holds, equal to others of its type and text only: 1 is not 1.0, and 0.0 is not -0.0."""

    kind: type
    text: str
    value: Any = field(compare=False)


@dataclass(frozen=True, kw_only=True)
class _Form:
    """A call of a kernel without its tensors: constants, None for a tensor, and tuples of both for lists of tensors.

    ``copied`` says of each result whether it is copied to a tensor.
    """

    operator: Any
    arguments: tuple[Any, ...]
    copied: tuple[bool, ...]


class _Run:
    """Kernels that the interpreter calls in one run."""

    def __init__(self) -> None:
        self._steps: list[tuple[_Form, tuple[int, ...]]] = []
        self._tensors: list[Tensor] = []
        self._numbers: dict[int, int] = {}

    def takes(self, kernel: Kernel) -> bool:
        """Append a kernel; return False, and append nothing, where the interpreter cannot call it."""
        given: list[Tensor] = []
        try:
            arguments = tuple(_described(argument, given) for argument in _all_arguments(kernel))
        except TypeError:
            return False
        form = _Form(
            operator=kernel.operator,
            arguments=arguments,
            copied=tuple(target is not None for target in kernel.copied),
        )
        if not _results_are_known(form) or not _is_called_as_it_is(form, len(given)):
            return False
        targets = [target for target in kernel.copied if target is not None]
        self._steps.append((form, tuple(self._number(tensor) for tensor in [*given, *targets])))
        return True

    def calls(self) -> Sequence[Callable[[], object]]:
        """Return the call of the run, none where it has no kernel."""
        if not self._steps:
            return ()
        return (partial(_unoptimised, _function(tuple(self._steps), len(self._tensors)), self._tensors),)

    def _number(self, tensor: Tensor) -> int:
        number = self._numbers.setdefault(id(tensor), len(self._tensors))
        if number == len(self._tensors):
            self._tensors.append(tensor)
        return number


def _unoptimised(function: Any, tensors: Sequence[Tensor]) -> None:
    """Call a function of TorchScript as it was written."""
    with torch.jit.optimized_execution(False):  # type: ignore[attr-defined]
        function(*tensors)


def _all_arguments(kernel: Kernel) -> list[object]:
    """Return the arguments of a kernel in the order of its schema, with the defaults.

    A number beside a tensor, as in ``x * 2``, becomes a tensor of the type that the kernel casts the number to.
    """
    arguments = list(kernel.arguments)
    omitted = kernel.operator._schema.arguments[len(arguments) :]
    arguments += [kernel.named.get(parameter.name, parameter.default_value) for parameter in omitted]
    first = arguments[0] if arguments else None
    for index, parameter in enumerate(kernel.operator._schema.arguments):
        value = arguments[index]
        if str(parameter.type) == "Tensor" and isinstance(value, int | float):
            if not isinstance(first, Tensor) or first.dtype not in (torch.float32, torch.float64):
                raise TypeError("the type that the number is cast to is not known")
            if isinstance(value, int) and abs(value) > LARGEST_EXACT:
                raise TypeError("the number is rounded")
            arguments[index] = torch.tensor(value, dtype=first.dtype)
    return arguments


def _described(argument: object, given: list[Tensor]) -> Any:
    """Return what an argument is in a form, and append its tensors. Raises TypeError where a graph cannot hold it."""
    if isinstance(argument, Tensor):
        given.append(argument)
        return None
    if isinstance(argument, list | tuple) and (not argument or any(isinstance(item, Tensor) for item in argument)):
        return tuple(_described(item, given) for item in argument)
    if isinstance(argument, torch.memory_format):
        argument = MEMORY_FORMATS.get(argument, argument)
    values = argument if isinstance(argument, list | tuple) else [argument]
    if not all(isinstance(value, PLAIN) for value in values):
        raise TypeError(f"a graph cannot hold a {type(argument).__name__}")
    value = list(argument) if isinstance(argument, tuple) else argument
    return _Constant(kind=type(value), text=repr(value), value=value)


def _results_are_known(form: _Form) -> bool:
    """Return whether each result that is copied is one of the operator's, or all of them are its one list."""
    kinds = [result.type.kind() for result in form.operator._schema.returns]
    return not form.copied or kinds == ["ListType"] or kinds == ["TensorType"] * len(form.copied)


@lru_cache(maxsize=1024)
def _is_called_as_it_is(form: _Form, tensors: int) -> bool:
    """Return whether a graph's node with these arguments calls the very overload of the operator."""
    graph: Any = torch._C.Graph()
    node = _node(graph, form, [graph.addInput() for _ in range(tensors)])
    return bool(node.schema() == str(form.operator._schema))


@lru_cache(maxsize=GRAPHS)
def _function(steps: tuple[tuple[_Form, tuple[int, ...]], ...], tensors: int) -> Any:
    """Return the function of TorchScript that makes calls on its arguments; ``steps`` has the arguments' numbers."""
    graph: Any = torch._C.Graph()
    inputs = [graph.addInput() for _ in range(tensors)]
    for form, numbers in steps:
        copies = sum(form.copied)
        given = [inputs[number] for number in numbers]
        node = _node(graph, form, given[: len(given) - copies])
        graph.insertNode(node)
        if copies:
            _insert_copies(graph, node, form.copied, given[len(given) - copies :])
    graph.registerOutput(graph.insertConstant(None))
    return torch._C._create_function_from_graph("kernels", graph)


def _node(graph: Any, form: _Form, tensors: Sequence[Any]) -> Any:
    """Return a node for a call, which is not in the graph yet; its constants and lists are."""
    schema = form.operator._schema
    remaining = iter(tensors)

    def value_of(described: Any, kind: Any) -> Any:
        if isinstance(described, _Constant):
            return graph.insertConstant(described.value)
        if described is None:
            return next(remaining)
        kind = kind.getElementType() if kind.kind() == "OptionalType" else kind
        items = graph.create("prim::ListConstruct", [value_of(item, kind) for item in described], 1)
        items.output().setType(kind)
        graph.insertNode(items)
        return items.output()

    given = [
        value_of(described, parameter.type)
        for described, parameter in zip(form.arguments, schema.arguments, strict=True)
    ]
    node = graph.create(schema.name, given, len(schema.returns))
    for value, result in zip(node.outputs(), schema.returns, strict=True):
        value.setType(result.type)
    return node


def _insert_copies(graph: Any, node: Any, copied: Sequence[bool], targets: Sequence[Any]) -> None:
    """Insert the copies of a node's results to their targets."""
    results = list(node.outputs())
    if results[0].type().kind() == "ListType":
        unpacked = graph.create("prim::ListUnpack", results, len(copied))
        graph.insertNode(unpacked)
        results = list(unpacked.outputs())
    wanted = [value for value, copies in zip(results, copied, strict=True) if copies]
    for target, value in zip(targets, wanted, strict=True):
        graph.insertNode(graph.create("aten::copy_", [target, value, graph.insertConstant(False)], 1))
