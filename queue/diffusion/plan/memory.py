"""Which inner tensors of a stage may lie in the same buffer: lifetimes, then reuse."""

from collections.abc import Mapping, Sequence

from diffusion.plan.schema import Dispatch

Span = tuple[int, int]  # first and last dispatch that binds the tensor


def lifetimes(dispatches: Sequence[Dispatch]) -> dict[str, Span]:
    """Of every bound tensor or weight, counted over all dispatches of a stage in order."""
    spans: dict[str, Span] = {}
    for number, dispatch in enumerate(dispatches):
        for binding in dispatch.bindings:
            if binding is not None:
                first, _ = spans.get(binding.tensor, (number, number))
                spans[binding.tensor] = (first, number)
    return spans


def assign(spans: Mapping[str, Span], sizes: Mapping[str, int]) -> dict[str, int]:
    """A buffer number for each tensor of `sizes`; tensors alive together never share one.

    The largest tensor first takes the first buffer that is free over its whole life: within a few
    per cent of the best where, as here, many tensors have one of a few sizes.
    """
    buffers: list[list[Span]] = []
    numbers: dict[str, int] = {}
    for name in sorted(sizes, key=lambda name: (-sizes[name], spans[name][0], name)):
        free = (number for number, taken in enumerate(buffers) if _apart(spans[name], taken))
        number = next(free, len(buffers))
        if number == len(buffers):
            buffers.append([])
        buffers[number].append(spans[name])
        numbers[name] = number
    return numbers


def _apart(span: Span, others: Sequence[Span]) -> bool:
    """Whether `span` has no dispatch in common with any of the others."""
    return all(span[1] < first or last < span[0] for first, last in others)
