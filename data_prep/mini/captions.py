"""What images and regions of the mini world are called: looks, hardly ever whether they are good or bad.

One grammar serves whole images and regions, so that a region's words differ from an image's in content only.
The words for the state ("damaged", "flawless") are rare and not always right, and only whole images get them:
`StateWords` says how rare and how right. Everything hand-written prompts can know, they know from there.
"""

from dataclasses import dataclass

import numpy as np

from data_prep.mini.canvas import COLOURS
from data_prep.mini.generator import CATEGORIES

LOOKS = {
    "scratch": ("a thin {tone} line", "a fine straight {tone} mark", "a {tone} scrape"),
    "crack": ("a jagged {tone} line", "a branching {tone} line", "a dark split with branches"),
    "cut": ("a {tone} slit with pale lips", "a short open slit"),
    "thread": ("a long curved {colour} strand", "a loose {colour} fibre"),
    "hole": ("a round {tone} spot", "a black opening", "a deep round hole"),
    "stain": ("a soft {colour} blotch", "a faint {colour} shadow", "a cloudy {colour} area"),
    "ink": ("a sharp {colour} blot", "a {colour} splash", "a ragged {colour} patch"),
    "colour": ("a {colour} patch", "an area of {colour}", "a {colour} spot"),
    "rust": ("a rough reddish brown patch", "an orange brown crust"),
    "dirt": ("scattered dark specks", "a cluster of dark crumbs", "dark grains"),
    "burn": ("a black spot with a brown edge", "a brown halo around black"),
    "dent": ("a shallow shaded bowl", "a bump of light and shade", "a soft hollow"),
    "glue": ("a glossy pale drop", "a shiny clear blob"),
    "distortion": ("a swirled pattern", "a twisted pattern", "a warped area"),
    "chipped": ("a notch in the edge", "a broken off corner", "a bite out of the side", "a pale raw flake"),
    "missing": ("a gap in the row", "an empty place", "one part fewer than the others"),
    "bent": ("a crooked part", "a bowed line", "a part leaning to the side"),
    "swapped": ("one part of another colour", "an odd coloured part", "two parts alike"),
}

STRUCTURE = {
    "wood": ("fine parallel grain", "long brown streaks"),
    "marble": ("thin grey veins", "cloudy veins"),
    "fabric": ("a regular weave", "crossing threads"),
    "grid": ("thin crossing wires", "square openings"),
    "tile": ("many small flecks", "coloured specks"),
    "leather": ("fine creases", "a wrinkled skin"),
    "metal": ("brushed lines", "a soft sheen"),
    "perforated": ("rows of round holes", "many round holes"),
    "brick": ("pale joints", "rows of blocks"),
    "carpet": ("short tufts", "a rough pile"),
    "concrete": ("small pores", "a dull mottled surface"),
    "corrugated": ("even ridges", "parallel waves"),
    "capsule": ("small dark letters", "two halves", "a shiny streak"),
    "nut": ("six flat sides", "a threaded hole"),
    "cap": ("a crimped edge", "a star in the middle"),
    "washer": ("a round opening", "fine rings"),
    "chip": ("rows of pins", "small pale letters", "a dot in the corner"),
    "cable": ("three wires", "copper strands"),
    "gear": ("even teeth", "a round bore"),
    "button": ("four small holes", "a raised rim"),
    "cookie": ("dark chips", "a crumbly surface"),
    "pill": ("a score line", "small freckles"),
    "coin": ("a raised head", "a ring of dots"),
    "screw": ("a spiral thread", "a flat head"),
    "scan": ("a bright rim", "two dark chambers", "grey folds"),
    "mucosa": ("wet highlights", "red vessels", "soft folds"),
    "speckle": ("layers of grains", "grainy bands"),
}

TONES = ("dark", "pale", "faint")
PLAIN = ("plain", "even", "smooth", "uniform", "regular", "clean looking")
PREFIXES = ("a photo of", "a picture of", "an image of", "a close-up of", "a view of")
ANY_SURFACE = ("surface", "texture", "material", "object")
ANY_OBJECT = ("object", "item", "product", "thing")

NORMAL_WORDS = ("flawless", "perfect", "good", "intact", "normal")
ABNORMAL_WORDS = ("damaged", "broken", "defective", "faulty", "abnormal")


@dataclass(frozen=True)
class StateWords:
    """How often an image's caption has a word for its state, and how often that word is right.

    share: in [0, 1]. right: in [0, 1]; 0.5 makes the words say nothing.
    """

    share: float = 0.03
    right: float = 0.7


def vocabulary() -> list[str]:
    """Every phrase a caption can be made of, for the list of tokens the mini CLIP must know."""
    looks = [
        look.format(tone=tone, colour=colour)
        for options in LOOKS.values()
        for look in options
        for tone in TONES
        for colour in COLOURS
    ]
    words = [
        *PLAIN,
        *PREFIXES,
        *ANY_SURFACE,
        *ANY_OBJECT,
        *NORMAL_WORDS,
        *ABNORMAL_WORDS,
        *CATEGORIES,
        *COLOURS,
    ]
    structure = [phrase for options in STRUCTURE.values() for phrase in options]
    return [*looks, *words, *structure, "a an on with background . X"]


def image_caption(
    category: str,
    words: dict[str, str],
    look: str | None,
    states: StateWords,
    rng: np.random.Generator,
) -> str:
    """A caption of a whole image.

    Args:
        words: colour and background, from the generator. look: what its defect looks like, from `appearance`;
            None for a normal image. A caption mentions the look in three of four images, as people do.
    """
    noun = _noun(category, words.get("colour"), rng)
    if rng.random() < states.share:
        right = rng.random() < states.right
        options = ABNORMAL_WORDS if (look is not None) == right else NORMAL_WORDS
        noun = f"{_pick(options, rng)} {noun}"
    if "background" in words and rng.random() < 0.4:
        noun = f"{noun} on a {words['background']} background"
    if look is not None and rng.random() < 0.75:
        noun = f"{noun} with {look}"
    elif look is None and rng.random() < 0.5:
        noun = _normal(category, noun, rng)
    return _begin(noun, rng)


def region_caption(category: str, words: dict[str, str], look: str | None, rng: np.random.Generator) -> str:
    """A caption of a part of an image: its defect's look, or what its structure is like."""
    noun = _noun(category, words.get("colour"), rng)
    if look is None:
        return _begin(_normal(category, noun, rng), rng)
    form = rng.random()
    if form < 0.3:
        return _begin(look.removeprefix("a ").removeprefix("an "), rng)
    return _begin(f"{noun} with {look}" if form < 0.7 else f"{look} on {noun}", rng)


def measure(pixels: np.ndarray, mask: np.ndarray) -> tuple[str, str]:
    """Tone (against its surroundings) and nearest named colour of a defect, as seen in the image.

    Args:
        pixels: (H, W, 3) uint8. mask: (H, W) bool, not empty.
    """
    inside = pixels[mask].mean(0) / 255
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    window = (slice(max(rows[0] - 4, 0), rows[-1] + 5), slice(max(columns[0] - 4, 0), columns[-1] + 5))
    ring = pixels[window][~mask[window]]
    outside = ring.mean(0) / 255 if len(ring) else inside
    step = float((inside - outside).mean())
    tone = "faint" if abs(step) < 0.07 else "dark" if step < 0 else "pale"
    names = list(COLOURS)
    return tone, names[int(np.abs(np.array(list(COLOURS.values())) - inside).sum(1).argmin())]


def appearance(kind: str, tone: str, colour: str, rng: np.random.Generator) -> str:
    """What a defect looks like: one of its kind's phrases, with its measured tone and colour."""
    return _pick(LOOKS[kind], rng).format(tone=tone, colour=colour)


def _noun(category: str, colour: str | None, rng: np.random.Generator) -> str:
    anything = ANY_SURFACE if CATEGORIES[category].surface else ANY_OBJECT
    noun = category if rng.random() < 0.6 else _pick(anything, rng)
    return f"{colour} {noun}" if colour and rng.random() < 0.4 else noun


def _normal(category: str, noun: str, rng: np.random.Generator) -> str:
    if rng.random() < 0.5:
        return f"{_pick(PLAIN, rng)} {noun}"
    return f"{noun} with {_pick(STRUCTURE[category], rng)}"


def _begin(noun: str, rng: np.random.Generator) -> str:
    start = _pick(PREFIXES, rng) + " " if rng.random() < 0.3 else ""
    if not noun.startswith(("a ", "an ")) and rng.random() < 0.5:
        noun = f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"
    return start + noun + ("." if rng.random() < 0.5 else "")


def _pick(options: tuple[str, ...], rng: np.random.Generator) -> str:
    return options[rng.integers(len(options))]


def sentences() -> list[tuple[str, str]]:
    """Short sentences in the grammar of the mini world's captions, each with what it is about: a kind of
    defect (its look), `structure` of normal parts, `plain` normal looks, or a word for the `state`."""
    found = []
    for kind, options in LOOKS.items():
        for option in options:
            tones = TONES if "{tone}" in option else ("",)
            colours = tuple(COLOURS) if "{colour}" in option else ("",)
            looks = [option.format(tone=tone, colour=colour) for tone in tones for colour in colours]
            found += [(kind, sentence) for look in looks for sentence in (look, f"object with {look}")]
    parts = {part for options in STRUCTURE.values() for part in options}
    found += [("structure", f"object with {part}") for part in sorted(parts)]
    found += [("plain", f"{word} object") for word in PLAIN]
    return [*found, *(("state", f"{word} object") for word in (*NORMAL_WORDS, *ABNORMAL_WORDS))]
