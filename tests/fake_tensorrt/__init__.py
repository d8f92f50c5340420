"""A ``tensorrt`` without a GPU: the real bindings' declarations (api_10.json, api_11.json, made by
record.py), and a builder and runtime that compute with ONNX Runtime.

What the real bindings of that version do not declare cannot be called, set or read; arguments and
results must have the declared types. A plan is the ONNX file behind a header. It runs on the
simulated CUDA device: on the stream that it is put on, also as part of a graph, and on the
addresses that it was given.
"""

from __future__ import annotations

import ctypes
import importlib.machinery
import json
import re
import threading
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnxruntime

HERE = Path(__file__).parent
MAGIC = b"ftrt"
SCRATCH_BYTES = 4096
ARGUMENT = re.compile(r"(\w+): ([\w.:\[\]]+)( = )?")
TYPES = {"float": "FLOAT", "float16": "HALF", "int32": "INT32", "int64": "INT64", "bool": "BOOL"}
HostFunction = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


def opened(content: bytes) -> Any:
    """A session of an ONNX file."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


class Enumerated:
    """A member of a pybind11 enum: no number until it is made one, and ordered by it."""

    def __init__(self, name: str, value: int) -> None:
        self.name, self.value = name, value

    def __int__(self) -> int:
        return self.value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Enumerated) and (self.name, self.value) == (
            other.name,
            other.value,
        )

    def __le__(self, other: Enumerated) -> bool:
        return self.value <= other.value

    def __hash__(self) -> int:
        return hash((self.name, self.value))


class Bound:
    """An object of the bindings. ``_api`` and ``_trt`` are set for each version."""

    _api: dict[str, Any]
    _trt: ModuleType

    def __getattribute__(self, name: str) -> Any:
        kind = object.__getattribute__(self, "__class__")
        if name.startswith("_") or "_api" not in vars(kind):  # a class of the application's own
            return object.__getattribute__(self, name)
        if name not in kind._api:
            raise AttributeError(f"{kind.__name__} of this TensorRT has no {name}")
        value, overloads = object.__getattribute__(self, name), kind._api[name]
        return value if overloads is None else checked(kind, name, value, overloads)

    def __setattr__(self, name: str, value: Any) -> None:
        kind = type(self)
        if (
            "_api" in vars(kind)
            and not name.startswith("_")
            and kind._api.get(name, ()) is not None
        ):
            raise AttributeError(f"{kind.__name__} of this TensorRT has no {name} that can be set")
        object.__setattr__(self, name, value)


def fits(value: Any, kind: str, trt: ModuleType) -> bool:
    """Whether pybind11 takes the value for a declared type."""
    match kind.rpartition(".")[2].replace("::IParser", "::Parser").rpartition(":")[2]:
        case "str":
            return isinstance(value, str)
        case "bool":
            return isinstance(value, bool)
        case "int":
            return isinstance(value, int)
        case "SupportsInt":
            return hasattr(value, "__int__") and not isinstance(value, float)
        case "Buffer":
            return isinstance(value, (bytes, bytearray, memoryview))
        case "tuple" | "list" as name:
            return type(value).__name__ == name
        case "Dims":
            return isinstance(value, (tuple, list))
        case "None":
            return value is None
        case name:
            declared = getattr(trt, name, None)
            if isinstance(declared, EnumKind):
                return value in vars(declared).values()
            return isinstance(declared, type) and isinstance(value, declared)


def checked(kind: type[Bound], name: str, method: Any, overloads: list[str]) -> Any:
    """The method, for arguments that one of the overloads declares."""

    def call(*args: Any, **named: Any) -> Any:
        for overload in overloads:
            told, _, back = overload.rpartition(" -> ")
            declared = ARGUMENT.findall(re.sub("<.*?>", "", told))  # without the defaults' values
            given = dict(zip([each[0] for each in declared], args, strict=False)) | named
            known = {each[0] for each in declared}
            least = {each[0] for each in declared if not each[2]}
            if len(args) > len(declared) or not least <= set(given) <= known:
                continue
            if all(fits(given[a], t, kind._trt) for a, t, _ in declared if a in given):
                result = method(*args, **named)
                pointer = back.startswith("I") and result is None
                assert pointer or back.startswith("list") or fits(result, back, kind._trt), (
                    f"the fake's {name} gives {result!r}, the real one {back}"
                )
                return result
        raise TypeError(f"{name}(): incompatible function arguments {args} {named}: {overloads}")

    return call


class EnumKind:
    """A class of enum members."""

    def __init__(self, members: dict[str, int]) -> None:
        vars(self).update({name: Enumerated(name, value) for name, value in members.items()})


class ILogger(Bound):
    """To be subclassed; its ``__init__`` must be called."""

    def __init__(self) -> None:
        object.__setattr__(self, "_initialised", True)


for _severity in enumerate(("INTERNAL_ERROR", "ERROR", "WARNING", "INFO", "VERBOSE")):
    setattr(ILogger, _severity[1], Enumerated(_severity[1], _severity[0]))


class IProgressMonitor(ILogger):
    """To be subclassed; called on the builder's threads."""


class IHostMemory(bytearray):
    """A plan; a buffer."""

    @property
    def nbytes(self) -> int:
        return len(self)


class ParserError(Bound):
    """A fault of the parser."""

    def __init__(self, text: str) -> None:
        self._text = text

    def desc(self) -> str:
        return self._text


class ITensor(Bound):
    """Of a network."""

    def __init__(self, name: str, shape: tuple[int, ...]) -> None:
        self._told = name, shape

    @property
    def name(self) -> str:
        return self._told[0]

    @property
    def shape(self) -> tuple[int, ...]:
        return self._told[1]


class INetworkDefinition(Bound):
    """What a parser fills."""

    def __init__(self, *, strongly_typed: bool) -> None:
        self._strongly_typed = strongly_typed
        self._content = b""
        self._inputs: list[ITensor] = []

    def get_input(self, index: int) -> ITensor:
        return self._inputs[index]


class OnnxParser(Bound):
    """Takes what ONNX Runtime can open; 8 bits without offsets only, as the real one."""

    def __init__(self, network: INetworkDefinition, logger: ILogger) -> None:
        assert vars(logger)["_initialised"]
        self._network, self._errors = network, list[str]()

    def parse_from_file(self, model: str) -> bool:
        import onnx

        try:
            content = Path(model).read_bytes()
            session = opened(content)
        except Exception as fault:
            self._errors.append(str(fault))
            return False
        graph = onnx.load_from_string(content).graph
        numbers = {t.name: onnx.numpy_helper.to_array(t) for t in graph.initializer}
        for node in graph.node:
            constant = numbers.get(node.input[0]) if node.op_type == "DequantizeLinear" else None
            if constant is not None and constant.dtype != np.int8:
                said = "only activation types allowed as input to this layer"
                self._errors.append(f"{node.name}: {said}")
                return False
            if node.op_type == "QuantizeLinear" and len(node.input) > 2:
                offset = numbers.get(node.input[2])
                if offset is not None and (offset.any() or offset.dtype != np.int8):
                    self._errors.append("only a zero point of 0 and INT8 are supported")
                    return False
        self._network._content = content
        self._network._inputs = [
            self._trt.ITensor(i.name, tuple(n if isinstance(n, int) else -1 for n in i.shape))
            for i in session.get_inputs()
        ]
        return True

    @property
    def num_errors(self) -> int:
        return len(self._errors)

    def get_error(self, index: int) -> ParserError:
        return self._trt.ParserError(self._errors[index])


class IOptimizationProfile(Bound):
    """Of inputs whose size is open."""

    def __init__(self) -> None:
        self._shapes: dict[str, tuple[int, ...]] = {}

    def set_shape(
        self, input: str, min: tuple[int, ...], opt: tuple[int, ...], max: tuple[int, ...]
    ) -> None:
        assert min == opt == max, "the fake has one size only"
        self._shapes[input] = tuple(opt)


class IBuilderConfig(Bound):
    """What is asked of a build."""

    def __init__(self) -> None:
        self._monitor: Any = None
        self._profile: IOptimizationProfile | None = None
        self._flags = {"TF32"}

    @property
    def progress_monitor(self) -> Any:
        return self._monitor

    @progress_monitor.setter
    def progress_monitor(self, monitor: IProgressMonitor) -> None:
        assert vars(monitor)["_initialised"]
        self._monitor = monitor

    def clear_flag(self, flag: Enumerated) -> None:
        self._flags.discard(flag.name)

    def set_flag(self, flag: Enumerated) -> None:
        self._flags.add(flag.name)

    def add_optimization_profile(self, profile: IOptimizationProfile) -> int:
        self._profile = profile
        return 0


class Builder(Bound):
    """Builds in steps, on a thread of its own, and asks its monitor after each."""

    def __init__(self, logger: ILogger) -> None:
        assert vars(logger)["_initialised"]
        self._logger = logger

    def create_network(self, flags: Any = 0) -> INetworkDefinition:
        strongly = self._trt.major >= 11 or bool(int(flags) & 1 << 1)
        return self._trt.INetworkDefinition(strongly_typed=strongly)

    def create_builder_config(self) -> IBuilderConfig:
        return self._trt.IBuilderConfig()

    def create_optimization_profile(self) -> IOptimizationProfile:
        return self._trt.IOptimizationProfile()

    def build_serialized_network(
        self, network: INetworkDefinition, config: IBuilderConfig
    ) -> IHostMemory | None:
        self._trt.builds += 1
        if self._trt.build_fault:
            self._logger.log(ILogger.ERROR, self._trt.build_fault)
            self._logger.log(ILogger.ERROR, "Error Code 2: Internal Error (Assertion failed.)")
            return None
        done: list[bool] = []
        thread = threading.Thread(target=lambda: done.append(self._steps(config._monitor)))
        thread.start()
        thread.join()
        if not done or not done[0]:
            return None
        session = opened(network._content)
        profile = {} if config._profile is None else config._profile._shapes
        (told,) = session.get_inputs()
        shape = profile.get(told.name, tuple(told.shape))
        if not all(isinstance(n, int) for n in shape):
            self._logger.log(ILogger.ERROR, "Network has dynamic inputs, but no profile")
            return None
        tensor = np.zeros(shape, onnx_type(told.type))
        arrays = session.run(None, {told.name: tensor})
        outputs = zip(session.get_outputs(), arrays, strict=True)
        tensors = [(told.name, str(tensor.dtype), list(shape), "INPUT")]
        # the real one does not keep to the file's order either
        tensors += [(o.name, str(a.dtype), list(a.shape), "OUTPUT") for o, a in outputs][::-1]
        header = {
            "version": self._trt.__version__,
            "capability": self._trt.capability,
            "strongly_typed": network._strongly_typed,
            "flags": sorted(config._flags),
            "tensors": tensors,
        }
        return self._trt.IHostMemory(packed(header, network._content))

    def _steps(self, monitor: Any) -> bool:
        if monitor is None:
            return True
        root, parts = "Building Engine", ("Tactic Selection", "Serialization")
        monitor.phase_start(root, None, len(parts))
        on = True
        for i, part in enumerate(parts):
            monitor.phase_start(part, root, self._trt.steps)
            for step in range(self._trt.steps):
                time.sleep(self._trt.step_s)
                on = monitor.step_complete(part, step)
                assert isinstance(on, bool)
                if not on:
                    break
            monitor.phase_finish(part)
            on = on and monitor.step_complete(root, i)
            if not on:
                break
        monitor.phase_finish(root)
        return on


def packed(header: dict[str, Any], content: bytes) -> bytes:
    """A plan."""
    told = json.dumps(header).encode()
    return MAGIC + len(told).to_bytes(4, "little") + told + content


def unpacked(plan: bytes) -> tuple[dict[str, Any], bytes]:
    """Header and ONNX file of a plan."""
    size = int.from_bytes(plan[4:8], "little")
    return json.loads(plan[8 : 8 + size]), plan[8 + size :]


def onnx_type(told: str) -> Any:
    """NumPy's for "tensor(float)"."""
    name = told.removeprefix("tensor(").removesuffix(")")
    return np.dtype({"float": "float32"}.get(name, name))


class Runtime(Bound):
    """Refuses plans of another version or device in the real one's words."""

    def __init__(self, logger: ILogger) -> None:
        assert vars(logger)["_initialised"]
        self._logger = logger

    def deserialize_cuda_engine(self, serialized_engine: bytes) -> ICudaEngine | None:
        plan = bytes(serialized_engine)
        trt = self._trt
        if plan[:4] != MAGIC:
            return self._refuse(
                "IRuntime::deserializeCudaEngine: Error Code 1: Serialization (Serialization "
                "assertion plan->header.magicTag == rt::kPLAN_MAGIC_TAG failed.)"
            )
        header, content = unpacked(plan)
        said = (
            "IRuntime::deserializeCudaEngine: Error Code 6: API Usage Error (The engine plan file"
        )
        if header["version"] != trt.__version__:
            return self._refuse(
                f"{said} file is not compatible with this version of TensorRT, expecting library "
                f"version {trt.__version__} got {header['version']}, please rebuild.)"
            )
        if header["capability"] != trt.capability:
            return self._refuse(
                f"{said} file is generated on an incompatible device, expecting compute "
                f"{trt.capability} got compute {header['capability']}, please rebuild.)"
            )
        return trt.ICudaEngine(header, content, self._logger)

    def _refuse(self, why: str) -> None:
        self._logger.log(ILogger.ERROR, why)


class ICudaEngine(Bound):
    """A loaded plan."""

    def __init__(self, header: dict[str, Any], content: bytes, logger: ILogger) -> None:
        self._logger, self._header = logger, header
        self._tensors = {name: rest for name, *rest in header["tensors"]}
        self._session = opened(content)

    @property
    def num_io_tensors(self) -> int:
        return len(self._tensors)

    @property
    def device_memory_size_v2(self) -> int:
        return SCRATCH_BYTES

    def get_tensor_name(self, index: int) -> str:
        return list(self._tensors)[index]

    def get_tensor_mode(self, name: str) -> Enumerated:
        return getattr(self._trt.TensorIOMode, self._tensors[name][2])

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return tuple(self._tensors[name][1])

    def get_tensor_dtype(self, name: str) -> Enumerated:
        kind = self._tensors[name][0]
        return getattr(self._trt.DataType, TYPES.get(kind.replace("float32", "float"), kind))

    def get_tensor_format(self, name: str) -> Enumerated:
        return self._trt.TensorFormat.LINEAR

    def create_execution_context(self, strategy: Enumerated) -> IExecutionContext:
        assert strategy.name == "USER_MANAGED", "the fake has no memory of its own"
        return self._trt.IExecutionContext(self)


class IExecutionContext(Bound):
    """One run at a time, on a stream, on the memory it was given."""

    def __init__(self, engine: ICudaEngine) -> None:
        self._engine = engine
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._addresses: dict[str, int] = {}
        self._scratch = 0
        self._warm = False
        self._running = threading.Lock()
        self._function = HostFunction(self._run)

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        if tuple(shape) != self._engine.get_tensor_shape(name):
            self._engine._logger.log(ILogger.ERROR, f"the profile does not have {shape}")
            return False
        self._shapes[name] = tuple(shape)
        self._warm = False
        return True

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self._engine.get_tensor_shape(name)

    def set_device_memory(self, memory: Any, size: Any) -> None:
        assert int(size) >= SCRATCH_BYTES
        self._scratch = int(memory)

    def set_tensor_address(self, name: str, memory: Any) -> bool:
        assert name in self._engine._tensors
        self._addresses[name] = int(memory)
        return True

    def execute_async_v3(self, stream_handle: Any) -> bool:
        stream, driver = ctypes.c_void_p(int(stream_handle)), ctypes.CDLL("libcuda.so.1")
        capturing = ctypes.c_int()
        said = None
        if not stream.value:
            said = "the default stream"
        elif set(self._addresses) != set(self._engine._tensors) or not self._scratch:
            said = "memory has not been set"
        elif driver.cuStreamIsCapturing(stream, ctypes.byref(capturing)):
            said = "no such stream"
        elif not all(map(self._has_room, self._addresses)):
            said = "an address is not that of device memory with room enough"
        elif capturing.value and not self._warm:
            said = "operation not permitted when stream is capturing"
        if said is None and driver.cuLaunchHostFunc(stream, self._function, None):
            said = "the launch failed"
        if said is not None:
            text = f"IExecutionContext::enqueueV3: Error Code 3: API Usage Error ({said})"
            self._engine._logger.log(ILogger.ERROR, text)
            return False
        self._warm = True
        self._trt.calls.append(bool(capturing.value))
        return True

    def _run(self, _: Any) -> None:
        """On the stream's thread."""
        try:
            assert self._running.acquire(blocking=False), "two runs of a context at once"
            try:
                ctypes.memset(self._scratch, 0xAB, SCRATCH_BYTES)
                views = {name: self._view(name) for name in self._engine._tensors}
                session = self._engine._session
                told = session.get_inputs()[0].name
                arrays = session.run(None, {told: views[told]})
                for output, array in zip(session.get_outputs(), arrays, strict=True):
                    views[output.name][...] = array
            finally:
                self._running.release()
        except BaseException as fault:
            self._trt.faults.append(fault)

    def _nbytes(self, name: str) -> int:
        kind, shape, _ = self._engine._tensors[name]
        return int(np.prod(shape)) * np.dtype(kind).itemsize

    def _has_room(self, name: str) -> bool:
        base, size = ctypes.c_size_t(), ctypes.c_size_t()
        address, places = self._addresses[name], (ctypes.byref(base), ctypes.byref(size))
        if ctypes.CDLL("libcuda.so.1").cuMemGetAddressRange_v2(*places, ctypes.c_size_t(address)):
            return False
        return address + self._nbytes(name) <= base.value + size.value

    def _view(self, name: str) -> Any:
        kind, shape, _ = self._engine._tensors[name]
        raw = (ctypes.c_char * self._nbytes(name)).from_address(self._addresses[name])
        return np.frombuffer(raw, np.dtype(kind)).reshape(shape)


KINDS = (
    *(ILogger, IProgressMonitor, ParserError, ITensor, INetworkDefinition, OnnxParser, Builder),
    *(IOptimizationProfile, IBuilderConfig, Runtime, ICudaEngine, IExecutionContext),
)


def nptype(trt_type: Enumerated) -> Any:
    """As the bindings' own function."""
    names = {value: key for key, value in TYPES.items()} | {"FLOAT": "float32"}
    return np.dtype(names[trt_type.name]).type


def make(major: int, *, capability: str = "9.0") -> Any:
    """The module ``tensorrt`` of a major version, to be put into ``sys.modules``.

    ``steps`` and ``step_s``: of a build; ``builds``: how many there were; ``faults``: of runs;
    ``calls``: of execute_async_v3, and whether the stream was capturing.
    """
    told = json.loads((HERE / f"api_{major}.json").read_text())
    trt: Any = ModuleType("tensorrt")
    trt.__spec__ = importlib.machinery.ModuleSpec("tensorrt", None)
    trt.__version__, trt.major, trt.capability = told["version"], major, capability
    trt.steps, trt.step_s, trt.builds, trt.build_fault, trt.faults = 4, 0.0, 0, "", []
    trt.calls = []
    trt.nptype, trt.IHostMemory = nptype, IHostMemory
    for name, members in told["enums"].items():
        setattr(trt, name, EnumKind(members))
    for kind in KINDS:
        own = {"_api": told["classes"][kind.__name__], "_trt": trt}
        setattr(trt, kind.__name__, type(kind.__name__, (kind,), own))
    return trt
