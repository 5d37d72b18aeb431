"""Ways to run the same model: what each one is, whether it can run here, and how far its answer may be from eager's."""

from __future__ import annotations

import copy
import importlib.util
import logging
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from functools import cached_property
from io import StringIO
from pathlib import Path

import torch
from torch import nn

from labs_lib import hardware, toolchain
from labs_lib.errors import LabError
from labs_lib.inference_bench.models import Benchable

ONNX_PACKAGES = ("onnx", "onnxruntime", "onnxscript")
MOST_SHAPES = 64  # batch sizes that torch.compile builds code for, before it falls back to eager without a word


@dataclass(frozen=True)
class Variant:
    """One way. `tolerance`: of the largest value of eager's answer, how far this one's values may be from it."""

    says: str
    tolerance: float
    needs_module: bool = True


# float32 sums in another order differ by some 1e-6. bfloat16 has 8 bits and int8 7 bits of a value, of which the
# errors of many layers add up: 1e-2 is usual for both.
VARIANTS = {
    "eager": Variant("as it is written, with gradients recorded", 0.0, needs_module=False),
    "inference_mode": Variant("nothing recorded for gradients", 1e-4, needs_module=False),
    "channels_last": Variant("inference_mode, images and weights with the channels innermost", 1e-4),
    "bf16": Variant("inference_mode, weights and activations in bfloat16", 5e-2),
    "compile": Variant("inference_mode, torch.compile, built for this batch size", 1e-4),
    "onnx": Variant("exported to ONNX Runtime", 1e-4),
    "int8": Variant("ONNX Runtime, weights in int8, activations quantised as they come", 1e-1),
}


def variants_named(names: Sequence[str] | None) -> tuple[str, ...]:
    """The variants of these names, eager among them and first: it is what the others are compared with.

    >>> variants_named(["bf16", "inference_mode"])
    ('eager', 'bf16', 'inference_mode')

    Raises LabError for a name that is none of VARIANTS. None stands for all.
    """
    if isinstance(names, str):
        names = [names]
    for name in names or ():
        if name not in VARIANTS:
            raise LabError(f"There is no variant {name!r}.", f"The variants are {', '.join(VARIANTS)}.", "Give these.")
    return tuple(dict.fromkeys(["eager", *(VARIANTS if names is None else names)]))


class Workbench:
    """One model on one device, and what its variants are made of, each made once.

    ONNX files go to a temporary folder, removed with `close`.
    """

    def __init__(self, model: Benchable, device: str, threads: int) -> None:
        self.model, self.device, self.threads = model.to(device), device, threads
        self._folder = tempfile.TemporaryDirectory(prefix="labs-bench-", ignore_cleanup_errors=True)

    def close(self) -> None:
        self._folder.cleanup()

    def missing(self, variant: str) -> str:
        """Why the variant is not run here, in a few words; empty where it is."""
        if VARIANTS[variant].needs_module and not isinstance(getattr(self.model, "module", None), nn.Module):
            return "the model shows no torch module in an attribute `module`"
        if variant == "channels_last" and len(self.model.info().input_shape) != 3:
            return "its input is no image with channels"
        if variant == "compile" and self.device == "cpu" and hardware.compiler() is None:
            return "there is no C++ compiler here"
        if variant in ("onnx", "int8"):
            absent = [package for package in ONNX_PACKAGES if importlib.util.find_spec(package) is None]
            if absent:
                return f"not installed: {', '.join(absent)}"
            if self.device != "cpu":
                return "run on the CPU only here"
        return ""

    def runner(self, variant: str, batch_size: int) -> Callable[[], torch.Tensor]:
        """What computes the answer for `batch_size` samples, in float32, with the input already made."""
        batch = self.model.prepare_input(batch_size)
        forward = getattr(self, f"_{variant}")
        if variant == "eager":
            return lambda: forward(batch)
        if variant == "channels_last":
            batch = batch.contiguous(memory_format=torch.channels_last)
        elif variant == "bf16" and batch.is_floating_point():
            batch = batch.bfloat16()

        def run() -> torch.Tensor:
            with torch.inference_mode():
                return forward(batch)

        return run

    @property
    def _eager(self) -> Callable[[object], torch.Tensor]:
        return self.model.forward

    _inference_mode = _eager

    @cached_property
    def _channels_last(self) -> Callable[[torch.Tensor], torch.Tensor]:
        return copy.deepcopy(self.model.module).to(memory_format=torch.channels_last)

    @cached_property
    def _bf16(self) -> Callable[[torch.Tensor], torch.Tensor]:
        module = copy.deepcopy(self.model.module).bfloat16()
        return lambda batch: module(batch).float()

    @cached_property
    def _compile(self) -> Callable[[torch.Tensor], torch.Tensor]:
        torch._dynamo.reset()  # code of other models would be looked through at each call
        compiled = torch.compile(self.model.module, dynamic=False)

        def forward(batch: torch.Tensor) -> torch.Tensor:
            if batch.shape in built:
                return compiled(batch)
            with (
                toolchain.quiet(),
                toolchain.one_compile_thread(),
                torch._dynamo.config.patch(recompile_limit=MOST_SHAPES, fail_on_recompile_limit_hit=True),
            ):
                answer = compiled(batch)
            built.add(batch.shape)
            return answer

        built: set[torch.Size] = set()
        return forward

    @cached_property
    def _onnx(self) -> Callable[[torch.Tensor], torch.Tensor]:
        return self._session(self._onnx_file)

    @cached_property
    def _int8(self) -> Callable[[torch.Tensor], torch.Tensor]:
        with _silent():
            import onnx
            from onnxruntime.quantization import QuantType, quantize_dynamic

            model, file = onnx.load(self._onnx_file), self._onnx_file.with_name("int8.onnx")
            # The quantiser infers the shapes anew; those noted here are wrong for the weights that it transposes.
            del model.graph.value_info[:]
            quantize_dynamic(model, file, weight_type=QuantType.QInt8)
        return self._session(file)

    @cached_property
    def _onnx_file(self) -> Path:
        """The model, for batches of any size."""
        file = Path(self._folder.name) / "model.onnx"
        example = self.model.prepare_input(2)  # one sample would be exported as a batch of one for ever
        with _silent(), torch.no_grad():
            program = torch.onnx.export(
                self.model.module,
                (example,),
                input_names=["batch"],
                dynamic_shapes=({0: torch.export.Dim("size")},),
                dynamo=True,
                verbose=False,
            )
            program.save(file)
        return file

    def _session(self, file: Path) -> Callable[[torch.Tensor], torch.Tensor]:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = self.threads, 1
        options.log_severity_level = 3  # errors only
        # Its threads would go on spinning while the other variants are timed.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
        return lambda batch: torch.from_numpy(session.run(None, {"batch": batch.numpy()})[0])


@contextmanager
def _silent() -> Iterator[None]:
    """The exporter and the quantiser print and warn about themselves."""
    level = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with redirect_stdout(StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
