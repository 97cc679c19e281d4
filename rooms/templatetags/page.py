"""Template tags of the pages: attributes that are slots, addresses, and the import map."""

import json
from typing import Any

from django import template
from django.conf import settings
from django.templatetags.static import static
from django.utils.html import conditional_escape, format_html
from django.utils.safestring import SafeString, mark_safe

from rooms.slots import plural, tenths

register = template.Library()

# Where the import map leads: our folders, and libraries by the names they import each other with
FOLDERS = ("page", "work", "room")
LIBRARIES = {
    "@trystero-p2p/nostr": "trystero-nostr/index.mjs",
    "@trystero-p2p/core": "trystero-core/index.mjs",
    "@noble/secp256k1": "noble-secp256k1/index.js",
}
EXPORTED_STATIC = "static/"


@register.simple_tag
def slots(values: dict[str, Any] | None, spec: str) -> SafeString:
    """`{% slots s "id=id hidden=no_cancel" %}`: attributes whose values are slots.

    Writes the spec as `data-slots`, which static/js/page/slots.js reads, and the attributes as the
    values are now. With no values (inside a <template>) it writes the spec alone.
    """
    parts = [format_html('data-slots="{}"', spec)]
    for pair in spec.split():
        attribute, _, name = pair.partition("=")
        value = (values or {}).get(name)
        if value is True:
            parts.append(format_html('{}=""', attribute))
        elif value is not None:
            parts.append(format_html('{}="{}"', attribute, conditional_escape(str(value))))
    return mark_safe(" ".join(parts))  # noqa: S308  (every part comes from format_html)


@register.simple_tag(takes_context=True)
def asset(context: template.Context, path: str) -> str:
    """The address of a static file; in an exported page from the page on, wherever it lies."""
    return f"{EXPORTED_STATIC}{path}" if context.get("exported") else static(path)


@register.simple_tag(takes_context=True)
def import_map(context: template.Context) -> SafeString:
    """The page's only inline script, allowed by its nonce, or in an exported page by its hash."""
    if context.get("exported"):
        return format_html('<script type="importmap">{}</script>', exported_import_map())
    nonce = getattr(context.get("request"), "csp_nonce", "")
    text = _import_map(static("js/"))
    return format_html('<script type="importmap" nonce="{}">{}</script>', nonce, text)


def exported_import_map() -> SafeString:
    """The text of the import map in every exported page: its policy names the hash."""
    return _import_map(f"./{EXPORTED_STATIC}js/")


def _import_map(scripts: str) -> SafeString:
    imports = {f"{folder}/": f"{scripts}{folder}/" for folder in FOLDERS}
    imports |= {name: f"{scripts}vendor/{path}" for name, path in LIBRARIES.items()}
    return mark_safe(json.dumps({"imports": imports}))  # noqa: S308  (no user's text)


@register.simple_tag
def version() -> str:
    return str(settings.VERSION)


@register.filter
def seconds(value: float | None) -> str:
    """1.24 as `1.2 s`; a dash where there is no value yet."""
    return "–" if value is None else f"{tenths(value)} s"


@register.filter
def grouped(value: int | None) -> str:
    """12345 as `12,345`; nothing known is 0."""
    return f"{value or 0:,}"


@register.filter
def long(value: float) -> str:
    """Seconds in the two largest units: `3 days 4 h`, `12 min 5 s`."""
    left = int(value)
    days, left = divmod(left, 86_400)
    hours, left = divmod(left, 3600)
    minutes, left = divmod(left, 60)
    units = [(days, plural(days, "day")), (hours, f"{hours} h"), (minutes, f"{minutes} min")]
    units.append((left, f"{left} s"))
    first = next((index for index, (count, _) in enumerate(units) if count), len(units) - 1)
    return " ".join(text for count, text in units[first : first + 2] if count) or "0 s"
