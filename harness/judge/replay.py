"""A step of a training as a list of the kernels that it runs, to be repeated without Python's and autograd's part.

A step of a small model spends most of its time between its kernels: in the modules' code, and in building and walking
the graph of gradients. `recorded` runs a step once, notes every call below autograd, forwards and backwards, and
returns a `Program` that makes the same calls on the same numbers: its results are those of the step, bit for bit. What
a recording cannot stand for raises `harness.api.CannotStack`: a step that draws, that decides by a value, or that
changes something other than what it makes itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from harness.api import CannotStack
from harness.judge.kernels import Kernel, in_sequence, listed

READERS: Final = frozenset(
    {Tensor.numpy, Tensor.tolist, Tensor.__array__, Tensor.data_ptr, Tensor.untyped_storage, Tensor.__dlpack__}
)
"""Ways to read a tensor's values that no kernel shows."""

UPDATING: Final = frozenset({torch.ops.aten._foreach_add_.Scalar, torch.ops.aten._fused_adamw_.default})
"""The kernels of an optimiser's step: they count it, and update parameters at the rate of their argument ``lr``."""

RECORDED: Final = 2
"""The number of the optimiser's step that is recorded: the first one also makes the optimiser's state."""


@dataclass(kw_only=True, slots=True)  # not frozen, which would take a tenth of a recording
class Call:
    """A call of a kernel: its arguments, and the tensors that it returned."""

    operator: Any
    arguments: tuple[Any, ...]
    named: Mapping[str, Any]
    results: Sequence[Any]

    @property
    def given(self) -> list[Tensor]:
        """The tensors among the arguments."""
        return _tensors((*self.arguments, *self.named.values()))

    @property
    def writes(self) -> bool:
        """Whether the call changes one of its arguments."""
        return _writes(self.operator)


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's is not typed
    """Notes the calls below autograd. Raises CannotStack at one whose result depends on values in another way."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls: list[Call] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        named = kwargs or {}
        if _may_depend_on_values(func) and not _indexes_by_numbers(func, args):
            raise CannotStack(f"its step decides by values ({func})")
        result = func(*args, **named)
        if func.namespace != "profiler":
            self.calls.append(Call(operator=func, arguments=args, named=named, results=listed(result)))
        return result


class _Unread(TorchFunctionMode):
    """Raises CannotStack where values are read without a kernel."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in READERS:
            raise CannotStack(f"its step reads values ({func.__name__})")
        return func(*args, **(kwargs or {}))


class Buffers:
    """Memory for what a program makes on its way, used again by later calls and by other programs."""

    def __init__(self) -> None:
        self._free: dict[tuple[int, torch.device], list[torch.UntypedStorage]] = {}

    def take(self, like: torch.UntypedStorage) -> torch.UntypedStorage:
        """Return memory of the size and device of other memory."""
        free = self._free.get((like.nbytes(), like.device))
        if free:
            return free.pop()
        return torch.UntypedStorage(like.nbytes(), device=like.device)  # type: ignore[no-untyped-call]

    def give(self, storage: torch.UntypedStorage) -> None:
        """Take back memory that is read no more."""
        self._free.setdefault((storage.nbytes(), storage.device), []).append(storage)


@dataclass(frozen=True, kw_only=True)
class Program:
    """The kernels of a step on tensors that are the same in every repetition, their calls, and the step's results."""

    kernels: Sequence[Kernel]
    calls: Sequence[Callable[[], object]]
    results: Sequence[Tensor]

    def __call__(self) -> None:
        """Compute the results from what the step's parameters and inputs hold now."""
        with torch.no_grad():
            for call in self.calls:
                call()


def recorded(step: Callable[[], Sequence[Tensor]], buffers: Buffers) -> Program:
    """Run a step and return the program of its results.

    The results of several programs that share ``buffers`` may share memory: each holds until another program runs.
    """
    with _Recorder() as recorder, _Unread():
        results = step()
    return _Compiler(recorder.calls, results, buffers).program()


class Update:
    """The steps of an optimiser of `harness.judge.training.adamw`, without the Python around its fused kernels.

    The first two are taken as they are, the second one is recorded. Later ones make the same calls with the learning
    rates of the time, where there is nothing in between but these calls.
    """

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self._optimizer = optimizer
        self._taken = 0
        self._calls: list[tuple[Call, dict[str, Any] | None]] = []

    def __call__(self) -> None:
        """Take the next step, by the gradients that the parameters have; they must stay the same tensors."""
        self._taken += 1
        if self._taken == RECORDED:
            with _Recorder() as recorder:
                self._optimizer.step()
            if all(call.operator in UPDATING for call in recorder.calls):
                self._calls = [(call, self._group_of(call)) for call in recorder.calls]
        elif self._taken < RECORDED or not self._calls:
            self._optimizer.step()
        else:
            with torch.no_grad():
                for call, group in self._calls:
                    named = call.named if group is None else {**call.named, "lr": group["lr"]}
                    call.operator(*call.arguments, **named)

    def _group_of(self, call: Call) -> dict[str, Any] | None:
        """Return the group of parameters that a call updates; None where it takes no learning rate."""
        if "lr" not in call.named:
            return None
        updated = call.arguments[0][0]
        groups = self._optimizer.param_groups
        return next(group for group in groups if any(parameter is updated for parameter in group["params"]))


@dataclass(kw_only=True)
class _Life:
    """A piece of memory that the step made: the first and the last call that use it, and what stands for it."""

    born: int
    dies: int
    stand_in: torch.UntypedStorage | None = None


@dataclass
class _Compiler:
    """Turns calls into kernels on memory of their own; memory from before the step stays what it is."""

    calls: Sequence[Call]
    results: Sequence[Tensor]
    buffers: Buffers
    lives: dict[int, _Life] = field(default_factory=dict)

    def program(self) -> Program:
        """Return the program. Raises CannotStack where a call changes memory from before the step."""
        self._live()
        deaths: dict[int, list[_Life]] = {}
        for life in self.lives.values():
            deaths.setdefault(life.dies, []).append(life)
        kernels = []
        for number, call in enumerate(self.calls):
            kernel = self._kernel(number, call)
            if kernel is not None:
                kernels.append(kernel)
            self._bury(deaths.get(number, ()))
        results = [self._standing(tensor) for tensor in self.results]
        self._bury(deaths.get(len(self.calls), ()))
        return Program(kernels=kernels, calls=in_sequence(kernels), results=results)

    def _live(self) -> None:
        before: set[int] = set()
        for number, call in enumerate(self.calls):
            for tensor in call.given:
                identity = _memory(tensor)
                if identity in self.lives:
                    self.lives[identity].dies = number
                else:
                    before.add(identity)
            for tensor in _tensors(call.results):
                identity = _memory(tensor)
                if identity not in before:
                    self.lives.setdefault(identity, _Life(born=number, dies=number)).dies = number
        for tensor in self.results:
            if _memory(tensor) in self.lives:
                self.lives[_memory(tensor)].dies = len(self.calls)

    def _kernel(self, number: int, call: Call) -> Kernel | None:
        """Return what a call is in the program; None for one that computes nothing, as views do."""
        made = [self._made(number, result) for result in call.results]
        for tensor, fresh in zip(call.results, made, strict=True):
            life = self.lives[_memory(tensor)] if fresh else None
            if life is not None and life.stand_in is None:
                life.stand_in = self.buffers.take(tensor.untyped_storage())
        if call.writes:
            self._require_own(call)
        elif not any(made) or "empty" in call.operator.__name__:
            return None
        arguments = tuple(self._standing_in(argument) for argument in call.arguments)
        named = {name: self._standing_in(argument) for name, argument in call.named.items()}
        if not any(made):
            return Kernel(operator=call.operator, arguments=arguments, named=named)
        targets = [self._standing(tensor) if fresh else None for tensor, fresh in zip(call.results, made, strict=True)]
        into = _into(call.operator) if all(made) else None
        if into is None or len(into[1]) != len(targets):
            return Kernel(operator=call.operator, arguments=arguments, named=named, copied=targets)
        outputs = dict(zip(into[1], targets, strict=True))
        return Kernel(operator=into[0], arguments=arguments, named={**named, **outputs})

    def _made(self, number: int, result: object) -> bool:
        life = self.lives.get(_memory(result)) if isinstance(result, Tensor) else None
        return life is not None and life.born == number

    def _require_own(self, call: Call) -> None:
        for index, argument in enumerate(call.operator._schema.arguments):
            if argument.alias_info is not None and argument.alias_info.is_write:
                value = call.arguments[index] if index < len(call.arguments) else call.named.get(argument.name)
                if any(_memory(tensor) not in self.lives for tensor in _tensors(value)):
                    raise CannotStack(f"its step changes what it does not make ({call.operator})")

    def _standing_in(self, argument: object) -> object:
        """Return an argument with the tensors that stand for its own."""
        if isinstance(argument, list | tuple):
            return [self._standing_in(item) for item in argument]
        return self._standing(argument) if isinstance(argument, Tensor) else argument

    def _standing(self, tensor: Tensor) -> Tensor:
        """Return the tensor that stands for one of the recorded step: of the same geometry, in the program's memory."""
        life = self.lives.get(_memory(tensor))
        storage = tensor.untyped_storage() if life is None or life.stand_in is None else life.stand_in
        empty = torch.empty(0, dtype=tensor.dtype, device=tensor.device)
        return empty.set_(storage, tensor.storage_offset(), tensor.size(), tensor.stride())

    def _bury(self, lives: Sequence[_Life]) -> None:
        for life in lives:
            if life.stand_in is not None:
                self.buffers.give(life.stand_in)


def _tensors(values: Any) -> list[Tensor]:
    """Return the tensors among arguments or results of a kernel."""
    return [value for value in listed(values) if isinstance(value, Tensor)]


def _memory(tensor: object) -> int:
    """Return the identity of a tensor's memory, unique among tensors that are alive."""
    assert isinstance(tensor, Tensor)
    identity: int = tensor.untyped_storage()._cdata
    return identity


@cache
def _may_depend_on_values(operator: Any) -> bool:
    """Return whether an operator reads a value, or the shape of its result may depend on values."""
    return bool({torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape}.intersection(operator.tags))


def _indexes_by_numbers(operator: Any, arguments: tuple[Any, ...]) -> bool:
    """Return whether a call picks out elements by their numbers, so that the shape of its result is known."""
    if operator is not torch.ops.aten.index.Tensor:
        return False
    return all(index.dtype not in (torch.bool, torch.uint8) for index in _tensors(arguments[1]))


@cache
def _writes(operator: Any) -> bool:
    return any(
        argument.alias_info is not None and argument.alias_info.is_write for argument in operator._schema.arguments
    )


@cache
def _into(operator: Any) -> tuple[Any, Sequence[str]] | None:
    """Return the form of an operator that writes its results into given tensors, and the names of those arguments."""
    if any("[]" in str(result.type) for result in operator._schema.returns):
        return None
    wanted = [(argument.name, str(argument.type)) for argument in operator._schema.arguments]
    packet = operator.overloadpacket
    for name in packet.overloads():
        form = getattr(packet, name)
        given = form._schema.arguments
        if [(argument.name, str(argument.type)) for argument in given if not argument.is_out] == wanted:
            outputs = [argument.name for argument in given if argument.is_out]
            if outputs:
                return form, outputs
    return None
