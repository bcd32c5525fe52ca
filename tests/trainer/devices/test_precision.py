import re

import pytest

from tfrecords.errors import InputError
from trainer.devices.precision import Precision, choose_precision, cpu_flags, gpu_capabilities

NONE = frozenset()


@pytest.mark.parametrize(
    ("name", "capabilities", "flags", "expected"),
    [
        ("float32", [(9, 0)], {"amx_bf16"}, Precision("float32", "as asked for")),
        ("bfloat16", [], NONE, Precision("mixed_bfloat16", "as asked for")),
        ("float16", [], NONE, Precision("mixed_float16", "as asked for")),
        ("auto", [], NONE, Precision("float32", "the CPU has no bfloat16 instructions")),
        ("auto", [], {"avx2", "avx512f"}, Precision("float32", "the CPU has no bfloat16 instructions")),
        ("auto", [], {"avx512_bf16"}, Precision("mixed_bfloat16", "the CPU has avx512_bf16")),
        ("auto", [], {"avx2", "avx_ne_convert"}, Precision("mixed_bfloat16", "the CPU has avx_ne_convert")),
        (
            "auto",
            [],
            {"avx512_bf16", "amx_bf16", "sse"},
            Precision("mixed_bfloat16", "the CPU has amx_bf16, avx512_bf16"),
        ),
        ("auto", [], {"asimd", "bf16"}, Precision("mixed_bfloat16", "the CPU has bf16")),  # Arm
        ("auto", [(8, 0)], NONE, Precision("mixed_bfloat16", "GPU of compute capability 8.0 has bfloat16")),
        ("auto", [(12, 0)], NONE, Precision("mixed_bfloat16", "GPU of compute capability 12.0 has bfloat16")),
        (
            "auto",
            [(7, 5)],
            {"amx_bf16"},  # the GPU computes, not the CPU
            Precision(
                "mixed_float16",
                "GPU of compute capability 7.5 has float16, not bfloat16; the loss is scaled",
            ),
        ),
        (
            "auto",
            [(9, 0), (7, 0)],  # the weakest decides
            NONE,
            Precision(
                "mixed_float16",
                "GPU of compute capability 7.0 has float16, not bfloat16; the loss is scaled",
            ),
        ),
        (
            "auto",
            [(6, 1)],
            {"amx_bf16"},
            Precision("float32", "GPU of compute capability 6.1 has no fast 16-bit arithmetic"),
        ),
        (
            "auto",
            [(0, 0)],  # unknown
            NONE,
            Precision("float32", "GPU of compute capability 0.0 has no fast 16-bit arithmetic"),
        ),
    ],
)
def test_the_hardware_decides_and_the_reason_is_said(name, capabilities, flags, expected):
    assert choose_precision(name, capabilities, frozenset(flags)) == expected


def test_an_unknown_name_is_refused(facts):
    with pytest.raises(InputError) as error:
        choose_precision("int8", [], NONE)
    assert re.search(
        facts("--precision=int8: must be auto or one of float32, bfloat16, float16"), str(error.value)
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "processor\t: 0\nmodel name\t: Zen flags: 0\nflags\t\t: fpu avx2 avx512_bf16\nvmx flags\t: x\n"
            "processor\t: 1\nflags\t\t: fpu avx2 avx512_bf16\n",
            {"fpu", "avx2", "avx512_bf16"},
        ),
        ("processor\t: 0\nFeatures\t: fp asimd bf16\nCPU part\t: 0xd4f\n", {"fp", "asimd", "bf16"}),
        ("processor\t: 0\nhart\t: 2\n", set()),
        ("", set()),
    ],
)
def test_cpuinfo_of_x86_and_arm(tmp_path, text, expected):
    path = tmp_path / "cpuinfo"
    path.write_text(text)
    assert cpu_flags(path) == expected


def test_a_system_without_cpuinfo_has_no_known_flags(tmp_path):
    assert cpu_flags(tmp_path / "missing") == frozenset()


def test_without_a_gpu_there_are_no_capabilities():
    import tensorflow as tf

    if tf.config.get_visible_devices("GPU"):
        pytest.skip("this machine has a GPU")
    assert gpu_capabilities() == []
