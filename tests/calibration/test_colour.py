"""Colour science against published numbers and an independent implementation."""

from __future__ import annotations

import warnings
from types import ModuleType

import numpy as np
import pytest

from calibration.colour import (
    D50,
    D65,
    RGB_TO_XYZ_D50,
    RGB_TO_XYZ_D65,
    adaptation,
    delta_e_2000,
    lab_to_linear,
    lab_to_xyz,
    linear_to_lab,
    linear_to_srgb,
    srgb_to_lab,
    srgb_to_linear,
    xyz_to_lab,
)

# Sharma, Wu, Dalal, "The CIEDE2000 color-difference formula: implementation notes, supplementary test data, and
# mathematical observations", Color Res. Appl. 30(1), 2005, table 1.
SHARMA = """
50.0000 2.6772 -79.7751 50.0000 0.0000 -82.7485 2.0425
50.0000 3.1571 -77.2803 50.0000 0.0000 -82.7485 2.8615
50.0000 2.8361 -74.0200 50.0000 0.0000 -82.7485 3.4412
50.0000 -1.3802 -84.2814 50.0000 0.0000 -82.7485 1.0000
50.0000 -1.1848 -84.8006 50.0000 0.0000 -82.7485 1.0000
50.0000 -0.9009 -85.5211 50.0000 0.0000 -82.7485 1.0000
50.0000 0.0000 0.0000 50.0000 -1.0000 2.0000 2.3669
50.0000 -1.0000 2.0000 50.0000 0.0000 0.0000 2.3669
50.0000 2.4900 -0.0010 50.0000 -2.4900 0.0009 7.1792
50.0000 2.4900 -0.0010 50.0000 -2.4900 0.0010 7.1792
50.0000 2.4900 -0.0010 50.0000 -2.4900 0.0011 7.2195
50.0000 2.4900 -0.0010 50.0000 -2.4900 0.0012 7.2195
50.0000 -0.0010 2.4900 50.0000 0.0009 -2.4900 4.8045
50.0000 -0.0010 2.4900 50.0000 0.0010 -2.4900 4.8045
50.0000 -0.0010 2.4900 50.0000 0.0011 -2.4900 4.7461
50.0000 2.5000 0.0000 50.0000 0.0000 -2.5000 4.3065
50.0000 2.5000 0.0000 73.0000 25.0000 -18.0000 27.1492
50.0000 2.5000 0.0000 61.0000 -5.0000 29.0000 22.8977
50.0000 2.5000 0.0000 56.0000 -27.0000 -3.0000 31.9030
50.0000 2.5000 0.0000 58.0000 24.0000 15.0000 19.4535
50.0000 2.5000 0.0000 50.0000 3.1736 0.5854 1.0000
50.0000 2.5000 0.0000 50.0000 3.2972 0.0000 1.0000
50.0000 2.5000 0.0000 50.0000 1.8634 0.5757 1.0000
50.0000 2.5000 0.0000 50.0000 3.2592 0.3350 1.0000
60.2574 -34.0099 36.2677 60.4626 -34.1751 39.4387 1.2644
63.0109 -31.0961 -5.8663 62.8187 -29.7946 -4.0864 1.2630
61.2901 3.7196 -5.3901 61.4292 2.2480 -4.9620 1.8731
35.0831 -44.1164 3.7933 35.0232 -40.0716 1.5901 1.8645
22.7233 20.0904 -46.6940 23.0331 14.9730 -42.5619 2.0373
36.4612 47.8580 18.3852 36.2715 50.5065 21.2231 1.4146
90.8027 -2.0831 1.4410 91.1528 -1.6435 0.0447 1.4441
90.9257 -0.5406 -0.9208 88.6381 -0.8985 -0.7239 1.5381
6.7747 -0.2908 -2.4247 5.8714 -0.0985 -2.2286 0.6377
2.0776 0.0795 -1.1350 0.9033 -0.0636 -0.5514 0.9082
"""
PAIRS = np.array([line.split() for line in SHARMA.split("\n") if line], dtype=np.float64)


@pytest.fixture(scope="module")
def colour() -> ModuleType:
    """colour-science, which warns at import of plotting parts that are not installed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("colour")


def random_lab(count: int, seed: int = 7) -> np.ndarray:
    return np.random.default_rng(seed).uniform([0, -110, -110], [100, 110, 110], (count, 3))


def test_the_34_pairs_of_sharma():
    assert PAIRS.shape == (34, 7)
    difference = delta_e_2000(PAIRS[:, :3], PAIRS[:, 3:6])
    np.testing.assert_allclose(difference, PAIRS[:, 6], rtol=0, atol=1e-4)
    np.testing.assert_array_equal(difference, delta_e_2000(PAIRS[:, 3:6], PAIRS[:, :3]))  # symmetric


def test_difference_equals_colour_sciences(colour):
    first = random_lab(20_000)
    second = first + np.random.default_rng(3).normal(0, 25, first.shape)
    second[:100] = first[:100]
    first[100:200, 1:] = 0.0  # greys have no hue
    np.testing.assert_allclose(
        delta_e_2000(first, second), colour.delta_E(first, second, method="CIE 2000"), rtol=0, atol=1e-10
    )


def test_lab_and_xyz_equal_colour_sciences(colour):
    xyz = np.random.default_rng(4).uniform(-0.05, 1.1, (1000, 3))
    white = colour.CCS_ILLUMINANTS["CIE 1931 2 Degree Standard Observer"]["D50"]
    positive = np.abs(xyz)
    np.testing.assert_allclose(xyz_to_lab(positive), colour.XYZ_to_Lab(positive, white), rtol=0, atol=1e-9)
    np.testing.assert_allclose(lab_to_xyz(xyz_to_lab(xyz)), xyz, rtol=0, atol=1e-12)


def test_srgb_curve_equals_colour_sciences(colour):
    levels = np.arange(256) / 255.0
    np.testing.assert_allclose(srgb_to_linear(levels), colour.cctf_decoding(levels, "sRGB"), atol=1e-6)
    np.testing.assert_allclose(linear_to_srgb(srgb_to_linear(levels)), levels, atol=1e-7)


def test_adaptation_equals_colour_sciences(colour):
    matrix = colour.adaptation.matrix_chromatic_adaptation_VonKries(D65, D50, transform="Bradford")
    np.testing.assert_allclose(adaptation(D65, D50), matrix, rtol=0, atol=1e-9)


def test_srgb_matrix_is_the_standards():
    # IEC 61966-2-1, to its four digits.
    standard = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    np.testing.assert_allclose(RGB_TO_XYZ_D65, standard, atol=1e-4)


def test_white_is_white_everywhere():
    np.testing.assert_allclose(RGB_TO_XYZ_D50 @ np.ones(3), D50, atol=1e-12)
    np.testing.assert_allclose(srgb_to_lab(np.full((1, 3), 255, np.uint8)), [[100.0, 0.0, 0.0]], atol=1e-9)
    np.testing.assert_allclose(srgb_to_lab(np.zeros(3)), 0.0, atol=1e-9)


def test_what_srgb_cannot_show_is_kept():
    cyan = lab_to_linear([50.0, -60.0, -30.0])
    assert cyan.min() < 0.0
    np.testing.assert_allclose(linear_to_lab(cyan), [50.0, -60.0, -30.0], atol=1e-9)
    np.testing.assert_allclose(srgb_to_linear(linear_to_srgb(cyan)), cyan, atol=1e-9)


def test_bytes_and_fractions_mean_the_same():
    rgb = np.array([[200, 120, 30], [0, 255, 7]], np.uint8)
    np.testing.assert_allclose(srgb_to_lab(rgb), srgb_to_lab(rgb / 255.0), atol=1e-12)
