"""Whom budgets count together: one household, one budget."""

import ipaddress


def network_of(address: str) -> str:
    """An IPv4 address itself, the /64 of an IPv6 address; anything else stays as it is."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(ipaddress.ip_network((parsed, 64), strict=False))
    return address
