"""What the tidy tables of a grid hold: their columns and ranges, checked where a table is read or made."""

import numpy as np
import pandas as pd
import pandera.pandas as pa
from pandera.errors import SchemaError

from fap_lib.core.errors import KitError, shown

KINDS = ("iccv", "paper-v1", "quoted-by-other-paper", "third-party-rerun", "third-party-retraining")
"""Kinds of sources of reported values, the best first."""

CONFIDENCE = ("high", "medium", "low")

VERDICTS = ("within", "better", "worse", "not comparable", "not reported")

_LEVEL = pa.Column(checks=pa.Check.isin(["image", "pixel"]))
_CELL = {
    **{name: pa.Column() for name in ("method", "title", "dataset", "metric", "definition")},
    **{name: pa.Column(nullable=True) for name in ("mode", "source")},
    "level": _LEVEL,
}

RESULTS = pa.DataFrameSchema(
    {
        **_CELL,
        **{name: pa.Column() for name in ("group", "category", "run", "backbone", "trained", "image_size")},
        "value": pa.Column(float, pa.Check.in_range(0, 1), nullable=True),
        "error": pa.Column(float, pa.Check.in_range(0, 1)),
        "images": pa.Column(int, pa.Check.gt(0)),
        "seed": pa.Column("Int64", pa.Check.ge(0), nullable=True),
        **{name: pa.Column(nullable=True) for name in ("training", "reported")},
        **{name: pa.Column() for name in ("reason", "unlike")},
    }
)
"""A grid's results, one row a value: values in [0, 1], or missing with a reason."""

REPORTED = pa.DataFrameSchema(
    {
        **{name: pa.Column() for name in ("method", "dataset", "metric", "source")},
        "level": _LEVEL,
        "value": pa.Column(float, pa.Check.in_range(0, 100)),
        "kind": pa.Column(checks=pa.Check.isin(KINDS)),
        "confidence": pa.Column(checks=pa.Check.isin(CONFIDENCE)),
    }
)
"""Published values, in per cent, with their sources; nothing is missing."""

COMPARISON = pa.DataFrameSchema(
    {
        **_CELL,
        "obtained": pa.Column(float, pa.Check.in_range(0, 100), nullable=True),
        "std": pa.Column(float, pa.Check.ge(0), nullable=True),
        "reported": pa.Column(float, pa.Check.in_range(0, 100), nullable=True),
        "difference": pa.Column(float, pa.Check.in_range(-100, 100), nullable=True),
        "tolerance": pa.Column(float, pa.Check.ge(0), nullable=True),
        "verdict": pa.Column(checks=pa.Check.isin(VERDICTS)),
    }
)
"""Obtained against reported, in per cent and points."""


def checked(table: pd.DataFrame, schema: pa.DataFrameSchema, what: str) -> pd.DataFrame:
    """`table`, which fits the schema; `what` names it in the message.

    Raises:
        KitError: a column is missing, or holds a value of another type or out of range.
    """
    try:
        return schema.validate(table)
    except SchemaError as error:
        raise KitError(f"{what} does not fit: {_problem(error)}; make it again.") from error


def _problem(error: SchemaError) -> str:
    if not isinstance(error.failure_cases, pd.DataFrame):
        return f"it has no column {error.failure_cases!r}"
    wanted, found = getattr(error.check, "error", error.check), error.failure_cases["failure_case"].iloc[0]
    plain = found.item() if isinstance(found, np.generic) else found
    return f"column {error.schema.name!r} must be {wanted}, found {shown(plain)}"
