"""What a campaign has tried so far: one line a case, so that an interrupted one goes on where it was."""

import json
import random
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Case:
    """One trial, or some of a kind.

    kind: a row of the table. number: within its kind. did: what was done, for who wants to see it again.
    wrong: what fell; None where it held. ran: False where the machine does not allow it. count: of trials.
    """

    kind: str
    number: int
    did: str
    wrong: str | None = None
    ran: bool = True
    seconds: float = 0.0
    count: int = 1


class Log:
    """The cases of one campaign, in a file of JSON lines.

    Args:
        path: the file; made if missing. seed: each case draws its own numbers from it, its kind and number.
    """

    def __init__(self, path: Path, seed: int):
        self.path = path
        self.seed = seed
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        whole = [line for line in lines if line.endswith("}")]
        if whole != lines:  # killed while it wrote
            path.write_text("".join(f"{line}\n" for line in whole), encoding="utf-8")
        self.cases = [Case(**json.loads(line)) for line in whole]
        self._since = time.monotonic()

    def chance(self, kind: str, number: int) -> random.Random:
        """The random numbers of a case."""
        return random.Random(f"{self.seed} {kind} {number}")

    def missing(self, kind: str, count: int) -> list[int]:
        """The numbers below `count` whose case of this kind was not tried yet."""
        done = {case.number for case in self.cases if case.kind == kind}
        return [number for number in range(count) if number not in done]

    def note(
        self, kind: str, number: int, did: str, wrong: str | None = None, ran: bool = True, count: int = 1
    ) -> None:
        """Write a case down, with the seconds since the one before."""
        now = time.monotonic()
        case = Case(kind, number, did, wrong, ran, round(now - self._since, 2), count)
        self._since = now
        self.cases.append(case)
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(case), ensure_ascii=False) + "\n")
        if wrong:
            print(f"{kind}, {did}: {wrong}", flush=True)

    def begin(self) -> None:
        """Leave the time since the last case out of the next one's."""
        self._since = time.monotonic()

    def seconds(self) -> float:
        """What all cases took, whatever ran between them."""
        return sum(case.seconds for case in self.cases)

    def table(self) -> str:
        """Tried, held and fell, a Markdown row a kind, and all together."""
        tried: Counter[str] = Counter()
        fell: Counter[str] = Counter()
        for case in self.cases:
            if case.ran:
                tried[case.kind] += case.count
                fell[case.kind] += case.wrong is not None
        rows = ["| kind | tried | held | fell |", "|---|---|---|---|"]
        rows += [f"| {kind} | {tried[kind]} | {tried[kind] - fell[kind]} | {fell[kind]} |" for kind in tried]
        total, lost = tried.total(), fell.total()
        rows.append(f"| **all** | {total} | {total - lost} | {lost} |")
        return "\n".join(rows)
