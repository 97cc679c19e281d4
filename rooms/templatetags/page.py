"""Template tags of the pages: attributes that are slots, and the import map."""

import json
from typing import Any

from django import template
from django.conf import settings
from django.templatetags.static import static
from django.utils.html import conditional_escape, format_html
from django.utils.safestring import SafeString, mark_safe

from rooms.slots import plural, tenths

register = template.Library()


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
def import_map(context: template.Context) -> SafeString:
    """The page's only inline script, allowed by its nonce."""
    request = context.get("request")
    modules = {"imports": {"page/": static("js/page/")}}
    return format_html(
        '<script type="importmap" nonce="{}">{}</script>',
        getattr(request, "csp_nonce", ""),
        mark_safe(json.dumps(modules)),  # noqa: S308  (our own static URL, no user's text)
    )


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
