"""One self-contained page of scored images, the highest score first, to be looked through and sent on."""

import base64
import heapq
import html
import io
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from fap_lib.core.files import write_text

PAGE = "gallery.html"

MOST = 1000
"""Images on a page, those of the highest scores: more would make a file that no browser likes."""

SIDE = 220
"""Pixels of the longer side of a picture on the page."""


@dataclass(frozen=True)
class Card:
    """One image on the page. pictures: the image, and the image with its map, as JPEG."""

    name: str
    folder: str
    score: float
    flagged: bool | None
    pictures: tuple[bytes, bytes]


class Gallery:
    """Collects cards, and keeps those of the highest scores."""

    def __init__(self) -> None:
        self.count = 0
        self._best: list[tuple[float, int, Card]] = []

    def add(self, card: Card) -> None:
        self.count += 1
        entry = (card.score, -self.count, card)  # of equal scores the first comes first
        if len(self._best) < MOST:
            heapq.heappush(self._best, entry)
        else:
            heapq.heappushpop(self._best, entry)

    def write(self, folder: Path, title: str, notes: list[str]) -> Path:
        """Write the page into a folder. notes: sentences above the pictures."""
        cards = [card for *_, card in sorted(self._best, key=lambda entry: entry[:2], reverse=True)]
        if self.count > len(cards):
            notes = [*notes, f"These are the {len(cards)} images with the highest scores of {self.count}."]
        write_text(folder / PAGE, _page(title, notes, cards))
        return folder / PAGE


def thumbnail(image: Image.Image) -> bytes:
    """A small copy of an RGB image, as JPEG."""
    small = image.copy()
    small.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    if max(image.size) < SIDE:  # the mini world's images are smaller than their place on the page
        factor = SIDE // max(image.size)
        small = image.resize((factor * image.width, factor * image.height), Image.Resampling.NEAREST)
    stored = io.BytesIO()
    small.save(stored, format="JPEG", quality=80)
    return stored.getvalue()


def _page(title: str, notes: list[str], cards: list[Card]) -> str:
    folders = Counter(card.folder for card in cards)
    options = [f'<option value="">all folders ({len(cards)})</option>']
    options += [
        f'<option value="{html.escape(name)}">{html.escape(name)} ({count})</option>'
        for name, count in sorted(folders.items())
    ]
    judged = any(card.flagged is not None for card in cards)
    flags = (
        '<label>show <select id="flag"><option value="">all</option><option value="yes">flagged</option>'
        '<option value="no">not flagged</option></select></label>'
        if judged
        else ""
    )
    said = "".join(f"<p>{html.escape(note)}</p>" for note in notes)
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style><body>"
        f"<header><h1>{html.escape(title)}</h1>{said}</header>"
        f'<nav>{flags}<label>in <select id="folder">{"".join(options)}</select></label>'
        f'<span id="count" role="status">{len(cards)} images</span></nav>'
        f"<main>{''.join(map(_card, cards))}</main><script>{_SCRIPT}</script></body></html>\n"
    )


def _card(card: Card) -> str:
    name = html.escape(card.name)
    flag = {True: "yes", False: "no", None: ""}[card.flagged]
    badge = '<b class="flag">flagged</b>' if card.flagged else ""
    plain, mapped = (base64.b64encode(picture).decode() for picture in card.pictures)
    return (
        f'<figure data-flag="{flag}" data-folder="{html.escape(card.folder)}"><div>'
        f'<img alt="{name}" src="data:image/jpeg;base64,{plain}">'
        f'<img alt="anomaly map of {name}" src="data:image/jpeg;base64,{mapped}"></div>'
        f"<figcaption><strong>{card.score:.3f}</strong> {badge}<span>{name}</span></figcaption></figure>"
    )


_STYLE = """
:root { color-scheme: light dark; }
* { box-sizing: border-box; }
body { font: 16px/1.45 system-ui, sans-serif; margin: 0 auto; max-width: 90rem; padding: 0 1rem 2rem; }
h1 { font-size: 1.4rem; margin: 1rem 0 .3rem; overflow-wrap: anywhere; }
header p { margin: .2rem 0; color: color-mix(in srgb, CanvasText 72%, Canvas); }
nav { position: sticky; top: 0; z-index: 1; display: flex; flex-wrap: wrap; gap: .5rem 1rem;
  align-items: center; padding: .6rem 0; background: Canvas;
  border-bottom: 1px solid color-mix(in srgb, CanvasText 20%, Canvas); }
select { font: inherit; min-height: 2.5rem; max-width: 60vw; }
main { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 17rem), 1fr)); gap: 1rem;
  padding-top: 1rem; }
figure { margin: 0; border: 1px solid color-mix(in srgb, CanvasText 20%, Canvas); border-radius: .4rem;
  overflow: hidden; }
figure[hidden] { display: none; }
figure[data-flag=yes] { border-color: #d55e00; }
figure div { display: grid; grid-template-columns: 1fr 1fr; gap: 2px; }
img { width: 100%; aspect-ratio: 1; object-fit: contain; background: #8882; display: block; }
figcaption { padding: .4rem .6rem; }
figcaption span { display: block; font-size: .85rem; overflow-wrap: anywhere; }
.flag { background: #b34e00; color: #fff; border-radius: .3rem; padding: 0 .4rem; font-size: .8rem; }
"""

_SCRIPT = """
const flag = document.getElementById("flag"), folder = document.getElementById("folder");
const cards = [...document.querySelectorAll("figure")], count = document.getElementById("count");
function show() {
  let shown = 0;
  for (const card of cards) {
    card.hidden = (flag && flag.value && card.dataset.flag !== flag.value)
      || (folder.value && card.dataset.folder !== folder.value);
    shown += !card.hidden;
  }
  count.textContent = shown === 1 ? "1 image" : shown + " images";
}
for (const menu of [flag, folder]) if (menu) menu.addEventListener("change", show);
show();
"""
