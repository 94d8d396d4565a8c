"""Loads a second copy of the package, with its standard modules for time, chance and threads replaced.

Only two other things are replaced: the connection pool under the transport, and the AWS clients. Everything between the
event that Lambda passes in and the function's answer is the code that ships. :meth:`Package.replace` and
:meth:`Package.rewrite` break the copy on purpose.
"""

from __future__ import annotations

import ast
import builtins
import functools
import sys
import threading
from itertools import count
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any

from . import kernel as sim

if TYPE_CHECKING:
    from collections.abc import Callable

SOURCE = Path(__file__).parents[2] / "src" / "completion_sync"
_numbers = count()


def _kernel() -> sim.Kernel:
    run = sim.kernel()
    run.switch()
    return run


_REPLACED: dict[str, Any] = {
    "time": SimpleNamespace(
        time=lambda: _kernel().process.wall(),  # noqa: PLW0108 - of the run in progress at that time
        monotonic=lambda: _kernel().process.monotonic(),  # noqa: PLW0108 - likewise
        # On a real machine no sleep is so short that the clock stands still.
        sleep=lambda seconds: _kernel().sleep(max(seconds, 1e-4)),
    ),
    "random": SimpleNamespace(
        uniform=lambda low, high: sim.kernel().rng.uniform(low, high),  # noqa: PLW0108 - likewise
        seed=lambda: None,
    ),
    # The real `local` and `Thread` are for modules that the simulated pool makes unreachable.
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
        self._name = f"simulated_completion_sync_{next(_numbers)}"
        self._modules: dict[str, ModuleType] = {}
        # The last three are otherwise imported on first use only.
        for stem in ("handler", "config", "mapping", "catalogue"):
            self._load(stem)

    def __getattr__(self, stem: str) -> Any:
        try:
            return self.__dict__["_modules"][stem]
        except KeyError:
            raise AttributeError(stem) from None

    def replace(self, path: str, make: Callable[[Any], Any]) -> None:
        """Replace ``module.name`` or ``module.Class.name`` by what ``make`` returns for the original, everywhere.

        :raises StaleBreakageError: there is no such name.
        """
        stem, *names = path.split(".")
        owner: Any = self._modules.get(stem)
        for each in names[:-1]:
            owner = getattr(owner, each, None)
        name = names[-1]
        if owner is None or name not in vars(owner):
            raise StaleBreakageError(f"{path}: no such name")
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
        tree: Any = ast.parse(_source(stem))
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

    def _load(self, stem: str) -> ModuleType:
        if stem in self._modules:
            return self._modules[stem]
        module = self._modules[stem] = ModuleType(f"{self._name}.{stem}")
        module.__package__ = self._name
        module.__dict__["__builtins__"] = vars(builtins) | {"__import__": self._import}
        sys.modules[module.__name__] = module  # dataclasses look their module up there
        try:
            exec(_code(stem), module.__dict__)  # this is what loading a module is
        finally:
            del sys.modules[module.__name__]
        return module

    def _import(
        self, name: str, globals_: Any = None, locals_: Any = None, names: tuple[str, ...] | None = (), level: int = 0
    ) -> Any:
        """Stand for ``__import__`` in the copy."""
        if level and name:
            return self._load(name)
        if level:  # from . import …
            package = self._load("__init__")
            for each in names or ():
                if not hasattr(package, each):
                    setattr(package, each, self._load(each))
            return package
        if name == "snapshot_restore_py":  # SnapStart's hooks would stay with the real runtime's module
            raise ImportError(name)
        if name == "importlib":
            return SimpleNamespace(import_module=lambda relative, _package: self._load(relative.removeprefix(".")))
        return _REPLACED[name] if name in _REPLACED else builtins.__import__(name, globals_, locals_, names, level)


def _source(stem: str) -> str:
    return (SOURCE / f"{stem}.py").read_text(encoding="utf-8")


@functools.cache
def _code(stem: str) -> Any:
    # Not the real path: coverage would trace each of a million calls.
    return compile(_source(stem), f"<simulated>/{stem}.py", "exec")
