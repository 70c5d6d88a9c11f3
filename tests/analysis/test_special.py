"""The functions of scipy are taken from its extension module alone, and are those of the package."""

from __future__ import annotations

import subprocess
import sys
import threading
from types import ModuleType

import pytest
import scipy.special

from harness.analysis import special

LATER = """
import sys
import numpy as np
from harness.analysis import special

degrees = np.array([1.0, 2.5, 19.0, 1e6])
calls = {
    "stdtr": (degrees, -2.1), "stdtrit": (degrees, 0.975), "nctdtr": (degrees, 1.5, 2.0),
    "nctdtrinc": (degrees, 0.2, 2.0), "psi": (degrees,), "polygamma": (1, degrees),
}
quick = {name: getattr(special, name)(*values).tolist() for name, values in calls.items()}
second = special.polygamma(2, degrees).tolist()
assert not {"scipy.special", "scipy.linalg", "numpy.f2py"} & set(sys.modules), sorted(sys.modules)

import scipy.special
from scipy.stats import t
assert quick == {name: getattr(scipy.special, name)(*values).tolist() for name, values in calls.items()}
assert second == scipy.special.polygamma(2, degrees).tolist()
assert abs(t(2.5).ppf(0.975) - quick["stdtrit"][1]) < 1e-12
"""


def test_each_function_is_that_of_the_package_which_can_be_imported_later() -> None:
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
