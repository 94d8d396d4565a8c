"""Loads the package's own source once more, with its standard modules for time, chance and threads replaced.

The simulated copy lives beside the real one under another name. Nothing in it is replaced but what its modules import
as ``time``, ``random``, ``threading`` and ``concurrent.futures``, the connection pool under its transport, and the two
AWS clients: everything from the event as Lambda hands it on to the answer is the code that ships. A *patch* changes the
source before it is loaded: that is how the tests break it on purpose.
"""

from __future__ import annotations

import builtins
import importlib
import importlib.abc
import importlib.machinery
import sys
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from . import kernel as sim

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType

SOURCE = Path(__file__).parents[2] / "src" / "completion_sync"
_numbers = count()


def _kernel() -> sim.Kernel:
    run = sim.kernel()
    run.switch()
    return run


def _wall() -> float:
    return _kernel().process.wall()


def _monotonic() -> float:
    return _kernel().process.monotonic()


def _sleep(seconds: float) -> None:
    _kernel().sleep(seconds)


def _uniform(low: float, high: float) -> float:
    return sim.kernel().rng.uniform(low, high)


_REPLACED: dict[str, Any] = {
    "time": SimpleNamespace(time=_wall, monotonic=_monotonic, sleep=_sleep),
    "random": SimpleNamespace(uniform=_uniform, seed=lambda: None),
    "threading": SimpleNamespace(Lock=sim.Lock, RLock=sim.RLock),
    "concurrent.futures": SimpleNamespace(
        Executor=sim.Executor, Future=sim.Future, ThreadPoolExecutor=sim.ThreadPoolExecutor, wait=sim.wait
    ),
}


class StalePatchError(Exception):
    """The text that a patch replaces does not stand in the source, or not exactly once."""


@dataclass(frozen=True)
class Patch:
    """A change of one module's source: ``old``, which stands there exactly once, becomes ``new``."""

    module: str
    old: str
    new: str

    def apply(self, source: str) -> str:
        """Give the changed source.

        :raises StalePatchError: it does not apply.
        """
        if source.count(self.old) != 1:
            raise StalePatchError(f"{self.module}: stands there {source.count(self.old)} times: {self.old}")
        return source.replace(self.old, self.new)


class Package:
    """One simulated copy of the package."""

    def __init__(self, patches: Sequence[Patch] = ()) -> None:
        """Load it.

        :raises StalePatchError: a patch does not apply.
        """
        name = f"simulated_completion_sync_{next(_numbers)}"
        finder = _Finder(name, patches)
        sys.meta_path.insert(0, finder)
        try:
            self.handler = importlib.import_module(f"{name}.handler")
            self.bootstrap = importlib.import_module(f"{name}.bootstrap")
            self.settings = importlib.import_module(f"{name}.settings")
            self.errors = importlib.import_module(f"{name}.errors")
        finally:
            sys.meta_path.remove(finder)
            for module in [module for module in sys.modules if module.partition(".")[0] == name]:
                del sys.modules[module]


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.InspectLoader):
    def __init__(self, name: str, patches: Sequence[Patch]) -> None:
        self._name = name
        self._sources = {path.stem: path.read_text(encoding="utf-8") for path in SOURCE.glob("*.py")}
        for patch in patches:
            self._sources[patch.module] = patch.apply(self._sources[patch.module])

    def find_spec(self, fullname: str, _path: object = None, _target: object = None) -> Any:
        package, _, _ = fullname.partition(".")
        if package != self._name:
            return None
        return importlib.machinery.ModuleSpec(fullname, self, is_package=self.is_package(fullname))

    def is_package(self, fullname: str) -> bool:
        return fullname == self._name

    def get_source(self, fullname: str) -> str:
        return self._sources[fullname.partition(".")[2] or "__init__"]

    def exec_module(self, module: ModuleType) -> None:
        stem = module.__name__.partition(".")[2] or "__init__"
        # Not the real path: coverage would trace every one of a million calls.
        code = compile(self._sources[stem], f"<simulated>/{stem}.py", "exec", dont_inherit=True)
        module.__dict__["__builtins__"] = vars(builtins) | {"__import__": _import}
        exec(code, module.__dict__)  # this is what loading a module is


def _import(name: str, *args: Any, **kwargs: Any) -> Any:
    if name == "snapshot_restore_py":  # SnapStart's hooks would stay with the real runtime's module
        raise ImportError(name)
    if name in _REPLACED:
        return _REPLACED[name]
    return builtins.__import__(name, *args, **kwargs)
