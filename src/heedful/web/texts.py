"""Text that people or models wrote, made safe to look at."""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Iterator
from functools import lru_cache
from typing import Literal
from urllib.parse import urlsplit

import nh3
from markdown_it import MarkdownIt
from markupsafe import Markup

Change = tuple[Literal["same", "added", "removed"], str]
LONGEST = 100_000
_TAGS = {
    *("p", "br", "hr", "h1", "h2", "h3", "h4", "h5", "h6", "ul", "ol", "li", "blockquote", "pre", "code", "em", "strong", "s", "a"),
    *("table", "thead", "tbody", "tr", "th", "td"),
}
_BIDI = {ord(c): f"[{unicodedata.name(c).lower()}]" for c in "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f\u061c"}


@lru_cache(maxsize=64)
def markdown(text: str) -> Markup:
    """Markdown as HTML that can do nothing: two walls, as neither the parser nor the cleaner is trusted alone.

    No raw HTML, no images; a link says where it leads. At most 100,000 characters.
    """
    parser = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"]).disable(["image"])
    html = parser.render(visible(text[:LONGEST]))
    cleaned = nh3.clean(
        html,
        tags=_TAGS,
        attributes={"a": {"href"}, "ol": {"start"}},
        url_schemes={"http", "https", "mailto"},
        link_rel="noopener noreferrer nofollow",
    )
    return Markup(cleaned)


def visible(text: str) -> str:
    """The text with characters that turn its direction round written out, so that nobody is shown another order than is there."""
    return text.translate(_BIDI)


def difference(before: str, after: str) -> list[Change]:
    """What became of a text, line by line."""
    return list(_changes(before.splitlines(), after.splitlines()))


def _changes(before: list[str], after: list[str]) -> Iterator[Change]:
    for tag, i1, i2, j1, j2 in difflib.SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
        if tag == "equal":
            yield from (("same", line) for line in before[i1:i2])
            continue
        yield from (("removed", line) for line in before[i1:i2])
        yield from (("added", line) for line in after[j1:j2])


def local_path(path: str) -> str:
    """Where to go after signing in: a page of ours, or the first one."""
    try:
        parts = urlsplit(path)
    except ValueError:
        return "/"
    ours = path.startswith("/") and not parts.scheme and not parts.netloc and "\\" not in path and path.isprintable()
    return path if ours and not path.startswith("//") else "/"
