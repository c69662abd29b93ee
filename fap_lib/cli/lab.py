"""`fap lab`: JupyterLab on a reader's own copies of the notebooks."""

import argparse


def add_command(commands: argparse._SubParsersAction) -> None:
    """Add `lab` to the `fap` parser."""
    parser = commands.add_parser(
        "lab",
        help="open the notebooks in JupyterLab, as copies of your own",
        description="Copies the notebooks to runs/lab/ and opens JupyterLab there. What you edited is kept.",
        examples=(
            "fap lab",
            "fap lab -- --no-browser --port 8888    # on another machine",
        ),
    )
    parser.add_argument(
        "options", nargs="*", metavar="OPTION", help="options of JupyterLab, after -- (default: none)"
    )
    parser.set_defaults(run=_lab)


def _lab(chosen: argparse.Namespace) -> int:
    import subprocess
    import sys

    from fap_lib.lessons.copies import copy_notebooks

    copies = copy_notebooks()
    print(f"Your copies of the notebooks: {copies.folder} (the kit's own stay as they are).")
    if copies.kept:
        print(f"Kept, because you edited them: {', '.join(path.name for path in copies.kept)}.")
    if copies.newer:
        print(
            f"The kit has newer versions, put beside yours: {', '.join(path.name for path in copies.newer)}."
        )
    sys.stdout.flush()
    with subprocess.Popen(
        [sys.executable, "-m", "jupyterlab", str(copies.folder), *chosen.options]
    ) as server:
        while True:
            try:
                return server.wait()
            except KeyboardInterrupt:  # JupyterLab got it as well, and asks whether to end
                continue
