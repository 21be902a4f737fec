"""Figures that a page with a strict content policy can show: no style attribute, no style element."""

from __future__ import annotations

import re

from markupsafe import Markup

_STYLE = re.compile(r' style="([^"]*)"')
_SHEET = re.compile(r"<defs>\s*<style[^>]*>.*?</style>\s*</defs>", re.DOTALL)
_EVERYWHERE = 'stroke-linejoin="round" stroke-linecap="butt"'


def inline(svg: str) -> Markup:
    """A figure of ``report.feedback_figures`` for a page: what its styles say, as attributes of the same names."""
    unstyled = _STYLE.sub(lambda found: _attributes(found[1]), svg)
    return Markup(_SHEET.sub("", unstyled).replace("<svg ", f"<svg {_EVERYWHERE} ", 1))


def _attributes(style: str) -> str:
    pairs = (declaration.partition(":") for declaration in style.split(";") if declaration.strip())
    return "".join(f' {name.strip()}="{value.strip()}"' for name, _, value in pairs)
