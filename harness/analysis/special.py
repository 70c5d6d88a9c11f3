"""Hands out functions of `scipy.special` without what that package imports beside them.

The package takes longer to import than a table takes to make: it loads the linear algebra of scipy, and parts of numpy
that nothing here uses. Its functions lie in an extension module, which needs none of that.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import threading
from functools import cache
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_PACKAGE: Final = "scipy.special"
_EXTENSION: Final = f"{_PACKAGE}._ufuncs"


def stdtr(degrees: Any, t: Any) -> Any:
    """Return the distribution function of Student's t."""
    return _functions().stdtr(degrees, t)


def stdtrit(degrees: Any, p: Any) -> Any:
    """Return the quantile of Student's t."""
    return _functions().stdtrit(degrees, p)


def nctdtr(degrees: Any, shift: Any, t: Any) -> Any:
    """Return the distribution function of the noncentral t."""
    return _functions().nctdtr(degrees, shift, t)


def nctdtrinc(degrees: Any, p: Any, t: Any) -> Any:
    """Return the shift of the noncentral t that has the probability ``p`` up to ``t``."""
    return _functions().nctdtrinc(degrees, p, t)


def psi(x: Any) -> Any:
    """Return the digamma function."""
    return _functions().psi(x)


def polygamma(order: int, x: Any) -> NDArray[np.float64]:
    """Return a derivative of the digamma function, of order 1 or higher, as `scipy.special.polygamma` computes it."""
    import numpy as np

    functions = _functions()
    zeta = functions.zeta if hasattr(functions, "zeta") else functions._zeta  # as the package and its extension say
    sign: float = (-1.0) ** (order + 1)
    return np.asarray(sign * functions.gamma(order + 1.0) * zeta(order + 1, x))


@cache
def _functions() -> Any:
    """Return a module with the functions: the extension by itself, or the package where there is no other way.

    For the moment in which the extension is loaded, an empty package stands for the whole one, which is not safe beside
    other threads. Whoever imports the whole one later gets it.
    """
    if _PACKAGE not in sys.modules and threading.active_count() == 1:
        found = importlib.util.find_spec(_PACKAGE)
        empty = ModuleType(_PACKAGE)
        empty.__path__ = list((found and found.submodule_search_locations) or ())
        sys.modules[_PACKAGE] = empty
        try:
            return importlib.import_module(_EXTENSION)
        except ImportError:  # of a scipy with other modules inside
            pass
        finally:
            del sys.modules[_PACKAGE]
    return importlib.import_module(_PACKAGE)
