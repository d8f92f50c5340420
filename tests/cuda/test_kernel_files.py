"""Compilers and the cubin cache: what is compiled when, and what is said where nothing can be."""

import shutil
import subprocess
import sys

import pytest

from app.core.errors import DeviceError
from app.cuda import kernels as kernel_files
from app.cuda.context import GpuContext
from app.cuda.kernels import (
    KERNEL_DIR,
    VARIANTS,
    Nvcc,
    Nvrtc,
    cubin_for,
    find_compiler,
    include_dirs,
    kernel_source,
    load_module,
)
from scripts.kernel_table import LIMITS, digest, read_cubin, read_table

SPILLED_MOST = 8  # bytes: CUDA 13.0 makes conv_32x64_0 for sm_120 so, in float32
FEWEST_WARPS = 8  # of a kernel on a multiprocessor
SOURCE = 'extern "C" __global__ void nothing() {}'


class Counting:
    """A compiler that notes what it was asked for."""

    version, release = "1.0", (12, 8)

    def __init__(self):
        self.asked = []

    def compile(self, name, source, defines, arch):
        self.asked.append((name, tuple(defines), arch))
        return f"{name} {defines} {arch}".encode()


@pytest.fixture
def cubins(tmp_path, monkeypatch):
    monkeypatch.setenv("KESTREL_CUBIN_CACHE", str(tmp_path / "cubins"))
    return tmp_path / "cubins"


@pytest.fixture
def compiler(monkeypatch):
    counting = Counting()
    monkeypatch.setattr(kernel_files, "find_compiler", lambda: counting)
    return counting


@pytest.fixture(scope="module")
def nvrtc():
    try:
        return Nvrtc()
    except (ImportError, RuntimeError) as fault:
        pytest.skip(f"no NVRTC: pip install nvidia-cuda-nvrtc-cu12 ({fault})")


def test_a_kernel_is_compiled_once_for_each_source_option_and_device(cubins, compiler):
    first = cubin_for("k", SOURCE, (), (8, 7))
    assert cubin_for("k", SOURCE, (), (8, 7)) == first
    assert len(compiler.asked) == 1
    for source, defines, capability in (
        (SOURCE + "//", (), (8, 7)),
        (SOURCE, ("HALF",), (8, 7)),
        (SOURCE, (), (7, 5)),
    ):
        cubin_for("k", source, defines, capability)
    compiler.version = "2.0"
    cubin_for("k", SOURCE, (), (8, 7))
    assert len(compiler.asked) == 5
    assert len(list(cubins.glob("k-sm_*.cubin"))) == 5 == len(list(cubins.iterdir()))


def test_a_change_of_what_a_kernel_includes_is_a_change_of_the_kernel(tmp_path, monkeypatch):
    shutil.copytree(KERNEL_DIR, tmp_path / "kernels")
    monkeypatch.setattr(kernel_files, "KERNEL_DIR", tmp_path / "kernels")
    before = digest("conv"), kernel_files.kernels_digest()
    with (tmp_path / "kernels" / "conv_input.cuh").open("a") as out:
        out.write("struct More {};\n")
    assert "struct More {};" in kernel_source("conv")
    assert digest("conv") != before[0] and kernel_files.kernels_digest() != before[1]


def test_a_device_without_a_compiler_starts_from_a_filled_cache(cubins, compiler, monkeypatch):
    made = cubin_for("k", SOURCE, (), (8, 7))
    monkeypatch.setattr(kernel_files, "find_compiler", lambda: None)
    assert cubin_for("k", SOURCE, (), (8, 7)) == made
    with pytest.raises(DeviceError, match=r"sm_75, and there is no compiler: pip install 'cuda-b"):
        cubin_for("k", SOURCE, (), (7, 5))


def test_a_cache_that_cannot_be_written_costs_only_time(cubins, compiler, caplog):
    cubins.write_text("a file where the folder should be")
    assert cubin_for("k", SOURCE, (), (8, 7))
    assert "cannot be kept" in caplog.text


def test_nvcc_comes_first_then_nvrtc_then_nothing(nvrtc, monkeypatch, tmp_path):
    fake = tmp_path / "nvcc"
    fake.write_text("#!/bin/sh\necho 'Cuda compilation tools, release 12.4, V12.4.131'\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    found = find_compiler()
    assert isinstance(found, Nvcc) and (found.version, found.release) == ("12.4.131", (12, 4))
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("CUDA_HOME", str(tmp_path / "home"))
    (tmp_path / "home/bin").mkdir(parents=True)
    shutil.copy(fake, tmp_path / "home/bin/nvcc")
    assert isinstance(find_compiler(), Nvcc)
    monkeypatch.setenv("CUDA_HOME", str(tmp_path / "none"))
    assert find_compiler().version == nvrtc.version == "nvrtc-{}.{}".format(*nvrtc.release)
    monkeypatch.setitem(sys.modules, "cuda.bindings", None)
    assert find_compiler() is None


def assert_none_spills(cubin, name, defines, arch, compiler):
    made = read_cubin(cubin, name, defines, arch)
    assert made and [k.kernel for k in made if k.local] == []
    version, digests, table = read_table()
    if version == compiler.version and digests[name] == digest(name):
        assert set(made) <= set(table)


@pytest.mark.parametrize("arch", ["sm_75", "sm_90"])
@pytest.mark.parametrize("name", sorted(VARIANTS))
def test_nvrtc_compiles_every_kernel(nvrtc, name, arch):
    """In the variant that leaves out least of it; all of them for 8.7 below."""
    source, defines = kernel_source(name), VARIANTS[name][-1]
    require_tensor_cores(name, defines)
    assert_none_spills(nvrtc.compile(name, source, defines, arch), name, defines, arch, nvrtc)


def require_tensor_cores(name, defines):
    there = any((d / "crt/mma.h").is_file() for d in include_dirs())
    wanted = name == "conv_int8" or (name == "conv" and "HALF_IN" in defines)
    if wanted and not there:
        pytest.skip("no crt/mma.h: pip install nvidia-cuda-nvcc-cu12")


def test_the_table_is_of_these_kernels():
    _, digests, table = read_table()
    again = "python scripts/compile_kernels.py FOLDER --table, with CUDA 13, makes the table anew"
    assert digests == {name: digest(name) for name in VARIANTS}, again
    found = {(k.file, k.variant, k.arch) for k in table}
    assert found == {(n, "+".join(d), a) for n, v in VARIANTS.items() for d in v for a in LIMITS}


def test_no_kernel_spills_and_tensor_cores_are_fed_by_wide_loads():
    _, _, table = read_table()
    assert [k for k in table if k.local > SPILLED_MOST] == []
    assert [k for k in table if k.local and "HALF_IN" in k.variant] == []
    dense = [k for k in table if k.file == "conv" and "HALF_IN" in k.variant and k.step]
    assert {k.arch for k in dense} == set(LIMITS)
    assert [k for k in dense if not (k.mma and k.loads16)] == []
    # enough warps that one has work while others wait
    assert [k for k in table if k.occupancy * LIMITS[k.arch].warps < 100 * FEWEST_WARPS] == []


def test_a_cache_filled_elsewhere_is_all_that_a_device_needs(nvrtc, tmp_path, monkeypatch):
    require_tensor_cores("conv", VARIANTS["conv"][-1])
    words = [sys.executable, "scripts/compile_kernels.py", str(tmp_path / "cubins"), "8.7"]
    env = {"PATH": "", "CUDA_HOME": str(tmp_path), "PYTHONPATH": str(tmp_path)}  # no nvcc
    subprocess.run(words, cwd=KERNEL_DIR.parent, env=env, check=True, capture_output=True)
    monkeypatch.setenv("KESTREL_CUBIN_CACHE", str(tmp_path / "cubins"))
    monkeypatch.setattr(kernel_files, "find_compiler", lambda: None)
    for name, variants in VARIANTS.items():
        for defines in variants:
            cubin = cubin_for(name, kernel_source(name), defines, (8, 7))
            assert_none_spills(cubin, name, defines, "sm_87", nvrtc)


def test_what_nvrtc_refuses_is_told_in_one_line(nvrtc):
    with pytest.raises(DeviceError, match=r'^kernel k does not compile for sm_75: .*"oops" is und'):
        nvrtc.compile("k", "__global__ void k() { oops; }", (), "sm_75")


def test_an_option_reaches_nvrtc(nvrtc):
    source = '#ifndef HALF\n#error "no HALF"\n#endif'
    assert nvrtc.compile("k", source, ("HALF=1",), "sm_75")
    with pytest.raises(DeviceError, match="no HALF"):
        nvrtc.compile("k", source, (), "sm_75")


@pytest.mark.parametrize(
    ("release", "cure"),
    [
        ((13, 0), r"for CUDA 12\.8 and older than the compiler, 13\.0: install a newer driver"),
        ((12, 8), r"remove the compiled kernels in .*cubins and start again"),
    ],
)
def test_a_cubin_that_the_driver_refuses_names_the_cure(device, monkeypatch, release, cure):
    device.plant("cuModuleLoadDataEx", 222)  # unsupported PTX version
    found = find_compiler()
    found.release = release
    monkeypatch.setattr(kernel_files, "find_compiler", lambda: found)
    with GpuContext() as context, pytest.raises(DeviceError, match=cure):
        load_module(context, "preprocess")
