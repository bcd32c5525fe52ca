"""Quantities: what Kubernetes reads, and what it does not."""

from decimal import Decimal

import pytest

from launch.kubernetes.quantity import value_of


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("4", "4"),
        (4, "4"),
        ("0.5", "0.5"),
        (".5", "0.5"),
        ("500m", "0.5"),
        ("4Gi", "4294967296"),
        ("1.5Ki", "1536"),
        ("4G", "4e9"),
        ("2k", "2000"),
        ("2e3", "2000"),
        ("1E", "1e18"),
        ("-1", "-1"),
    ],
)
def test_read(text, value):
    assert value_of(text) == Decimal(value)


@pytest.mark.parametrize(
    "text", ["", "Gi", "4GB", "4gb", "4g", "4K", "4 Gi", "4GiB", "1.2.3", "4e", "x", True, None, 4.5]
)
def test_not_read(text):
    assert value_of(text) is None
