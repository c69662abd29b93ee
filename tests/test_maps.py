"""Resizing and smoothing by matrices equals the libraries' own."""

import pytest
import torch
import torch.nn.functional as F
from scipy.ndimage import gaussian_filter

from fap_lib.maps import pixel_maps, smooth


@pytest.mark.parametrize(("grid", "size"), [(5, 70), (12, 96), (37, 518), (7, 7)])
def test_resize_equals_interpolate(grid, size):
    values = torch.rand(3, 2, grid * grid, generator=torch.manual_seed(0))
    expected = F.interpolate(values.unflatten(-1, (grid, grid)), (size, size), mode="bilinear")
    # float32 interpolate places its samples to about 1e-6 of the grid; the matrix is made in float64
    assert torch.allclose(pixel_maps(values, size), expected, atol=1e-5)


@pytest.mark.parametrize(("size", "sigma"), [(70, 10.0), (96, 2.5), (40, 30.0), (518, 10.0)])
def test_smoothing_equals_scipy_image_by_image(size, sigma):
    maps = torch.rand(2, size, size, generator=torch.manual_seed(1))
    for found, given in zip(smooth(maps, sigma), maps, strict=True):
        expected = torch.from_numpy(gaussian_filter(given.numpy(), sigma))
        assert float((found - expected).norm() / expected.norm()) < 1e-5


def test_resizing_and_smoothing_in_one_equals_one_after_the_other():
    values = torch.rand(2, 25, generator=torch.manual_seed(2))
    assert torch.allclose(pixel_maps(values, 70, 4.0), smooth(pixel_maps(values, 70), 4.0), atol=1e-6)


def test_sigma_zero_does_not_smooth():
    maps = torch.rand(1, 20, 20)
    assert torch.equal(smooth(maps, 0.0), maps)
