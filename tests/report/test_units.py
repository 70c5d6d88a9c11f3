from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.analysis.intervals import Estimate
from harness.report import units
from harness.report.columns import ratio_text

MIB = 2**20


@pytest.mark.parametrize(
    ("given", "places", "expected"),
    [(90.14, 1, "+90.1"), (-0.256, 2, "-0.26"), (123456789.0, 0, "+123456789"), (-2.5e12, 1, "-2.50e+12"),
     (3.3e307, 1, "+3.30e+307"), (float("inf"), 1, "+inf")],
)  # fmt: skip
def test_a_number_of_fixed_decimals_has_an_exponent_where_it_is_too_large_to_be_read(
    given: float, places: int, expected: str
) -> None:
    assert units.fixed(given, places, signed=True) == expected
    assert units.fixed(given, places) == expected.lstrip("+")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (0, "0 B"),
        (512, "512 B"),
        (1536, "1.5 KiB"),
        (1.9 * MIB, "1.9 MiB"),
        (3.25 * 2**30, "3.2 GiB"),
        (5e15, "4547.5 TiB"),
    ],
)
def test_sizes_are_in_the_binary_unit_that_fits(given: float, expected: str) -> None:
    assert units.size(given) == expected


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (0, "0"),
        (8, "0.00"),
        (0.03 * MIB, "0.03"),
        (0.4 * MIB, "0.4"),
        (1.94 * MIB, "1.9"),
        (999.9 * MIB, "999.9"),
        (1250 * MIB, "1250"),
    ],
)
def test_mebibytes_keep_one_decimal_where_it_says_something(given: float, expected: str) -> None:
    assert units.mebibytes(given) == expected


@pytest.mark.parametrize(
    ("given", "expected"),
    [(0, "0"), (950, "950"), (999.0, "999"), (69200, "69.2k"), (999_990, "1.0M"), (1_234_567, "1.2M")],
)
def test_counts_are_in_thousands_and_millions(given: float, expected: str) -> None:
    assert units.count(given) == expected


@pytest.mark.parametrize(
    ("given", "expected"),
    [(0, "0"), (5.123, "5.12"), (51.2, "51.2"), (512.4, "512"), (5123.0, "5123"), (51234.0, "51.2k")],
)
def test_rates_have_about_three_digits(given: float, expected: str) -> None:
    assert units.rate(given) == expected


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (0, "0 µs"),
        (3.2e-6, "3.2 µs"),
        (0.0032, "3.2 ms"),
        (0.25, "250 ms"),
        (4.5, "4.5 s"),
        (59.97, "1 min"),
        (125, "2 min 5 s"),
        (3600, "1 h"),
        (12000, "3 h 20 min"),
        (float("nan"), "-"),
    ],
)
def test_durations_are_in_the_units_that_fit(given: float, expected: str) -> None:
    assert units.duration(given) == expected


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (1.0, "x1.00"), (0.123, "x0.12"), (0.0996, "x0.10"), (0.05, "x0.050"), (0.0042, "x0.0042"), (0, "x0"),
        (9.996, "x10.0"), (123.4, "x123"),
    ],
)  # fmt: skip
def test_ratios_have_two_significant_digits_or_more(given: float, expected: str) -> None:
    assert units.ratio(given) == expected


@pytest.mark.parametrize(
    ("value", "low", "high", "expected"),
    [
        (0.25, 0.22, 0.28, "x1.25 ±0.03"),
        (-0.9958, -0.9961, -0.9955, "x0.0042 ±0.0003"),
        (-0.95, -0.96, -0.94, "x0.050 ±0.010"),
        (11.5, 10.0, 13.0, "x12.5 ±1.5"),
        (124.0, 120.0, 129.0, "x125 [121, 130]"),
        (0.0, None, None, "x1.00"),
    ],
)
def test_a_ratio_with_its_interval_has_two_significant_digits_or_more(
    value: float, low: float | None, high: float | None, expected: str
) -> None:
    assert ratio_text(Estimate(value=value, low=low, high=high, n=9)) == expected


@given(st.floats(1e-4, 1e8) | st.floats(-1e8, -1e-4), st.integers(1, 6))
def test_significant_digits_keep_the_value_to_that_precision(value: float, digits: int) -> None:
    assert float(units.significant(value, digits)) == pytest.approx(value, rel=0.51 * 10.0 ** (1 - digits))


@given(st.floats(1, 1e15))
def test_sizes_and_counts_never_reach_the_next_unit(value: float) -> None:
    for text, step in ((units.size(value), 1024), (units.count(value), 1000)):
        number = float(text.split()[0].rstrip("kMGT"))
        assert number < step or text.endswith(("T", "TiB")), text


@given(st.floats(0, 1e9), st.floats(0, 1e9))
def test_a_longer_time_never_reads_as_a_shorter_one(first: float, second: float) -> None:
    scale = {"µs": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0}

    def read(text: str) -> float:
        words = text.split()
        return sum(float(number) * scale[unit] for number, unit in zip(words[::2], words[1::2], strict=True))

    short, long = sorted((first, second))
    assert read(units.duration(short)) <= read(units.duration(long)) * (1 + 1e-9)


def test_a_column_has_the_decimals_that_its_spread_or_its_values_need() -> None:
    assert units.decimals([0.6, 0.5, 1.2], [90.0]) == 2
    assert units.decimals([0.012], [0.3]) == 3
    assert units.decimals([], [0.345]) == 3
    assert units.decimals([], [1234.0]) == 0
    assert units.decimals([0.0], []) == 0


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ((0.05, "nats"), "0.05 nats"),
        ((2, "points"), "2 points"),
        ((1.0, "points"), "1 point"),
        ((0.002, ""), "0.002"),
    ],
)
def test_an_amount_has_its_unit_if_there_is_one(given: tuple[float, str], expected: str) -> None:
    assert units.amount(*given) == expected
