"""Notebooks as batch jobs: the same notebook a person steps through, run by papermill."""

import os
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import nbformat
import papermill
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from nbclient.exceptions import DeadKernelError
from nbformat import NotebookNode
from papermill.exceptions import PapermillExecutionError

from fap_lib.core import paths
from fap_lib.core.errors import KitError
from fap_lib.core.files import disk_errors

FEATURES, TRAIN, EVALUATE = "01_clip_features", "04_train_prompts", "05_evaluate_dataset"
COMPARE = "06_compare_results"

LESSON = "lesson"
"""Tag of cells that only teach; a job leaves them out."""

ATTEMPTS = 2
START_TIMEOUT = 600
"""Seconds a kernel may take to start; long, because a busy machine is no fault."""


class SocketKernelManager(AsyncKernelManager):
    """A kernel reached through socket files of its own: no ports to race for, nothing on the network.

    Where the system has no such files it is an ordinary kernel on ports, which two kernels may race for.
    """

    holds: ClassVar[tuple[int, ...]] = ()
    """Open files that the kernel keeps open as long as it lives."""

    def __init__(self, **options: Any):
        # A short path, because socket paths may not be longer than about a hundred characters.
        self._sockets = tempfile.mkdtemp(prefix="fap-")
        unix = {"transport": "ipc", "ip": f"{self._sockets}/k"} if hasattr(socket, "AF_UNIX") else {}
        super().__init__(**unix, **options)

    @property
    def kernel_spec(self) -> KernelSpec:
        """This very Python, whichever kernels a user has installed under whichever name.

        A failed cell says so in the notebook; on a terminal a stopped kernel has nothing to add.
        """
        command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        return KernelSpec(argv=[*command, "--log-level=CRITICAL"], display_name="Python 3", language="python")

    async def start_kernel(self, **options: Any) -> None:  # type: ignore[override]
        environment = {**(options.pop("env", None) or os.environ), **self._homes()}
        await super().start_kernel(pass_fds=self.holds, env=environment, **options)

    def _homes(self) -> dict[str, str]:
        """Where IPython keeps its files: not in a user's home, which may be read-only or, in a container,
        absent, and whose start-up files are none of the kit's."""
        try:
            Path.home()
        except RuntimeError:
            return {"IPYTHONDIR": self._sockets, "HOME": self._sockets}
        return {"IPYTHONDIR": self._sockets}

    async def cleanup_resources(self, restart: bool = False) -> None:  # type: ignore[override]
        await super().cleanup_resources(restart)
        if not restart:
            shutil.rmtree(self._sockets, ignore_errors=True)


def run_notebook(name: str, parameters: dict[str, Any], folder: Path, holds: tuple[int, ...] = ()) -> Path:
    """Run `notebooks/NAME.ipynb` with `parameters`; the executed notebook goes to `folder/NAME.ipynb`.

    Cells tagged `lesson` are left out. It is written cell by cell, so a failed one shows how far it came and
    its traceback. A kernel that dies or does not start gets one more try.

    Args:
        holds: open files, such as a lock, that the kernel keeps open as long as it lives.

    Raises:
        KitError: unknown notebook or parameter, the sentence with which a cell refused its input, or a
            kernel that died twice.
    """
    source = paths.NOTEBOOKS / f"{name}.ipynb"
    if not source.is_file():
        known = ", ".join(sorted(path.stem for path in paths.NOTEBOOKS.glob("*.ipynb")))
        raise KitError(f"there is no notebook {name!r}; notebooks: {known}.")
    declared = papermill.inspect_notebook(str(source))
    unknown = [key for key in parameters if key not in declared]
    if unknown:
        raise KitError(
            f"the notebook {name} has no parameter {unknown[0]!r}; parameters: {', '.join(declared)}."
        )

    target = folder / source.name
    manager = type("Manager", (SocketKernelManager,), {"holds": holds})
    for attempt in range(1, ATTEMPTS + 1):
        try:
            _execute(source, target, parameters, manager)
            break
        except (DeadKernelError, RuntimeError) as error:  # jupyter_client raises the latter at the start
            if attempt == ATTEMPTS:
                raise KitError(
                    f"the kernel of {name} died or did not start, {ATTEMPTS} times ({error}); if memory ran "
                    f"out, lower the batch size or run fewer jobs at once (notebook: {target})."
                ) from error
    return target


def _execute(
    source: Path, target: Path, parameters: dict[str, Any], manager: type[AsyncKernelManager]
) -> None:
    notebook = without_lessons(source)
    try:
        with quiet(), disk_errors(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            papermill.execute_notebook(
                notebook,
                str(target),
                parameters,
                cwd=str(paths.NOTEBOOKS),
                progress_bar=False,
                kernel_manager_class=manager,
                start_timeout=START_TIMEOUT,
                stderr_file=sys.stderr,  # where a kernel says for whom it waits
            )
    except PapermillExecutionError as error:
        if error.ename == KitError.__name__:
            raise KitError(f"{error.evalue} (notebook: {target})") from error
        raise


def without_lessons(path: Path) -> NotebookNode:
    """A notebook as jobs run it."""
    notebook = nbformat.read(path, as_version=4)
    notebook.cells = [cell for cell in notebook.cells if LESSON not in cell.metadata.get("tags", [])]
    return notebook


@contextmanager
def quiet() -> Iterator[None]:
    """No progress bars in kernels that start meanwhile; they inherit the environment."""
    before = os.environ.get("FAP_PROGRESS")
    os.environ["FAP_PROGRESS"] = "0"
    try:
        yield
    finally:
        if before is None:
            del os.environ["FAP_PROGRESS"]
        else:
            os.environ["FAP_PROGRESS"] = before


def code_cells(path: Path) -> list[str]:
    """Sources of the code cells that a job runs."""
    return [cell.source for cell in without_lessons(path).cells if cell.cell_type == "code"]
