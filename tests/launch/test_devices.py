"""GPUs of a machine, by names: no GPU is needed to divide them."""

import pytest

from launch.command import LaunchError
from launch.devices import divided_gpus


@pytest.mark.parametrize(
    ("count", "each", "given", "found"),
    [
        (2, None, "0,1", (None, None)),
        (2, 1, "3,5", ("3", "5")),
        (2, 0, "3,5", ("", "")),
        (3, 1, "a,b,c,d", ("a", "b", "c")),
    ],
)
def test_gpus_are_divided_unless_they_are_set(count, each, given, found):
    assert divided_gpus(count, each, {"CUDA_VISIBLE_DEVICES": given}) == found


def test_too_few_gpus_are_told():
    with pytest.raises(LaunchError, match=r"--devices_per_process=2: .* 4 GPUs.* 3"):
        divided_gpus(2, 2, {"CUDA_VISIBLE_DEVICES": "0,1,2"})
