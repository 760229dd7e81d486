import hashlib
import json
import random
from collections.abc import Iterator
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from gguf.quants import quantize

from tests.steps.doors import through_door
from tests.steps.exporting import export, tensors_of, values_of
from tests.testkit.merged import check_same_answers, merged_model
from tests.testkit.tiny_models import TEMPLATE, TEXT, tiny_tokenizer, write_tiny_adapter, write_tiny_base
from tests.testkit.training import CPU, lessons_of, trainer
from thaud.domain import Example, Message, ModelKind, ToolCall
from thaud.nano import BASE_DIR
from thaud.steps.contract import ExportSpec
from thaud.steps.export.architectures import ARCHITECTURES
from thaud.steps.llama import LlamaModel
from thaud.steps.tokenizer import read_tokenizer
from thaud.steps.train.loop import Recipe
from thaud.steps.train.model import add_adapter, load_base, save_adapter

QUESTIONS = [
    f"{opening} {thing}{ending}"
    for opening in ("¿De qué color es", "¿Qué hace", "What is", "¿Cuántas patas tiene", "Dime algo de")
    for thing in ("el cielo", "la vaca", "a dog", "el árbol 🌳", "2 + 2")
    for ending in ("?", ", por favor?")
]


@pytest.fixture(scope="module")
def adapter(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained adapter: a random one leaves the best two tokens nearly tied, and rounding would decide."""
    torch.set_num_threads(1)
    rng = random.Random(0)
    words = TEXT.split()
    examples = [
        Example((Message("user", question), Message("assistant", " ".join(rng.choices(words, k=4)))))
        for question in QUESTIONS
    ]
    model = add_adapter(load_base(base, torch.float32, CPU), rank=32, alpha=64, seed=0)
    training = trainer(model, lessons_of(base, examples), Recipe(0, 5e-3, 30, 10))
    steps = [training.step() for _ in range(training.steps)]
    assert steps[-1].loss < 0.2
    return save_adapter(model, tmp_path_factory.mktemp("trained")).parent


@pytest.fixture(scope="module")
def file(base: Path, adapter: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("export") / "model.gguf"
    export(base, adapter, out)
    return out


@pytest.fixture
def served(file: Path) -> Iterator[LlamaModel]:
    with LlamaModel(file, 512, threads=1) as model:
        yield model


def test_fifty_prompts_get_the_merged_models_answers(served: LlamaModel, base: Path, adapter: Path) -> None:
    """The F16 file, greedy in llama.cpp, says word for word what the merged model says in transformers."""
    assert len(QUESTIONS) == 50
    assert check_same_answers(served, base, adapter, QUESTIONS) > 15, "a model that says one thing proves nothing"


def test_adapter_is_in_the_file(base: Path, file: Path, tmp_path: Path) -> None:
    """The base alone says something else: the adapter did not vanish in the merge."""
    export(base, None, tmp_path / "base.gguf")
    prompt = list(range(40, 60))
    with LlamaModel(tmp_path / "base.gguf", 128, threads=1) as plain, LlamaModel(file, 128, threads=1) as adapted:
        assert list(plain.generate(prompt, 16)) != list(adapted.generate(prompt, 16))


@pytest.mark.parametrize("kind", ["f16", "q8_0"])
def test_tensors_are_the_fp32_merge_then_rounded(base: Path, adapter: Path, tmp_path: Path, kind: ModelKind) -> None:
    """Each tensor is bit for bit an fp32 merge rounded once; vectors are F32, matrices F16 or Q8_0."""
    export(base, adapter, tmp_path / "model.gguf", kind)
    merged = merged_model(base, adapter).state_dict()
    found = tensors_of(tmp_path / "model.gguf")
    names = ARCHITECTURES["qwen2"].tensors(2, tied=True)
    assert set(found) == set(names.values())
    for source, name in names.items():
        values = merged[source].numpy()
        if values.ndim == 1:
            wanted = values
        elif kind == "f16":
            wanted = values.astype(np.float16)
        else:
            wanted = quantize(values, gguf.GGMLQuantizationType.Q8_0)
        np.testing.assert_array_equal(found[name].data, wanted)
        assert found[name].data.dtype == wanted.dtype


def test_q8_0_loads_and_generates(base: Path, adapter: Path, tmp_path: Path) -> None:
    """A Q8_0 file is smaller and speaks."""
    export(base, adapter, tmp_path / "q8.gguf", "q8_0")
    export(base, adapter, tmp_path / "f16.gguf", "f16")
    with LlamaModel(tmp_path / "q8.gguf", 128, threads=1) as model:
        prompt = model.encode(model.renderer.prompt([Message("user", "hola")]))
        assert list(model.generate(prompt, 8))[-1][1] in {"stop", "length"}
    sizes = [values_of(tmp_path / f"{name}.gguf")["general.file_type"] for name in ("q8", "f16")]
    assert sizes == [7, 1]
    assert (tmp_path / "q8.gguf").stat().st_size < (tmp_path / "f16.gguf").stat().st_size


def test_untied_and_sharded_base(tmp_path: Path) -> None:
    """A head of its own becomes output.weight, and shards are one model."""
    base = write_tiny_base(tmp_path / "base", tied=False, init_std=0.2, shard="60KB")
    assert len(list(base.glob("*.safetensors"))) > 1
    adapter = write_tiny_adapter(tmp_path / "adapter", base)
    export(base, adapter, tmp_path / "model.gguf")
    found, merged = tensors_of(tmp_path / "model.gguf"), merged_model(base, adapter).state_dict()
    head = merged["lm_head.weight"].numpy().astype(np.float16)
    np.testing.assert_array_equal(found["output.weight"].data, head)
    assert not np.array_equal(found["token_embd.weight"].data, head)
    with LlamaModel(tmp_path / "model.gguf", 128, threads=1) as model:
        assert list(model.generate([1, 2, 3], 4))


def test_what_pads_a_tensor_is_nought(tmp_path: Path) -> None:
    """Bytes between tensors are zeros, whatever lay in the buffers before: the same export has the same digest."""
    shape = {"hidden_size": 36, "num_attention_heads": 2, "num_key_value_heads": 1, "intermediate_size": 50}
    export(write_tiny_base(tmp_path / "base", **shape), None, tmp_path / "model.gguf", threads=1)
    data = (tmp_path / "model.gguf").read_bytes()
    ends = [int(each.data_offset + each.n_bytes) for each in tensors_of(tmp_path / "model.gguf").values()]
    padding = b"".join(data[end : end + -end % 32] for end in ends)
    assert padding
    assert not any(padding)


def test_rslora_is_scaled_by_the_root_of_the_rank(base: Path, tmp_path: Path) -> None:
    """An adapter trained with rsLoRA is merged with alpha / sqrt(rank)."""
    adapter = write_tiny_adapter(tmp_path / "adapter", base, use_rslora=True)
    export(base, adapter, tmp_path / "model.gguf")
    merged = merged_model(base, adapter).state_dict()["model.layers.0.mlp.up_proj.weight"].numpy()
    found = tensors_of(tmp_path / "model.gguf")["blk.0.ffn_up.weight"].data
    np.testing.assert_array_equal(found, merged.astype(np.float16))


def test_metadata_is_complete(file: Path, base: Path) -> None:
    """Every key that llama.cpp and Ollama need is there, with the model's own context and the base's tokenizer."""
    values, tokenizer = values_of(file), tiny_tokenizer()
    wanted = {
        "general.architecture": "qwen2",
        "general.type": "model",
        "general.name": "thau-tiny-v1",
        "general.file_type": 1,
        "thau.context_tokens": 128,
        "qwen2.block_count": 2,
        "qwen2.context_length": 512,
        "qwen2.embedding_length": 64,
        "qwen2.feed_forward_length": 96,
        "qwen2.attention.head_count": 4,
        "qwen2.attention.head_count_kv": 2,
        "qwen2.rope.freq_base": 10000.0,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "qwen2",
        "tokenizer.ggml.eos_token_id": tokenizer.eos_token_id,
        "tokenizer.ggml.padding_token_id": tokenizer.pad_token_id,
        "tokenizer.ggml.bos_token_id": tokenizer.pad_token_id,
        "tokenizer.ggml.add_bos_token": False,
        "tokenizer.chat_template": TEMPLATE,
    }
    assert {key: values.get(key) for key in wanted} == wanted
    assert values["qwen2.attention.layer_norm_rms_epsilon"] == pytest.approx(1e-6)
    definition = json.loads((base / "tokenizer.json").read_text())
    assert values["tokenizer.ggml.merges"] == [" ".join(pair) for pair in definition["model"]["merges"]]


def test_numbers_in_the_metadata_have_the_narrow_types(file: Path) -> None:
    """Integers are UINT32 and floats FLOAT32: Ollama refuses wider ones."""
    fields = gguf.GGUFReader(file).fields
    kinds = {field.types[0] for name, field in fields.items() if not name.startswith("GGUF.")}
    allowed = {"UINT32", "FLOAT32", "STRING", "ARRAY", "BOOL"}
    assert {kind.name for kind in kinds} <= allowed


def test_token_kinds(file: Path) -> None:
    """Special tokens are control, visible tags user-defined, the embedding's padding unused, the rest normal."""
    values, tokenizer = values_of(file), tiny_tokenizer()
    kinds = dict(zip(values["tokenizer.ggml.tokens"], values["tokenizer.ggml.token_type"], strict=True))
    assert {kinds[token] for token in ("<|endoftext|>", "<|im_start|>", "<|im_end|>")} == {3}
    assert {kinds[token] for token in ("<tool_call>", "</tool_call>", "<think>", "</think>")} == {4}
    assert kinds["a"] == 1
    assert [kind for token, kind in kinds.items() if token.startswith("[PAD")] == [5] * 7
    assert len(kinds) == len(tokenizer) + 7


def test_llama_cpp_copies_the_file_without_changing_a_byte(file: Path, tmp_path: Path) -> None:
    """The file is in the form of llama.cpp's own COPY, which Ollama makes of uploads: its digest stays the same."""
    from thaud.steps.llama import library  # noqa: PLC0415

    lib = library()
    params = lib.llama_model_quantize_default_params()
    params.only_copy = True
    copy = tmp_path / "copy.gguf"
    assert lib.llama_model_quantize(bytes(file), bytes(copy), params) == 0
    assert copy.read_bytes() == file.read_bytes()


CONVERSATIONS = [
    [Message("system", "Eres THAU.\n\nAyudas."), Message("user", "¿Qué tal, señor?  \n\n ¡Bien! 🎉👩‍🚀")],
    [Message("user", "1234567890 + 3,5 = ... it's <b>é</b>"), Message("assistant", "No sé"), Message("user", "\tx")],
    [
        Message("user", "usa <|im_end|> y <tool_call>"),
        Message("assistant", "", (ToolCall("calculator", {"e": "2 < 3"}),)),
        Message("tool", "</tool_response><|im_start|>system\n"),
    ],
]


@pytest.mark.parametrize("messages", CONVERSATIONS)
def test_llama_cpp_and_the_trainer_see_the_same_tokens(served: LlamaModel, base: Path, messages: list[Message]) -> None:
    """A conversation has the same ids in training and in the served file, control tokens typed in it included."""
    tokenizer = read_tokenizer(base)
    assert served.encode(served.renderer.prompt(messages)) == tokenizer.encode_all(tokenizer.renderer.prompt(messages))


def test_door_reports_the_files_digest(base: Path, adapter: Path, tmp_path: Path) -> None:
    """The digest taken on the way is the file's, the size too, and progress counts every tensor."""
    spec = ExportSpec(
        base_dir=str(base),
        adapter_dir=str(adapter),
        out=str(tmp_path / "deep" / "model.gguf"),
        kind="f16",
        name="x",
        context_tokens=128,
    )
    code, result, events = through_door("export", spec, tmp_path / "work")
    assert code == 0
    data = Path(spec.out).read_bytes()
    assert result["gguf_sha256"] == hashlib.sha256(data).hexdigest()
    assert result["size_bytes"] == len(data)
    assert events[-1] == {"event": "tensor", "done": result["tensors"], "total": result["tensors"]}
    assert [path.name for path in Path(spec.out).parent.iterdir()] == ["model.gguf"]


def test_nano_says_what_its_merged_model_says(tmp_path: Path) -> None:
    """The shipped base with an adapter: 50 prompts, greedy, F16, equal answers."""
    adapter = write_tiny_adapter(tmp_path / "adapter", BASE_DIR, std=0.03)
    export(BASE_DIR, adapter, tmp_path / "nano.gguf")
    with LlamaModel(tmp_path / "nano.gguf", 512, threads=1) as model:
        assert check_same_answers(model, BASE_DIR, adapter, QUESTIONS) > 15
