"""Loads a second copy of the package, with its standard modules for time, chance and threads replaced.

Nothing else in the copy is replaced but the connection pool under its transport and the three AWS clients: everything
from the event that Lambda hands over to the answer is the code that ships. :meth:`Package.replace` and
:meth:`Package.rewrite` break the copy on purpose, by the names of what is broken.
"""

from __future__ import annotations

import ast
import builtins
import functools
import importlib
import importlib.abc
import importlib.machinery
import sys
import threading
import weakref
from itertools import count
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any

from . import kernel as sim

if TYPE_CHECKING:
    from collections.abc import Callable

SOURCE = Path(__file__).parents[2] / "src" / "completion_sync"
_numbers = count()
# The modules of all copies, by their full names.
_modules: weakref.WeakValueDictionary[str, ModuleType] = weakref.WeakValueDictionary()


def _kernel() -> sim.Kernel:
    run = sim.kernel()
    run.switch()
    return run


_REPLACED: dict[str, Any] = {
    "importlib": SimpleNamespace(import_module=lambda name, package: _modules[package + name]),
    "time": SimpleNamespace(
        time=lambda: _kernel().process.wall(),  # noqa: PLW0108 - of the run that is on then
        monotonic=lambda: _kernel().process.monotonic(),  # noqa: PLW0108 - likewise
        # As on a real machine, no sleep is so short that the clock stands still.
        sleep=lambda seconds: _kernel().sleep(max(seconds, 1e-4)),
    ),
    "random": SimpleNamespace(
        uniform=lambda low, high: sim.kernel().rng.uniform(low, high),  # noqa: PLW0108 - likewise
        seed=lambda: None,
    ),
    # The real `local` and `Thread` are there for modules that the simulated pool replaces.
    "threading": SimpleNamespace(
        Lock=sim.Lock, RLock=sim.RLock, Semaphore=sim.Semaphore, local=threading.local, Thread=threading.Thread
    ),
    "concurrent.futures": SimpleNamespace(
        Executor=object, Future=sim.Future, ThreadPoolExecutor=sim.ThreadPoolExecutor, wait=sim.wait
    ),
}


class StaleBreakageError(Exception):
    """What a breakage replaces is not in the package, or not exactly once."""


class Package:
    """One simulated copy of the package; its modules are attributes."""

    def __init__(self) -> None:
        name = f"simulated_completion_sync_{next(_numbers)}"
        finder = _Finder(name)
        sys.meta_path.insert(0, finder)
        try:
            # The last three are otherwise imported on first use only.
            for module in ("handler", "config", "mapping", "catalogue"):
                importlib.import_module(f"{name}.{module}")
        finally:
            sys.meta_path.remove(finder)
            loaded = [module for module in sys.modules if module.partition(".")[0] == name]
            _modules.update((module, sys.modules[module]) for module in loaded)
            self._modules = {module.partition(".")[2]: sys.modules.pop(module) for module in loaded}

    def __getattr__(self, name: str) -> Any:
        try:
            return self.__dict__["_modules"][name]
        except KeyError:
            raise AttributeError(name) from None

    def replace(self, path: str, make: Callable[[Any], Any]) -> None:
        """Replace ``module.name`` or ``module.Class.name`` by what ``make`` returns for the original, everywhere.

        :raises StaleBreakageError: there is no such name.
        """
        owner, name = self._owner(path)
        original = vars(owner)[name]
        replacement = make(original)
        setattr(owner, name, replacement)
        for module in self._modules.values():
            if vars(module).get(name) is original:
                setattr(module, name, replacement)

    def rewrite(self, path: str, edit: Callable[[ast.FunctionDef], int]) -> None:
        """Recompile one function after ``edit`` has changed its syntax tree.

        :param edit: returns in how many places it changed the tree.
        :raises StaleBreakageError: there is no such function, or the number of places is not 1.
        """
        stem, *names = path.split(".")
        tree: Any = _tree(stem)
        for name in names:
            tree = next((node for node in tree.body if getattr(node, "name", None) == name), None)
            if tree is None:
                raise StaleBreakageError(f"{path}: no such function")
        if (places := edit(tree)) != 1:
            raise StaleBreakageError(f"{path}: {places} places to change, not 1")
        code = compile(ast.fix_missing_locations(ast.Module([tree], [])), f"<broken>/{stem}.py", "exec")
        namespace: dict[str, Any] = {}
        exec(code, vars(self._modules[stem]), namespace)  # this is what defining a function is
        self.replace(path, lambda _: namespace[names[-1]])

    def _owner(self, path: str) -> tuple[Any, str]:
        stem, *names = path.split(".")
        owner: Any = self._modules.get(stem)
        for name in names[:-1]:
            owner = getattr(owner, name, None)
        if owner is None or names[-1] not in vars(owner):
            raise StaleBreakageError(f"{path}: no such name")
        return owner, names[-1]


def _tree(stem: str) -> ast.Module:
    return ast.parse((SOURCE / f"{stem}.py").read_text(encoding="utf-8"))


@functools.cache
def _code(stem: str) -> Any:
    # Not the real path: coverage would trace each of a million calls.
    return compile((SOURCE / f"{stem}.py").read_text(encoding="utf-8"), f"<simulated>/{stem}.py", "exec")


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.InspectLoader):
    def __init__(self, name: str) -> None:
        self._name = name

    def find_spec(self, fullname: str, _path: object = None, _target: object = None) -> Any:
        if fullname.partition(".")[0] != self._name:
            return None
        return importlib.machinery.ModuleSpec(fullname, self, is_package=self.is_package(fullname))

    def is_package(self, fullname: str) -> bool:
        return fullname == self._name

    def get_source(self, fullname: str) -> str:
        return (SOURCE / f"{fullname.partition('.')[2] or '__init__'}.py").read_text(encoding="utf-8")

    def exec_module(self, module: ModuleType) -> None:
        module.__dict__["__builtins__"] = vars(builtins) | {"__import__": _import}
        exec(
            _code(module.__name__.partition(".")[2] or "__init__"), module.__dict__
        )  # this is what loading a module is


def _import(name: str, *args: Any, **kwargs: Any) -> Any:
    if name == "snapshot_restore_py":  # SnapStart's hooks would stay with the real runtime's module
        raise ImportError(name)
    if name in _REPLACED:
        return _REPLACED[name]
    if args and (module := _modules.get(f"{args[0].get('__package__')}.{name}")) is not None:
        return module
    return builtins.__import__(name, *args, **kwargs)
