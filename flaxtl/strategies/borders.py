"""Where in a network training begins: from what a person writes to the index of a segment."""

from __future__ import annotations

import contextlib

from flaxtl.errors import ConfigError, did_you_mean, listed
from flaxtl.nets.network import Network


def segment_named(network: Network, name: str) -> int:
    """Returns the index of a segment.

    Args:
        network: whose segment it is.
        name: its name, or a share of the depth between 0 and 1; 1 is the head, "" the beginning.

    Raises:
        ConfigError: there is no such segment.

    Example:
        >>> from flaxtl import card, nets
        >>> net = nets.build(card.NetworkSpec('resnet', {'depths': (1, 1), 'widths': (8, 8)}), outputs=3)
        >>> net.segments
        ('stem', 'blocks_0', 'blocks_1', 'pool', 'head')
        >>> segment_named(net, 'blocks_1'), segment_named(net, '0.5'), segment_named(net, '')
        (2, 2, 0)
    """
    segments = network.segments
    if not name:
        return 0
    if name in segments:
        return segments.index(name)
    with contextlib.suppress(ValueError):
        share = float(name)
        if 0.0 <= share <= 1.0:
            return round(share * network.border)
    raise ConfigError(
        f"The network has no part {name!r}.{did_you_mean(name, segments)} Its parts are {listed(segments, 40)}; "
        "a share of the depth from 0 to 1 is understood too."
    )
