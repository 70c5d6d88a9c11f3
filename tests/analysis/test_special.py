"""The functions of scipy are taken from its extension module alone, and are those of the package."""

from __future__ import annotations

import subprocess
import sys
import threading
from types import ModuleType

import numpy as np
import pytest
import scipy.special

from harness.analysis import special

DEGREES = np.array([1.0, 2.5, 19.0, 1e6])


def test_each_function_is_that_of_scipy() -> None:
    for name, values in {
        "stdtr": (DEGREES, -2.1),
        "stdtrit": (DEGREES, 0.975),
        "nctdtr": (DEGREES, 1.5, 2.0),
        "nctdtrinc": (DEGREES, 0.2, 2.0),
        "psi": (DEGREES,),
    }.items():
        assert getattr(special, name)(*values).tolist() == getattr(scipy.special, name)(*values).tolist()
    for order in (1, 2):
        assert special.polygamma(order, DEGREES).tolist() == scipy.special.polygamma(order, DEGREES).tolist()


LATER = """
import sys
from harness.analysis.special import stdtrit
quick = float(stdtrit(5.0, 0.975))
assert not {"scipy.special", "scipy.linalg", "numpy.f2py"} & set(sys.modules), sorted(sys.modules)
import scipy.special
from scipy.stats import t
assert float(scipy.special.stdtrit(5.0, 0.975)) == quick
assert abs(t(5.0).ppf(0.975) - quick) < 1e-12
assert scipy.special._ufuncs is sys.modules["scipy.special._ufuncs"]
"""


def test_the_package_is_not_imported_and_can_be_later() -> None:
    subprocess.run([sys.executable, "-c", LATER], check=True)


@pytest.mark.parametrize("why", ["beside another thread", "where there is no such extension"])
def test_else_the_package_is_taken(why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "scipy.special")
    if why == "beside another thread":
        monkeypatch.setattr(threading, "active_count", lambda: 2)
    else:
        monkeypatch.setattr(threading, "active_count", lambda: 1)
        monkeypatch.setattr(special, "_EXTENSION", "scipy.special.none")
    found: ModuleType = special._functions.__wrapped__()
    assert (found.__name__, found.stdtrit(5.0, 0.975)) == ("scipy.special", scipy.special.stdtrit(5.0, 0.975))
