"""Every wrong state has its cure, on machines that are made up; and this machine is examined."""

from __future__ import annotations

import json
import resource
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from app.commands.cli import main
from app.commands.doctor import devices, examine, host, run_doctor
from app.commands.doctor.probe import Answer, Finding, Probe, Section, run_command
from app.sources import camera as v4l2
from app.sources.camera import Mode
from tests.commands.doctor.made_up import MadeUp


@pytest.fixture
def machine(tmp_path: Path) -> MadeUp:
    return MadeUp(tmp_path)


def found(look: Callable[[Probe], Section], machine: MadeUp) -> list[Finding]:
    return list(look(machine.probe()).findings)


def the_one(look: Callable[[Probe], Section], machine: MadeUp) -> Finding:
    (finding,) = found(look, machine)
    return finding


# --- the GPU -------------------------------------------------------------------------------------

ORIN = {"name": "Orin", "capability": [8, 7], "driver": 12060}


@pytest.fixture
def healthy_gpu(machine: MadeUp) -> MadeUp:
    machine.file("/dev/nvidia0").file("/usr/local/cuda/include/cuda.h")
    machine.packages["pycuda"] = "2026.1"
    machine.commands["nvcc"] = Answer(0, "Cuda compilation tools, release 12.6, V12.6.20")
    return machine.child("gpu", ORIN)


def test_a_healthy_gpu_is_told_and_nothing_is_wrong(healthy_gpu: MadeUp) -> None:
    section = devices.look_gpu(healthy_gpu.probe())
    assert not section.findings
    assert "Orin, compute capability 8.7" in section.lines[0] and "CUDA 12.6" in section.lines[0]


def test_no_gpu_is_no_fault(machine: MadeUp) -> None:
    assert found(devices.look_gpu, machine) == []


def test_a_gpu_without_driver_is_told_with_what_holds_it(machine: MadeUp) -> None:
    machine.file("/sys/bus/pci/devices/0000:01:00.0/vendor", "0x10de\n")
    assert "no driver is loaded" in the_one(devices.look_gpu, machine).what
    machine.file("/proc/modules", "nouveau 2453504 1 - Live 0x0\n")
    finding = the_one(devices.look_gpu, machine)
    assert "nouveau" in finding.what and "ubuntu-drivers" in finding.cure


def test_a_container_without_its_gpu_is_told(machine: MadeUp) -> None:
    text = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.14  Thu Feb 22"
    machine.file("/proc/driver/nvidia/version", text)
    finding = the_one(devices.look_gpu, machine)
    assert "550.54.14" in finding.what and "--gpus all" in finding.cure


def test_a_driver_updated_under_a_running_machine_needs_a_restart(healthy_gpu: MadeUp) -> None:
    said = "Failed to initialize NVML: Driver/library version mismatch"
    healthy_gpu.commands["nvidia-smi"] = Answer(18, said)
    healthy_gpu.child("gpu", {"fault": "the NVIDIA driver does not start"})
    assert the_one(devices.look_gpu, healthy_gpu).cure == "restart the machine"


def test_missing_cuda_h_and_missing_pycuda_are_two_things(machine: MadeUp) -> None:
    machine.file("/dev/nvhost-gpu")
    assert "no cuda.h" in the_one(devices.look_gpu, machine).what
    machine.file("/opt/cuda/include/cuda.h").environ["CUDA_HOME"] = "/opt/cuda"
    assert "PyCUDA is missing" in the_one(devices.look_gpu, machine).what


def test_a_toolkit_newer_than_the_driver_is_a_mismatch(healthy_gpu: MadeUp) -> None:
    healthy_gpu.commands["nvcc"] = Answer(0, "release 13.0, V13.0.48")
    finding = the_one(devices.look_gpu, healthy_gpu)
    assert "CUDA 13.0" in finding.what and "12.6" in finding.what


def test_an_old_gpu_is_told(healthy_gpu: MadeUp) -> None:
    healthy_gpu.child("gpu", {**ORIN, "capability": [5, 3]})
    assert "5.3, below 7.5" in the_one(devices.look_gpu, healthy_gpu).what


def test_nothing_to_compile_kernels_with_is_told(healthy_gpu: MadeUp) -> None:
    del healthy_gpu.commands["nvcc"]
    assert "cuda-bindings[all]" in the_one(devices.look_gpu, healthy_gpu).cure


def test_a_driver_that_kills_who_asks_is_told_and_does_not_kill_the_doctor(
    healthy_gpu: MadeUp,
) -> None:
    healthy_gpu.child("gpu", Answer(-signal.SIGSEGV, ""))
    assert the_one(devices.look_gpu, healthy_gpu).cure == "ended by signal 11"


# --- ONNX Runtime --------------------------------------------------------------------------------


def test_the_cpu_wheel_alone_is_healthy_without_a_gpu(machine: MadeUp) -> None:
    machine.packages["onnxruntime"] = "1.22"
    machine.child("onnxruntime", {"version": "1.22", "providers": ["CPUExecutionProvider"]})
    assert found(host.look_inference, machine) == []


def test_both_wheels_at_once_are_told_with_the_right_requirements(machine: MadeUp) -> None:
    machine.packages.update({"onnxruntime": "1.22", "onnxruntime-gpu": "1.22"})
    machine.child("onnxruntime", {"version": "1.22", "providers": ["CPUExecutionProvider"]})
    finding = the_one(host.look_inference, machine)
    assert "share files" in finding.what and finding.cure.endswith("requirements-cpu.txt")


def test_the_cpu_wheel_beside_a_gpu_is_told(machine: MadeUp) -> None:
    machine.file("/dev/nvidia0").packages["onnxruntime"] = "1.22"
    machine.child("onnxruntime", {"version": "1.22", "providers": ["CPUExecutionProvider"]})
    assert "no CUDA provider" in the_one(host.look_inference, machine).what


def test_no_onnxruntime_prevents_every_run(machine: MadeUp) -> None:
    assert the_one(host.look_inference, machine) == Finding(
        "error", "ONNX Runtime is not installed", "scripts/setup"
    )
    machine.packages["onnxruntime"] = "1.22"
    assert the_one(host.look_inference, machine).level == "error"


# --- OpenCV --------------------------------------------------------------------------------------

SYSTEM_CV2 = "/usr/lib/python3.10/dist-packages/cv2/__init__.py"
JETPACK_CV2 = {"version": "4.8.0", "file": SYSTEM_CV2, "gstreamer": "YES (1.20.3)"}


@pytest.fixture
def healthy_jetson(machine: MadeUp) -> MadeUp:
    machine.file("/etc/nv_tegra_release", "# R36 (release), REVISION: 4.3, GCID: 3, BOARD: generic")
    machine.file("/proc/device-tree/model", "NVIDIA Jetson Orin Nano Developer Kit\0")
    return machine.file(SYSTEM_CV2).child("opencv", JETPACK_CV2)


def test_jetpacks_opencv_is_healthy(healthy_jetson: MadeUp) -> None:
    section = devices.look_opencv(healthy_jetson.probe())
    assert not section.findings and section.lines[0].endswith("GStreamer yes")


def test_pips_opencv_is_healthy_on_a_jetson_too(healthy_jetson: MadeUp) -> None:
    healthy_jetson.packages["opencv-python-headless"] = "4.11"
    venv = {"version": "4.11.0", "file": "/home/u/.venv/cv2/__init__.py", "gstreamer": "NO"}
    assert not found(devices.look_opencv, healthy_jetson.child("opencv", venv))


def test_two_wheels_of_opencv_are_told(machine: MadeUp) -> None:
    machine.packages.update({"opencv-python": "4.11", "opencv-python-headless": "4.11"})
    machine.child("opencv", {"version": "4.11", "file": "cv2", "gstreamer": "NO"})
    assert "2 wheels of OpenCV" in the_one(devices.look_opencv, machine).what


@pytest.mark.parametrize(
    ("said", "cure"),
    [
        ("ImportError: libGL.so.1: cannot open shared object file", "apt install libgl1"),
        ("ImportError: numpy.core.multiarray failed to import", "numpy<2"),
        ("ModuleNotFoundError: No module named 'cv2'", "scripts/setup"),
    ],
)
def test_an_opencv_that_does_not_load_prevents_every_run(
    machine: MadeUp, said: str, cure: str
) -> None:
    finding = the_one(devices.look_opencv, machine.child("opencv", Answer(1, "", said)))
    assert finding.level == "error" and cure in finding.cure


# --- cameras -------------------------------------------------------------------------------------

WEBCAM = v4l2.CameraDevice(
    0, "USB Camera", (Mode("MJPG", (1920, 1080), 30.0), Mode("YUYV", (640, 480), None))
)


@pytest.fixture
def webcam(machine: MadeUp, monkeypatch: pytest.MonkeyPatch) -> MadeUp:
    """One camera; what the kernel says of formats is tested with v4l2.py."""
    machine.file("/dev/video0")
    monkeypatch.setattr(devices, "list_cameras", lambda dev, ioctl: [WEBCAM])
    return machine


def test_a_camera_is_told_with_formats_and_its_lasting_name(webcam: MadeUp) -> None:
    by_id = webcam.root / "dev/v4l/by-id/usb-Cam-index0"
    by_id.parent.mkdir(parents=True)
    by_id.symlink_to("../../video0")
    section = devices.look_cameras(webcam.probe())
    assert list(section.lines[:4]) == [
        "/dev/video0: USB Camera",
        "  --source camera:/dev/v4l/by-id/usb-Cam-index0",
        "  MJPG 1920x1080@30",
        "  YUYV 640x480",
    ]
    assert not section.findings and json.dumps(section.facts)


def test_a_closed_camera_needs_the_video_group_or_better_permissions(
    webcam: MadeUp, monkeypatch: pytest.MonkeyPatch
) -> None:
    webcam.closed.add("/dev/video0")
    monkeypatch.setattr(devices, "group_names", lambda: ("users",))
    assert "usermod -aG video" in the_one(devices.look_cameras, webcam).cure
    monkeypatch.setattr(devices, "group_names", lambda: ("video",))
    assert "chmod g+rw" in the_one(devices.look_cameras, webcam).cure


def test_a_camera_that_does_not_answer_is_told(machine: MadeUp) -> None:
    def busy(fd: int, request: int, data: bytearray) -> int:
        raise OSError(16, "Device or resource busy")

    machine.file("/dev/video0")
    (finding,) = devices.look_cameras(machine.probe(), ioctl=busy).findings
    assert "/dev/video0" in finding.what


# --- GStreamer, window ---------------------------------------------------------------------------


def test_gstreamer_matters_on_a_jetson_only(machine: MadeUp, healthy_jetson: MadeUp) -> None:
    assert "no CSI camera" in the_one(devices.look_gstreamer, healthy_jetson).what
    healthy_jetson.child("gstreamer", {"version": "GStreamer 1.20.3", "elements": ["appsink"]})
    assert "nvv4l2decoder" in the_one(devices.look_gstreamer, healthy_jetson).what
    healthy_jetson.child(
        "gstreamer", {"version": "GStreamer 1.20.3", "elements": ["nvv4l2decoder"]}
    )
    assert found(devices.look_gstreamer, healthy_jetson) == []
    (machine.root / "etc/nv_tegra_release").unlink()
    assert found(devices.look_gstreamer, MadeUp(machine.root)) == []


DESKTOP = {"display": True, "reason": "X11 display :0", "qt": "5.15.2", "fault": ""}


def test_a_desktop_is_healthy_and_no_display_is_told(machine: MadeUp) -> None:
    assert found(devices.look_window, machine.child("window", DESKTOP)) == []
    dark = {**DESKTOP, "display": False, "reason": "there is no display: DISPLAY is not set"}
    finding = the_one(devices.look_window, machine.child("window", dark))
    assert "DISPLAY is not set" in finding.what and finding.level == "warning"


def test_what_qt_lacks_is_told(machine: MadeUp) -> None:
    fault = "cannot open a window: Qt's X11 plugin lacks a system library (libxcb-icccm.so.4)"
    assert (
        the_one(devices.look_window, machine.child("window", {**DESKTOP, "fault": fault})).cure
        == fault
    )
    without = {**DESKTOP, "qt": None, "fault": "No module named 'PyQt5'"}
    finding = the_one(devices.look_window, machine.child("window", without))
    assert "python3-pyqt5" in finding.cure


@pytest.mark.parametrize(
    ("folder", "named"),
    [("/home/u/.venv/lib/cv2/qt/plugins", "OpenCV's Qt plugins"), ("/gone", "is not there")],
)
def test_an_exported_plugin_folder_is_told(machine: MadeUp, folder: str, named: str) -> None:
    machine.environ["QT_QPA_PLATFORM_PLUGIN_PATH"] = folder
    finding = the_one(devices.look_window, machine.child("window", DESKTOP))
    assert named in finding.what and finding.cure.startswith("unset QT_QPA")


def test_an_exported_plugin_folder_that_is_there_is_the_users_business(machine: MadeUp) -> None:
    machine.file("/opt/qt/plugins/platforms").environ[devices.PLUGINS] = "/opt/qt/plugins"
    assert found(devices.look_window, machine.child("window", DESKTOP)) == []


# --- speed ---------------------------------------------------------------------------------------

NVPMODEL = "< POWER_MODEL ID=0 NAME=15W >\n< POWER_MODEL ID=1 NAME=7W >\n"
GPU_CLOCK, CPU_CLOCK = "/sys/class/devfreq/17000000.gpu", host.CPU_CLOCK


def clocks(machine: MadeUp, *, gpu_low: int, cpu_low: int) -> MadeUp:
    machine.file(f"{GPU_CLOCK}/min_freq", str(gpu_low)).file(f"{GPU_CLOCK}/max_freq", "625000000")
    machine.file(f"{CPU_CLOCK}/scaling_min_freq", str(cpu_low))
    return machine.file(f"{CPU_CLOCK}/scaling_max_freq", "1510400")


def test_a_jetson_at_its_best_is_healthy(healthy_jetson: MadeUp) -> None:
    healthy_jetson.file("/etc/nvpmodel.conf", NVPMODEL)
    healthy_jetson.commands["nvpmodel"] = Answer(0, "NV Power Mode: 15W\n0\n")
    section = host.look_jetson(clocks(healthy_jetson, gpu_low=625000000, cpu_low=1510400).probe())
    assert not section.findings
    assert section.lines[0] == "NVIDIA Jetson Orin Nano Developer Kit, L4T 36.4.3, power mode 15W"


def test_a_power_mode_below_the_best_is_told(healthy_jetson: MadeUp) -> None:
    healthy_jetson.file("/etc/nvpmodel.conf", NVPMODEL)
    healthy_jetson.file("/var/lib/nvpmodel/status", "pmode:0001 fmode:fanNull")  # no nvpmodel
    finding = the_one(host.look_jetson, healthy_jetson)
    assert (finding.what, finding.cure) == ("the power mode is 7W, not 15W", "sudo nvpmodel -m 0")


@pytest.mark.parametrize(
    ("modes", "best"),
    [
        ({0: "15W", 1: "7W"}, 0),
        ({0: "15W", 1: "25W", 2: "MAXN_SUPER", 3: "7W"}, 2),
        ({0: "MAXN", 1: "MODE_15W", 2: "MODE_50W"}, 0),
        ({}, None),
    ],
)
def test_the_fastest_mode_is_found_by_name(modes: dict[int, str], best: int | None) -> None:
    assert host.fastest_mode(modes) == best


def test_clocks_that_move_are_told_on_a_jetson_only(healthy_jetson: MadeUp, tmp_path: Path) -> None:
    clocks(healthy_jetson, gpu_low=306000000, cpu_low=1510400)
    finding = the_one(host.look_jetson, healthy_jetson)
    assert "clocks of GPU move" in finding.what and "jetson_clocks" in finding.cure
    desktop = clocks(MadeUp(tmp_path / "desktop"), gpu_low=1, cpu_low=1)
    assert found(host.look_jetson, desktop) == []


@pytest.mark.parametrize(("driver", "wrong"), [("cpufreq-dt", 1), ("intel_pstate", 0)])
def test_powersave_is_slow_but_for_intels_own(machine: MadeUp, driver: str, wrong: int) -> None:
    machine.file(f"{CPU_CLOCK}/scaling_governor", "powersave")
    machine.file(f"{CPU_CLOCK}/scaling_driver", driver)
    assert len(found(host.look_jetson, machine)) == wrong


def test_heat_is_told(machine: MadeUp) -> None:
    machine.file("/sys/class/thermal/thermal_zone0/temp", "41000")
    machine.file("/sys/class/thermal/thermal_zone1/temp", "-256000")  # switched off
    assert found(host.look_jetson, machine) == []
    machine.file("/sys/class/thermal/thermal_zone2/temp", "91500")
    assert "92 °C" in the_one(host.look_jetson, machine).what


# --- system, power, disk, models -----------------------------------------------------------------


def test_little_memory_and_few_descriptors_are_told(
    machine: MadeUp, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.file("/proc/meminfo", "MemTotal:  4000000 kB\nMemAvailable:  204800 kB\n")
    assert "200 MB" in the_one(host.look_system, machine).what
    machine.file("/proc/meminfo", "MemTotal:  4000000 kB\nMemAvailable:  3000000 kB\n")
    monkeypatch.setattr(resource, "getrlimit", lambda _: (256, 256))
    assert "ulimit -n 1024" in the_one(host.look_system, machine).cure


def test_power_that_is_measured_is_told(machine: MadeUp) -> None:
    assert found(host.look_power, machine) == []
    folder = "/sys/class/hwmon/hwmon0"
    machine.file(f"{folder}/name", "ina3221").file(f"{folder}/in1_label", "VDD_IN")
    machine.file(f"{folder}/in1_input", "5000").file(f"{folder}/curr1_input", "1000")
    assert host.look_power(machine.probe()).lines == ["measured: whole board (VDD_IN)"]


def test_counters_that_are_closed_name_their_cure(
    machine: MadeUp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        host, "find_sensors", lambda root: ((), "closed to this user: sudo chmod x")
    )
    assert the_one(host.look_power, machine) == Finding(
        "warning", "closed to this user", "sudo chmod x"
    )


def test_a_full_disk_and_a_cache_that_cannot_be_written_are_told(
    machine: MadeUp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    for place, wrong in ((tmp_path / "a" / "b", []), (tmp_path / "file" / "b", ["KESTREL_CACHE"])):
        monkeypatch.setenv("KESTREL_CACHE", str(place))
        section = host.look_storage(machine.probe())
        full = [each for each in section.findings if "cannot be written" in each.what]
        assert len(full) == len(wrong) and all("KESTREL_CACHE" in each.cure for each in full)
        assert section.facts["cache"]["writable"] is not bool(wrong)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=12 * 2**20))
    told = found(host.look_storage, machine)
    assert sum("only 12 MB" in each.what for each in told) == 3


def test_models_are_told_with_the_state_of_their_weights(
    machine: MadeUp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KESTREL_MODEL_MIRROR", raising=False)
    here = tmp_path / "here.onnx"
    here.write_bytes(b"weights")

    def model(name: str, **given: object) -> SimpleNamespace:
        spec = {"name": name, "default": False, "url": None, "file": "a.onnx", **given}
        spec = {"sha256": None, "git_blob": None, **spec}
        weights = spec.pop("weights", here)
        return SimpleNamespace(spec=SimpleNamespace(**spec), weights=weights, manifest=None)

    def told(*models: SimpleNamespace) -> list[Finding]:
        monkeypatch.setattr(host, "list_models", lambda: models)
        return found(host.look_models, machine)

    gone = tmp_path / "gone.onnx"
    fine = model("one", default=True)
    assert told(fine, model("two", weights=gone, url="https://there")) == []
    assert [each.level for each in told(model("one"))] == ["error"]  # no default
    for wrong in ({"weights": gone}, {"sha256": "0" * 64}):
        (default,) = told(model("one", default=True, **wrong))
        (other,) = told(fine, model("two", **wrong))
        assert default.level == "error" and other.level == "warning" and "two" in other.what


# --- the whole -----------------------------------------------------------------------------------


def subject(*findings: Finding) -> Callable[[Probe], Section]:
    return lambda probe: Section("subject", ["is there"], {"value": 1}, list(findings))


@pytest.mark.parametrize(
    ("findings", "code"),
    [
        ((), 0),
        ((Finding("warning", "slow", "hurry"),), 0),
        ((Finding("warning", "a", "b"), Finding("error", "none", "make one")), 2),
    ],
)
def test_only_what_prevents_every_run_gives_exit_code_2(
    findings: tuple[Finding, ...], code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    subjects = (subject(*findings),)
    assert run_doctor(as_json=True, subjects=subjects) == code
    told = json.loads(capsys.readouterr().out)
    assert told["can_run"] is (code == 0) and told["facts"] == {"subject": {"value": 1}}
    assert run_doctor(as_json=False, subjects=subjects) == code
    lines = capsys.readouterr().out
    for finding in findings:
        assert finding.what in lines and f"cure: {finding.cure}" in lines
    assert ("Nothing is wrong." in lines) == (not findings)
    if code:
        assert lines.index("WRONG: none") < lines.index("warning: a")  # the worst first


def test_a_subject_that_fails_does_not_stop_the_others(machine: MadeUp) -> None:
    def broken(probe: Probe) -> Section:
        raise ValueError("what a machine")

    first, second = examine(machine.probe(), (broken, subject()))
    assert "what a machine" in first.findings[0].what and second.name == "subject"


def test_a_command_that_hangs_or_is_not_there_is_an_answer() -> None:
    assert run_command(["kestrel-no-such-command"]).code == 127
    assert run_command(["sh", "-c", "echo so; exit 3"]) == Answer(3, "so\n")


def test_this_machine_is_examined(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["can_run"] is True
    assert told["facts"]["OpenCV"]["version"] and told["facts"]["ONNX Runtime"]["providers"]
    assert told["facts"]["models"]["kestrel"]["state"] == "ready"
    assert not any("please report this" in finding["cure"] for finding in told["findings"])
