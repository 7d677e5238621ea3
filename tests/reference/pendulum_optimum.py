"""Backward dynamic programming on Pendulum-v1, one node, one torque and one neighbour at a time, in plain Python.

Both signs of the velocity, nothing mirrored, nothing kept from one timestep to the next. Slow: for tiny grids.
"""

from __future__ import annotations

import math


def tables_slowly(angles, torques, steps):
    """`steps` + 1 dictionaries from (velocity number, angle number) to the best sum of rewards."""
    spacing = 0.15 * 4 / (torques - 1)
    highest = int(8 / spacing) + 3
    nodes = [(j, i) for j in range(-highest, highest + 1) for i in range(angles)]
    tables = [dict.fromkeys(nodes, 0.0)]
    for _ in range(steps):
        last = tables[-1]
        tables.append({(j, i): _best(last, j, i, angles, torques, spacing) for j, i in nodes})
    return tables


def _best(table, j, i, angles, torques, spacing):
    angle, velocity = 2 * math.pi * i / angles, spacing * j
    wrapped = angle - 2 * math.pi if angle > math.pi else angle
    found = -math.inf
    for number in range(torques):
        torque = -2 + 4 * number / (torques - 1)
        cost = wrapped**2 + 0.1 * velocity**2 + 0.001 * torque**2
        faster = max(-8.0, min(8.0, velocity + (15 * math.sin(angle) + 3 * torque) * 0.05))
        found = max(found, -cost + _after(table, angle, faster, angles, spacing))
    return found


def _after(table, angle, velocity, angles, spacing):
    """Value of standing at `angle` with a new velocity, before the angle follows it."""
    row = math.floor(velocity / spacing)
    corners = []
    for j in (row - 1, row, row + 1, row + 2):
        position = (angle + 0.05 * j * spacing) * angles / (2 * math.pi)
        column = math.floor(position)
        values = [table[j, (column + tap) % angles] for tap in (-1, 0, 1, 2)]
        corners.append(_between(values, position - column))
    return _between(corners, velocity / spacing - row)


def _between(values, fraction):
    """Straight line through the middle two of four, bent by the smaller second difference if both bend one way."""
    a, b, c, d = values
    left, right = a - 2 * b + c, b - 2 * c + d
    bend = 0.0
    if left > 0 and right > 0:
        bend = min(left, right)
    if left < 0 and right < 0:
        bend = max(left, right)
    return (1 - fraction) * b + fraction * c - fraction * (1 - fraction) / 2 * bend
