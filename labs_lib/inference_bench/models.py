"""Real models behind one small interface, for measuring: how an input is made, one forward pass, and what it is.

Weights are drawn from a seed by NumPy and nothing is downloaded: a forward pass costs the same whatever the weights
are, as long as no value is denormal, NaN or infinite. Under LABS_PRESET=ci the models are smaller, and say so.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import nn

from labs_lib import arguments
from labs_lib.errors import LabError
from labs_lib.machine import preset
from labs_lib.units import size_text

SEED = 42  # of weights and of inputs
TRANSFORMER_STD = 0.02  # of GPT-2's and BERT's initial weights: `initializer_range` in their configurations
VOCABULARY = 5000  # under LABS_PRESET=ci
DEVICES = ("cpu", "cuda", "mps")


@dataclass(frozen=True)
class Info:
    """What a model is. `note` tells what differs from the model of that name, and is empty where nothing does."""

    name: str
    note: str
    parameters: int
    weight_bytes: int  # of parameters and buffers
    input_shape: tuple[int, ...]  # of one sample
    dtype: str  # of the input, such as "float32" or "int64"

    def as_dict(self) -> dict[str, object]:
        return {**asdict(self), "input_shape": list(self.input_shape)}

    def __str__(self) -> str:
        shape = "x".join(map(str, self.input_shape))
        title = f"{self.name}, {self.note}" if self.note else self.name
        return (
            f"{title}: {self.parameters:,} parameters, {size_text(self.weight_bytes)} of weights; "
            f"a sample is {shape} {self.dtype}"
        )


@runtime_checkable
class Benchable(Protocol):
    """What can be measured: the interface of every model here, and of what a learner's own factory may return.

    An attribute `module`, the torch.nn.Module behind `forward`, lets the variants that change or export the module
    run too (channels_last, bf16, compile, ONNX).
    """

    def prepare_input(self, batch_size: int) -> object:
        """The same input for the same batch size, on the model's device."""

    def forward(self, batch: object) -> torch.Tensor:
        """The answer, its first dimension the batch."""

    def info(self) -> Info:
        """Name, sizes and input of the model."""

    def to(self, device: str) -> Benchable:
        """Moves the model, and returns it."""


class Model:
    """A module that takes one tensor, in evaluation mode, with the shape of its input. A `Benchable`.

    `shape` is of one sample. Integer inputs are drawn below `high`, other inputs from the normal distribution.

    >>> model = Model("tiny", nn.Linear(3, 2), (3,))
    >>> model.forward(model.prepare_input(4)).shape
    torch.Size([4, 2])
    >>> print(model.info())
    tiny: 8 parameters, 0.0 KiB of weights; a sample is 3 float32
    """

    def __init__(
        self,
        name: str,
        module: nn.Module,
        shape: tuple[int, ...],
        dtype: torch.dtype = torch.float32,
        high: int = 1,
        note: str = "",
    ) -> None:
        self.name, self.note, self.shape, self.dtype, self.high = name, note, tuple(shape), dtype, high
        self.module = module.eval()
        self.device = "cpu"

    def prepare_input(self, batch_size: int) -> torch.Tensor:
        """Shape (batch_size, *shape), from NumPy's generator with the seed 42."""
        if type(batch_size) is not int or batch_size < 1:
            raise LabError(f"{batch_size!r} is no batch size.", "It is a whole number above 0.", "Give for instance 8.")
        generator, shape = np.random.default_rng(SEED), (batch_size, *self.shape)
        if self.dtype.is_floating_point or self.dtype.is_complex:
            values = torch.from_numpy(generator.standard_normal(shape, np.float32))
        else:
            values = torch.from_numpy(generator.integers(0, self.high, shape))
        return values.to(self.dtype).to(self.device)

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        return self.module(batch)

    def info(self) -> Info:
        held = [*self.module.parameters(), *self.module.buffers()]
        return Info(
            self.name,
            self.note,
            sum(parameter.numel() for parameter in self.module.parameters()),
            sum(tensor.numel() * tensor.element_size() for tensor in held),
            self.shape,
            str(self.dtype).removeprefix("torch."),
        )

    def to(self, device: str) -> Model:
        """Moves the weights; inputs are made there from then on. Raises LabError where there is no such device."""
        demand_device(device)
        self.module.to(device)
        self.device = device
        return self


def demand_device(device: str) -> None:
    """Raises LabError unless torch can compute on "cpu", "cuda" or "mps" here."""
    if device not in DEVICES:
        raise LabError(f"There is no device {device!r}.", "", f"Give one of {', '.join(DEVICES)}.")
    there = {"cpu": lambda: True, "cuda": torch.cuda.is_available, "mps": torch.backends.mps.is_available}
    if not there[device]():
        raise LabError(f"The device {device} is not available here.", "torch finds none.", "Take --device cpu.")


def load(name: str, input: str | None = None) -> Benchable:
    """The model of that name, on the CPU, in evaluation mode, with weights from the seed 42.

    `name` is one of MODELS; or "gpt2:FOLDER" or "distilbert:FOLDER" for a checkpoint in a local folder; or
    "package.module:factory" for a model of your own. The factory returns a torch.nn.Module, with `input` as the shape
    of one sample, such as "3x224x224" or "128:int64"; or a `Benchable`.

    >>> load("resnet50").info().parameters
    25557032

    Raises LabError for an unknown name, a checkpoint that cannot be read, and a factory or input that does not fit.
    """
    if not isinstance(name, str):
        raise LabError(f"{name!r} is no name of a model.", "", f"Give one of {', '.join(MODELS)}.")
    known, _, rest = name.partition(":")
    if known in MODELS:
        if input is not None:
            raise LabError(f"{name} makes its own input.", "--input is for models of your own.", "Leave it out.")
        if ":" not in name:
            return MODELS[name]()
        if known not in TEXT_MODELS:
            raise LabError(f"{known} reads no checkpoint.", "", "Write a factory that loads it.")
        return MODELS[known](name=name, checkpoint=Path(rest).expanduser())
    if ":" in name:
        return _own(name, input)
    near = difflib.get_close_matches(name, MODELS, n=1, cutoff=0.5)
    raise LabError(
        f"There is no model {name!r}.",
        f"The models are {', '.join(MODELS)}, and your own as package.module:factory.",
        f"Did you mean {near[0]}?" if near else "Give one of these.",
    )


def _own(name: str, input: str | None) -> Benchable:
    source = arguments.named(name, "the model")
    if input is not None:
        module = arguments.model_from(name, source)
        shape, dtype = arguments.shape(input)
        return Model(name, module, tuple(shape), dtype)
    if not callable(source) or isinstance(source, nn.Module):
        raise LabError(f"{name} is no factory.", "", "Name a function without arguments, or give --input.")
    try:
        made = source()
    except Exception as error:  # the learner's own code
        raise LabError(
            f"{name}() failed with {type(error).__name__}: {error}.", "", "Name a function without arguments."
        ) from error
    if isinstance(made, Benchable):
        return made
    if isinstance(made, nn.Module):
        raise LabError(f"{name}() returns a module.", "Its input is not known.", "Give --input, such as 3x224x224.")
    missing = [method for method in ("prepare_input", "forward", "info", "to") if not hasattr(made, method)]
    raise LabError(
        f"{name}() returns an object of type {type(made).__name__} without {', '.join(missing)}.",
        "",
        "Return a torch.nn.Module and give --input, or an object with these methods.",
    )


def _resnet50() -> Model:
    import torchvision

    size, note = (64, "images of 64 instead of 224 pixels") if preset() == "ci" else (224, "")
    return Model("resnet50", drawn(torchvision.models.resnet50(weights=None)), (3, size, size), note=note)


def _vit_b_16() -> Model:
    import torchvision

    size, layers = (64, 2) if preset() == "ci" else (224, 12)
    module = torchvision.models.VisionTransformer(
        image_size=size, patch_size=16, num_layers=layers, num_heads=12, hidden_dim=768, mlp_dim=3072
    )
    note = f"{layers} of 12 layers, images of {size} instead of 224 pixels" if layers < 12 else ""
    return Model("vit_b_16", drawn(module), (3, size, size), note=note)


class _Logits(nn.Module):
    """Token ids to the logits alone, which is all that is wanted of a model of transformers here."""

    def __init__(self, model: nn.Module, **options: object) -> None:
        super().__init__()
        self.model, self.options = model, options

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.model(ids, **self.options).logits


def _gpt2(name: str = "gpt2", checkpoint: Path | None = None) -> Model:
    """Logits of every token: (batch, tokens, vocabulary)."""
    import transformers

    cut = {"n_layer": 2, "vocab_size": VOCABULARY, "bos_token_id": 0, "eos_token_id": 0} if preset() == "ci" else {}
    factory = transformers.GPT2LMHeadModel
    return _text_model(name, checkpoint, factory, transformers.GPT2Config, cut, 12, use_cache=False)


def _distilbert(name: str = "distilbert", checkpoint: Path | None = None) -> Model:
    """Logits of the two classes of a sentence: (batch, 2)."""
    import transformers

    cut = {"n_layers": 2, "vocab_size": VOCABULARY} if preset() == "ci" else {}
    factory = transformers.DistilBertForSequenceClassification
    return _text_model(name, checkpoint, factory, transformers.DistilBertConfig, cut, 6)


def _text_model(
    name: str,
    checkpoint: Path | None,
    factory: Callable[..., nn.Module],
    configuration: Callable[..., object],
    cut: dict[str, int],
    layers: int,
    **options: object,
) -> Model:
    tokens, note = 16 if preset() == "ci" else 128, []
    if checkpoint is None:
        config = configuration(**cut)
        model = drawn(factory(config), TRANSFORMER_STD)
        if cut:
            note = [f"{config.num_hidden_layers} of {layers} layers", f"a vocabulary of {config.vocab_size:,}"]
    else:
        model = _checkpoint(name, checkpoint, factory)
        config = model.config
        tokens = min(tokens, config.max_position_embeddings)
    note.append(f"rows of {tokens} tokens")
    return Model(name, _Logits(model, **options), (tokens,), torch.int64, config.vocab_size, ", ".join(note))


def _checkpoint(name: str, folder: Path, factory: Callable[..., nn.Module]) -> nn.Module:
    if not folder.is_dir():
        raise LabError(f"{name}: there is no folder {folder}.", "", "Name one that save_pretrained wrote.")
    try:
        return factory.from_pretrained(folder, local_files_only=True).float()
    except Exception as error:  # whatever the files hold
        said = " ".join(str(error).split())[:200]
        raise LabError(f"{name} can't be read: {said}.", "", "Name a folder that save_pretrained wrote.") from error


def drawn(module: nn.Module, std: float | None = None) -> nn.Module:
    """The module with its weights drawn by NumPy, whose generator gives the same on every processor; torch's does not.

    Parameters of two and more dimensions have the deviation `std`, or, without one, the variance 2 / fan-in (He et
    al. 2015). Biases are 0; norms keep their 1.
    """
    generator = np.random.default_rng(SEED)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if parameter.dim() >= 2:
                values = generator.standard_normal(parameter.shape, np.float32)
                values *= np.float32((2 / parameter[0].numel()) ** 0.5 if std is None else std)
                parameter.copy_(torch.from_numpy(values))
            elif name.endswith("bias"):
                parameter.zero_()
    return module.eval()


MODELS = {"resnet50": _resnet50, "vit_b_16": _vit_b_16, "gpt2": _gpt2, "distilbert": _distilbert}
TEXT_MODELS = ("gpt2", "distilbert")
