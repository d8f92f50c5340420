"""Writes down what TensorRT's real Python bindings declare: names, enum members and signatures.

The bindings' wheels (tensorrt-cu12-bindings 10.*, tensorrt-cu13-bindings 11.*) need no GPU, and of
TensorRT's libraries a few functions only, which stand-ins without content give. For an unpacked
wheel of the running Python's version:

    python -m tests.fake_tensorrt.record FOLDER_OF_WHEEL
"""

from __future__ import annotations

import ctypes
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

CLASSES = (
    *("Builder", "IBuilderConfig", "IOptimizationProfile", "INetworkDefinition", "ITensor"),
    *("OnnxParser", "ParserError", "IHostMemory", "Runtime", "ICudaEngine", "IExecutionContext"),
    *("ILogger", "IProgressMonitor"),
)
ENUMS = (
    *("NetworkDefinitionCreationFlag", "BuilderFlag", "DataType", "TensorIOMode", "TensorFormat"),
    *("TensorLocation", "ExecutionContextAllocationStrategy"),
)
FUNCTIONS = (
    *("createInferBuilder_INTERNAL", "createInferRuntime_INTERNAL", "getPluginRegistry"),
    *("createInferRefitter_INTERNAL", "createNvOnnxParserRefitter_INTERNAL"),
    *("createNvOnnxParser_INTERNAL", "getBuilderPluginRegistry", "getNvOnnxParserVersion"),
    "initLibNvInferPlugins",
)
SIGNATURE = re.compile(r"^(?:\d+\. )?\w+\((self: .*)\) -> (.+)$", re.M)


def stand_ins(major: str, folder: Path) -> None:
    """Load libraries with the functions that the bindings ask for."""
    source = folder / "empty.c"
    source.write_text("".join(f"void* {name}(void) {{ return 0; }}\n" for name in FUNCTIONS))
    for name in ("nvinfer", "nvinfer_plugin", "nvonnxparser"):
        library = folder / f"lib{name}.so.{major}"
        flags = ["-shared", "-fPIC", f"-Wl,-soname,{library.name}", "-o", str(library)]
        subprocess.run(["gcc", str(source), *flags], check=True)
        ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)


def signatures(member: Any) -> list[str]:
    """Of each overload: its arguments but self, and what it returns."""
    found = SIGNATURE.findall(member.__doc__ or "")
    plain = [(re.sub(r"^self: [^,]*(, )?", "", args), back) for args, back in found]
    return [re.sub(r"tensorrt_bindings\.tensorrt\.", "", f"({a}) -> {b}") for a, b in plain]


def record(bindings: Any) -> dict[str, Any]:
    """All that is asked for, by class; a property's value is null."""
    classes: dict[str, Any] = {}
    for name in CLASSES:
        kind = getattr(bindings, name)
        public = [each for each in sorted(dir(kind)) if not each.startswith("_")]
        members = {each: getattr(kind, each) for each in public}
        classes[name] = {
            each: None if isinstance(it, property) else signatures(it)
            for each, it in members.items()
            if isinstance(it, property) or signatures(it)
        }
        constructor = signatures(kind.__init__)
        if constructor:
            classes[name]["__init__"] = constructor
    enums = {
        name: {member: int(it) for member, it in getattr(bindings, name).__members__.items()}
        for name in ENUMS
    }
    return {"version": bindings.__version__, "classes": classes, "enums": enums}


def main() -> None:
    """One file a major version, beside this one."""
    wheel = Path(sys.argv[1])
    (version,) = wheel.glob("*.dist-info/METADATA")
    major = re.search(r"^Version: (\d+)", version.read_text(), re.M)
    assert major is not None
    with tempfile.TemporaryDirectory() as folder:
        stand_ins(major[1], Path(folder))
        sys.path.insert(0, str(wheel))
        import tensorrt_bindings  # type: ignore[import-not-found]

        told = json.dumps(record(tensorrt_bindings), indent=1, sort_keys=True) + "\n"
    Path(__file__).with_name(f"api_{major[1]}.json").write_text(told)


if __name__ == "__main__":
    main()
