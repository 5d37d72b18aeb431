"""labs_lib.inference_bench.models: exact sizes, inputs from the seed, models of one's own, and what is refused."""

import numpy as np
import pytest
import torch
from torch import nn

from labs_lib.errors import LabError
from labs_lib.inference_bench import models
from labs_lib.inference_bench.models import MODELS, Benchable, Info, Model, load

SMALL = {  # parameters, shape of a sample, shape of the answer for two
    "resnet50": (25_557_032, (3, 64, 64), (2, 1000)),
    "vit_b_16": (15_550_696, (3, 64, 64), (2, 1000)),
    "gpt2": (18_803_712, (16,), (2, 16, 5000)),
    "distilbert": (19_002_626, (16,), (2, 2)),
}
FULL = {
    "resnet50": (25_557_032, (3, 224, 224), ""),
    "vit_b_16": (86_567_656, (3, 224, 224), ""),
    "gpt2": (124_439_808, (128,), "rows of 128 tokens"),
    "distilbert": (66_955_010, (128,), "rows of 128 tokens"),
}


class Own:
    """All that is asked of a model of one's own."""

    def prepare_input(self, batch_size):
        return torch.ones(batch_size, 3)

    def forward(self, batch):
        return batch * 2

    def info(self):
        return Info("own", "", 0, 0, (3,), "float32")

    def to(self, device):
        return self


class Half:
    def forward(self, batch):
        return batch


def broken():
    raise ValueError("no\nweights")


tiny = nn.Linear(3, 2)
number = 7


def name_of(thing):
    return f"{__name__}:{thing}"


@pytest.mark.parametrize("name", MODELS)
def test_small_sizes_are_exact_and_said(name):
    model = load(name)
    info = model.info()
    parameters, shape, answer = SMALL[name]
    assert (info.name, info.parameters, info.input_shape) == (name, parameters, shape)
    assert info.weight_bytes >= 4 * parameters
    assert ("layers" in info.note) == (name != "resnet50")
    assert info.note in str(info)
    with torch.inference_mode():
        found = model.forward(model.prepare_input(2))
    assert (tuple(found.shape), found.dtype) == (answer, torch.float32)
    assert found.isfinite().all()
    assert not model.module.training
    assert isinstance(model, Benchable)


@pytest.mark.parametrize("name", MODELS)
def test_full_sizes_are_those_of_the_model_of_that_name(name, monkeypatch):
    monkeypatch.setenv("LABS_PRESET", "lab")
    monkeypatch.setattr(models, "drawn", lambda module, std=None: module)
    with torch.device("meta"):
        info = load(name).info()
    assert (info.parameters, info.input_shape, info.note) == FULL[name]


def test_inputs_come_from_the_seed():
    model = Model("tokens", nn.Identity(), (4,), torch.int64, high=10)
    expected = np.random.default_rng(42).integers(0, 10, (3, 4))
    assert (model.prepare_input(3).numpy() == expected).all()
    assert torch.equal(model.prepare_input(3), model.prepare_input(3))
    assert Model("images", nn.Identity(), (2, 2), torch.bfloat16).prepare_input(1).dtype == torch.bfloat16


def test_weights_come_from_the_seed_and_norms_stay():
    one, other = (models.drawn(nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8))) for _ in range(2))
    assert torch.equal(one[0].weight, other[0].weight)
    expected = np.random.default_rng(42).standard_normal((8, 8), np.float32) * np.float32(0.5)
    assert torch.allclose(one[0].weight, torch.from_numpy(expected))
    assert (one[0].bias == 0).all()
    assert (one[1].weight == 1).all()


def test_a_checkpoint_folder_is_read_and_nothing_else(tmp_path):
    import transformers

    config = transformers.GPT2Config(
        n_layer=1, n_head=2, n_embd=8, vocab_size=50, n_positions=8, bos_token_id=0, eos_token_id=0
    )
    saved = transformers.GPT2LMHeadModel(config).eval()
    saved.save_pretrained(tmp_path)
    model = load(f"gpt2:{tmp_path}")
    ids = model.prepare_input(2)
    assert ids.shape == (2, 8)  # the checkpoint has no more positions
    assert ids.max() < 50
    with torch.inference_mode():
        assert torch.equal(model.forward(ids), saved(ids).logits)
    with pytest.raises(LabError, match="can't be read"):
        load(f"distilbert:{tmp_path / '..'}")


def test_a_model_of_ones_own():
    made = load("torchvision.models:resnet18", "3x32x32")
    assert made.info().input_shape == (3, 32, 32)
    assert made.forward(made.prepare_input(2)).shape == (2, 1000)
    assert isinstance(load(name_of("Own")), Own)
    assert load(name_of("tiny"), "3").module is tiny


@pytest.mark.parametrize(
    ("name", "input", "says"),
    [
        ("resnet51", None, "Did you mean resnet50?"),
        ("llama", None, "The models are resnet50, vit_b_16, gpt2, distilbert"),
        ("", None, "There is no model ''"),
        (None, None, "None is no name of a model"),
        ("resnet50", "3x8x8", "makes its own input"),
        ("resnet50:weights.pt", None, "reads no checkpoint"),
        ("gpt2:/no/such/folder", None, "there is no folder /no/such/folder"),
        ("gpt2:", None, "can't be read"),
        ("no_such_module:model", None, "Can't import no_such_module"),
        ("math:no_such_name", None, "has no no_such_name"),
        ("torchvision.models:resnet18", None, "Give --input"),
        ("torchvision.models:resnet18", "3x", "is no shape"),
        (name_of("number"), None, "is no factory"),
        (name_of("tiny"), None, "is no factory"),
        (name_of("broken"), None, "failed with ValueError"),
        (name_of("Half"), None, "without prepare_input, info, to"),
    ],
)
def test_what_cannot_be_loaded_says_why(name, input, says):
    with pytest.raises(LabError) as caught:
        load(name, input)
    assert says in str(caught.value)


@pytest.mark.parametrize("size", [0, -1, 2.0, True, "8", None])
def test_no_batch_size(size):
    with pytest.raises(LabError, match="is no batch size"):
        Model("tiny", tiny, (3,)).prepare_input(size)


def test_devices():
    model = Model("tiny", tiny, (3,))
    assert model.to("cpu") is model
    with pytest.raises(LabError, match="There is no device 'tpu'"):
        model.to("tpu")
    if not torch.cuda.is_available():
        with pytest.raises(LabError, match="cuda is not available"):
            model.to("cuda")
