"""Numbers: their ranges, and how they are written."""

import math

SEED = 2**32 - 1
"""The largest seed that all of NumPy, torch and the kit take."""


def plus_minus(value: float, half: float = math.nan, sign: str = "", absent: str = "-") -> str:
    """A value with what it may be off by, to one decimal: `86.8 ± 1.0`.

    Args:
        value: NaN becomes `absent`. half: an interval's half width or a standard deviation; NaN leaves it
            out.
        sign: `+` to write the sign of positive values as well.
    """
    if math.isnan(value):
        return absent
    text = f"{round(value, 1) + 0.0:{sign}.1f}"  # + 0.0: no minus before a zero
    return text if math.isnan(half) else f"{text} ± {half:.1f}"
