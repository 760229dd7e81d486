import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.steps.doors import through_door
from tests.testkit.tiny_models import write_tiny_base
from thaud.errors import ModelError, StepError
from thaud.steps.contract import TrainSpec
from thaud.steps.train.capacity import Capacity, capacity, machine_capacity
from thaud.steps.train.footprint import Shape, shape_of
from thaud.steps.train.model import quantised
from thaud.steps.train.precision import DTYPES
from thaud.steps.train.preflight import GIB, ROW_TOKENS, SHARES, Arrangement, Case, arrange, choose

CPU, GPU = torch.device("cpu"), torch.device("cuda")
QWEN_HALF = {
    "model_type": "qwen2",
    "hidden_size": 896,
    "num_hidden_layers": 24,
    "num_attention_heads": 14,
    "num_key_value_heads": 2,
    "intermediate_size": 4864,
    "vocab_size": 151936,
    "tie_word_embeddings": True,
    "dtype": "bfloat16",
}
QWEN_SEVEN = {
    **QWEN_HALF,
    "hidden_size": 3584,
    "num_hidden_layers": 28,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
    "intermediate_size": 18944,
    "vocab_size": 152064,
    "tie_word_embeddings": False,
}
FLAT = {"hidden_size": 192, "num_hidden_layers": 12, "intermediate_size": 768}
WIDE = {"hidden_size": 256, "num_hidden_layers": 8, "intermediate_size": 1536}


def case_of(config: dict[str, Any], longest: int, total: float, free: float | None = None, **more: Any) -> Case:
    """A case of rank 32, with sizes in GiB."""
    there = Capacity(int(total * GIB), int((total if free is None else free) * GIB))
    return Case(shape_of(config), 32, longest, there, **more)


def needed(case: Case, dtype: torch.dtype, rows: int = ROW_TOKENS[0], **how: bool) -> int:
    return case.estimated(Arrangement(CPU, dtype, rows, **how)).needed


def base_of(folder: Path, shape: dict[str, int]) -> Path:
    return write_tiny_base(folder, max_position_embeddings=4096, **shape)


def spec_of(base: Path, folder: Path, **changes: Any) -> TrainSpec:
    """One long conversation, one step."""
    folder.mkdir(parents=True)
    text = " ".join(f"{number} patas" for number in range(250))
    messages = [{"role": "user", "content": text}, {"role": "assistant", "content": text}]
    (folder / "examples.jsonl").write_text(json.dumps({"id": "long", "messages": messages}) + "\n")
    fields = {"base_dir": str(base), "examples": str(folder / "examples.jsonl"), "out_dir": str(folder / "adapter")}
    numbers = {"context_tokens": 4096, "seed": 7, "learning_rate": 1e-3, "epochs": 1, "threads": 2}
    return TrainSpec(**{**fields, **numbers, **changes})


def case_here(spec: TrainSpec, longest: int) -> Case:
    config = json.loads((Path(spec.base_dir) / "config.json").read_text())
    return Case(shape_of(config), spec.rank, longest, capacity(CPU), limit=spec.max_memory_bytes)


@pytest.mark.slow
@pytest.mark.parametrize(("shape", "precision"), [(FLAT, "fp32"), (WIDE, "bf16")], ids=["flat", "wide-bf16"])
def test_estimate_is_what_a_step_takes_and_recomputing_changes_no_bit(
    tmp_path: Path, shape: dict[str, int], precision: str
) -> None:
    """Real steps, kept and recomputed, in both precisions: the estimate is 0.8 to 1.5 times of the measured peak, the
    recomputed one is clearly smaller, and the adapter has the same bytes.
    """
    base = base_of(tmp_path / "base", shape)
    spec = spec_of(base, tmp_path / "kept", precision=precision)
    code, kept, (start, *_) = through_door("train", spec, tmp_path / "kept/work")
    assert code == 0, kept
    case = case_here(spec, kept["tokens"])
    chosen = Arrangement(CPU, DTYPES[precision], ROW_TOKENS[-1])
    assert kept["arrangement"] == start["arrangement"]
    assert kept["arrangement"].startswith(f"{precision}, rows of 1024 tokens, about")
    assert 0.8 < case.peak_bytes(chosen) / kept["peak_memory_bytes"] < 1.5

    again = replace(chosen, recompute=True)
    limit = case.estimated(again).needed
    assert limit < needed(case, DTYPES[precision])
    spec = spec_of(base, tmp_path / "again", precision=precision, max_memory_bytes=limit)
    code, less, _ = through_door("train", spec, tmp_path / "again/work")
    assert code == 0, less
    assert "activations computed again" in less["arrangement"]
    assert 0.8 < case.peak_bytes(again) / less["peak_memory_bytes"] < 1.5
    assert less["peak_memory_bytes"] < 0.9 * kept["peak_memory_bytes"]
    assert less["adapter_sha256"] == kept["adapter_sha256"]


def test_what_cannot_fit_is_refused_before_anything_is_loaded(tmp_path: Path) -> None:
    """The step ends with the figures and what would help; the base's weights are not even there to be loaded."""
    base = base_of(tmp_path / "base", WIDE)
    for weights in base.glob("*.safetensors"):
        weights.unlink()
    spec = spec_of(base, tmp_path / "run", max_memory_bytes=GIB // 10, precision="fp32")
    code, result, _ = through_door("train", spec, tmp_path / "run/work")
    assert code == 1
    assert "training does not fit" in result["error"]
    assert "a base of 11 million weights" in result["error"]
    assert "training.max_memory_gib allows 0.10 GiB" in result["error"]
    assert "a smaller size" in result["error"]
    assert "stages.N.context_tokens" in result["error"]


def test_choices_come_in_order_as_memory_shrinks() -> None:
    """Everything kept, shorter rows, activations computed again, nothing: each where the one before does not fit."""
    case = case_of(QWEN_HALF, 200, 64)
    bf16 = torch.bfloat16
    roomy = choose(case, CPU, bf16)
    assert (roomy.row_tokens, roomy.recompute) == (512, False)
    short = choose(replace(case, limit=roomy.needed - 1), CPU, bf16)
    assert (short.row_tokens, short.recompute) == (256, False)
    again = choose(replace(case, limit=short.needed - 1), CPU, bf16)
    assert (again.row_tokens, again.recompute) == (512, True)
    with pytest.raises(StepError, match="does not fit"):
        choose(replace(case, limit=GIB), CPU, bf16)


def test_rows_follow_from_spec_and_machine_and_never_from_what_is_free() -> None:
    """Where little is free, activations are computed again, in the same rows; less still, and it is said."""
    case = case_of(QWEN_HALF, 4096, 24)
    roomy = choose(case, CPU, torch.bfloat16)
    tight = choose(replace(case, there=Capacity(24 * GIB, 4 * GIB)), CPU, torch.bfloat16)
    worse = choose(replace(case, there=Capacity(24 * GIB, GIB)), CPU, torch.bfloat16)
    assert roomy.row_tokens == tight.row_tokens == worse.row_tokens
    assert (roomy.recompute, tight.recompute, worse.recompute) == (False, True, True)
    assert not roomy.warning
    assert not tight.warning
    assert worse.warning.startswith("only 1.0 GiB of memory are free and training takes about 2.")


def test_large_models_have_short_rows_on_a_cpu_and_a_gpu_takes_what_it_has() -> None:
    """Where memory does not matter: rows of 1024 for nano, 512 for 0.5b, 256 for 7b."""
    nano = {**QWEN_HALF, "hidden_size": 256, "num_hidden_layers": 4, "intermediate_size": 768, "vocab_size": 4099}
    for config, tokens in ((nano, 1024), (QWEN_HALF, 512), (QWEN_SEVEN, 256)):
        assert choose(case_of(config, 100, 500), CPU, torch.bfloat16).row_tokens == tokens
        assert choose(case_of(config, 100, 500), GPU, torch.bfloat16).row_tokens == 1024


def test_seven_billion_weights_on_this_sort_of_machine() -> None:
    """7b, decided without loading: refused on 12 GiB, not in float32 on 24 GiB but with the hint that bf16 fits, in
    bfloat16 there, and kept on a GPU of 80 GiB.
    """
    case = case_of(QWEN_SEVEN, 1024, 24)
    with pytest.raises(
        StepError, match=r"7\.6 billion weights .*need about 3\d\.\d GiB .*precision = \"bf16\""
    ) as refused:
        choose(case, CPU, torch.float32)
    assert "this machine has 24.0 GiB" in str(refused.value)
    assert choose(case, CPU, torch.bfloat16).recompute
    with pytest.raises(StepError, match=r"leaves for it 9\.6 GiB"):
        choose(case_of(QWEN_SEVEN, 1024, 12), CPU, torch.bfloat16)
    assert not choose(case_of(QWEN_SEVEN, 1024, 80), GPU, torch.bfloat16).recompute


def test_four_bits_are_the_last_resort_of_a_gpu_with_bitsandbytes() -> None:
    """Chosen only where nothing else fits, on CUDA, with the package there; without it the refusal names it."""
    case = case_of(QWEN_SEVEN, 1024, 12, quantiser=True)
    chosen = choose(case, GPU, torch.bfloat16)
    assert (chosen.four_bit, chosen.recompute) == (True, True)
    assert "base in 4 bits" in chosen.words()
    assert not choose(case_of(QWEN_SEVEN, 1024, 24, quantiser=True), GPU, torch.bfloat16).four_bit
    with pytest.raises(StepError, match=r"bitsandbytes.*pip install 'thau\[gpu\]'"):
        choose(replace(case, quantiser=False), GPU, torch.bfloat16)
    with pytest.raises(StepError, match="does not fit") as refused:
        choose(case, CPU, torch.bfloat16)
    assert "bitsandbytes" not in str(refused.value)


def test_four_bits_without_cuda_are_one_line() -> None:
    """Loading in 4 bits where it cannot be is our error, with the package and the device."""
    with pytest.raises(StepError, match=r"needs CUDA and bitsandbytes .*this is cpu"):
        quantised(torch.bfloat16, CPU)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_base_in_four_bits_learns(tmp_path: Path) -> None:
    """On CUDA, a quantised base has 4-bit linear layers and a whole head, and an adapter on it gets gradients."""
    pytest.importorskip("bitsandbytes")
    from thaud.steps.train.data import Lesson  # noqa: PLC0415
    from thaud.steps.train.model import add_adapter, load_base, make_row, recompute_layers, row_loss  # noqa: PLC0415

    base = load_base(base_of(tmp_path / "base", WIDE), torch.bfloat16, GPU, four_bit=True)
    kinds = {name: type(part).__name__ for name, part in base.named_modules()}
    assert kinds["model.layers.0.mlp.up_proj"] == "Linear4bit"
    assert kinds["lm_head"] == "Linear"
    model = add_adapter(base, 8, 16, 0)
    recompute_layers(model)
    model.train()
    row = make_row([Lesson("a", list(range(64)), list(range(1, 64)))], 64, torch.bfloat16, GPU)
    torch.autograd.backward(row_loss(model, row))
    learned = [weight for weight in model.parameters() if weight.requires_grad]
    assert all(weight.dtype == torch.float32 and weight.grad is not None for weight in learned)
    assert any(bool(weight.grad.any()) for weight in learned)


def test_base_is_spread_where_several_processes_train_and_one_does_not_hold_it() -> None:
    """Sharding is tried after recomputing and before 4 bits, and only where there is more than one process."""
    case = case_of(QWEN_SEVEN, 1024, 14, world=4, quantiser=True)
    chosen = choose(case, GPU, torch.bfloat16)
    assert (chosen.shard, chosen.four_bit) == (True, False)
    assert "base spread over the processes" in chosen.words()
    assert not choose(replace(case, world=1), GPU, torch.bfloat16).shard


def test_words_say_what_was_chosen() -> None:
    """One line for people; without an estimate, no figures."""
    plain = Arrangement(CPU, torch.bfloat16, 512, recompute=True)
    assert plain.words() == "bf16, rows of 512 tokens, activations computed again"
    figures = replace(plain, dtype=torch.float32, recompute=False, needed=3 * GIB, budget=24 * GIB)
    assert figures.words() == "fp32, rows of 512 tokens, about 3.0 of 24.0 GiB"


def test_config_without_optional_fields_has_the_architectures_defaults() -> None:
    """No head_dim, no key heads, null ones: as transformers reads them. Qwen3 keeps heads before their norm, too."""
    config = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 96}
    shape = shape_of({**config, "vocab_size": 100, "head_dim": None, "num_key_value_heads": None})
    assert shape == Shape(2, 64, 96, 100, 4, 4, 16, tied=False, normed_heads=False, stored=4)
    assert shape_of({**config, "vocab_size": 100, "dtype": "bfloat16"}).stored == 2
    three = shape_of({**config, "vocab_size": 100, "model_type": "qwen3", "head_dim": 32})
    assert three.kept(8) - replace(three, normed_heads=False).kept(8) == 2 * 4 * 32


@pytest.mark.parametrize("change", [{"hidden_size": None}, {"num_hidden_layers": "many"}, {"num_attention_heads": 0}])
def test_config_that_does_not_say_the_size_is_our_error(change: dict[str, Any]) -> None:
    """A config.json without sizes, or with nonsense for one, is one line and no stack of a library."""
    with pytest.raises(ModelError, match="does not say how large it is"):
        shape_of({**QWEN_HALF, **change})
    with pytest.raises(ModelError, match="vocab_size"):
        shape_of({name: value for name, value in QWEN_HALF.items() if name != "vocab_size"})


@pytest.mark.parametrize("limit", [0, -1])
def test_no_limit_means_a_share_of_the_machine(tmp_path: Path, limit: int) -> None:
    """Zero, and what is less, allows the machine's share; processes on one machine have each their part of it."""
    spec = TrainSpec(**{**spec_of(tmp_path, tmp_path / "run").model_dump(), "max_memory_bytes": limit})
    nano = {**QWEN_HALF, "hidden_size": 64, "num_hidden_layers": 2, "intermediate_size": 96, "vocab_size": 500}
    device = GPU if torch.cuda.is_available() else CPU
    total = capacity(device).total
    assert arrange(spec, nano, 100).budget == int(total * SHARES[device.type])
    if device.type == "cpu":
        assert arrange(spec, nano, 100, processes=2).budget == int(total // 2 * SHARES["cpu"])


def test_bf16_is_obeyed_where_it_is_slow(tmp_path: Path) -> None:
    """A spec that names a precision gets it, whether or not the processor multiplies it natively."""
    nano = {**QWEN_HALF, "hidden_size": 64, "num_hidden_layers": 2, "intermediate_size": 96, "vocab_size": 500}
    for precision, dtype in DTYPES.items():
        spec = spec_of(tmp_path, tmp_path / precision, precision=precision)
        assert arrange(spec, nano, 100).dtype == dtype


def machine(root: Path, groups: str, files: dict[str, str]) -> Path:
    """A root with 24 GiB, 20 of them free, and control groups."""
    meminfo = f"MemTotal: {24 << 20} kB\nMemFree: 1024 kB\nMemAvailable: {20 << 20} kB\nHugePages_Total: 0\n"
    for name, text in {"proc/meminfo": meminfo, "proc/self/cgroup": groups, **files}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


@pytest.mark.parametrize(
    ("groups", "files", "total", "free"),
    [
        ("0::/\n", {}, 24, 20),
        ("0::/thau\n", {"sys/fs/cgroup/thau/memory.max": "max\n"}, 24, 20),
        ("0::/a/b\n", {"sys/fs/cgroup/a/memory.max": f"{8 * GIB}\n"}, 8, 8),
        ("0::/a\n", {"sys/fs/cgroup/a/memory.max": "nonsense"}, 24, 20),
        ("0::/outside\n", {"sys/fs/cgroup/memory.max": f"{4 * GIB}\n"}, 4, 4),
        ("4:cpu,memory:/p\n", {"sys/fs/cgroup/memory/p/memory.limit_in_bytes": "9223372036854771712"}, 24, 20),
        ("4:memory:/p\n1:cpu:/q\n", {"sys/fs/cgroup/memory/p/memory.limit_in_bytes": f"{6 * GIB}"}, 6, 6),
        ("4:memory:/d/x\n", {"sys/fs/cgroup/memory/memory.limit_in_bytes": f"{5 * GIB}"}, 5, 5),
    ],
)
def test_memory_is_the_machines_or_the_control_groups(
    tmp_path: Path, groups: str, files: dict[str, str], total: int, free: int
) -> None:
    """Both versions of cgroups, limits of groups around this one, "max", nonsense, a container's own root."""
    assert machine_capacity(machine(tmp_path, groups, files)) == Capacity(total * GIB, free * GIB)


def test_page_cache_of_a_group_counts_as_free(tmp_path: Path) -> None:
    """Of 8 GiB allowed and 7 used, 5 of them page cache, 6 are free."""
    group = "sys/fs/cgroup/a"
    files = {
        f"{group}/memory.max": f"{8 * GIB}",
        f"{group}/memory.current": f"{7 * GIB}",
        f"{group}/memory.stat": f"anon {2 * GIB}\ninactive_file {3 * GIB}\nactive_file {2 * GIB}\n",
    }
    assert machine_capacity(machine(tmp_path, "0::/a\n", files)) == Capacity(8 * GIB, 6 * GIB)


def test_files_that_cannot_be_read_limit_nothing(tmp_path: Path) -> None:
    """No list of groups, a folder where a limit should be: the machine's memory stands."""
    root = machine(tmp_path, "0::/a\n", {})
    (root / "sys/fs/cgroup/a/memory.max").mkdir(parents=True)
    assert machine_capacity(root) == Capacity(24 * GIB, 20 * GIB)
    (root / "proc/self/cgroup").unlink()
    assert machine_capacity(root) == Capacity(24 * GIB, 20 * GIB)
