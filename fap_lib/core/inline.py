"""Pictures inside HTML pages and notebooks, with words for those who see no picture."""

import base64
import html


def png_address(content: bytes) -> str:
    """A PNG file's bytes as an address that holds the picture itself."""
    return "data:image/png;base64," + base64.b64encode(content).decode()


def image_tag(content: bytes, alternative: str, width: int | None = None) -> str:
    """A PNG file's bytes as an `<img>` element.

    Args:
        alternative: what is to be seen. width: in CSS pixels; None shows the picture in its own size.
    """
    sized = f' width="{width}"' if width else ""
    return f'<img alt="{html.escape(alternative)}"{sized} src="{png_address(content)}">'
