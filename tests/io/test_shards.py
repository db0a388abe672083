"""A cache that several processes fill."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys

import pytest
import torch

from monai_kd.io.shards import Shards


def entry(number: int) -> dict[str, torch.Tensor]:
    return {"a": torch.full((4, 3), float(number)), "b/c": torch.tensor([number], dtype=torch.uint8)}


def same(found: dict[str, torch.Tensor], number: int) -> bool:
    expected = entry(number)
    return found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in expected)


def test_many_entries_are_one_file(tmp_path):
    cache = Shards(tmp_path / "new")
    for number in range(50):
        cache.add(f"k{number}", entry(number))
        assert same(cache.get(f"k{number}"), number)
    assert not (tmp_path / "new").exists()
    cache.flush()
    cache.flush()
    (file,) = (tmp_path / "new").iterdir()
    assert cache.nbytes == file.stat().st_size
    again = Shards(tmp_path / "new")
    assert len(again) == len(cache) == 50
    assert all(same(each.get(f"k{number}"), number) for each in (cache, again) for number in range(50))
    assert "k50" not in again
    with pytest.raises(KeyError):
        again.get("k50")


def test_a_file_is_written_at_its_size_and_rows_do_not_keep_their_batch(tmp_path):
    cache, batch = Shards(tmp_path, shard_bytes=1000), torch.arange(4000.0).reshape(40, 100)
    for number, row in enumerate(batch):
        cache.add(str(number), {"row": row})
    files = list(tmp_path.iterdir())
    assert len(files) == 40 // 3
    assert max(file.stat().st_size for file in files) < 2000
    assert all(torch.equal(cache.get(str(number))["row"], row) for number, row in enumerate(batch))


def test_two_that_share_a_folder_find_the_entries_of_each_other(tmp_path):
    one, two = Shards(tmp_path), Shards(tmp_path)
    one.add("a", entry(1))
    two.add("a", entry(1))
    two.add("b", entry(2))
    one.flush()
    two.flush()  # without "a", which is there by now
    one.refresh()
    assert same(one.get("b"), 2)
    assert sorted(key for file in tmp_path.iterdir() for key in keys_of(file)) == ["a", "b"]


def keys_of(file) -> set[str]:
    from safetensors import safe_open

    with safe_open(file, "pt") as opened:
        return {name.partition("/")[0] for name in opened.keys()}  # noqa: SIM118


def test_what_is_not_written_is_written_at_the_end_of_the_process(tmp_path):
    script = (
        "import sys, torch; from monai_kd.io.shards import Shards\n"
        "cache = Shards(sys.argv[1]); cache.add('k', {'x': torch.ones(2)})"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=True)
    assert torch.equal(Shards(tmp_path).get("k")["x"], torch.ones(2))


def test_half_written_files_are_not_read_and_damaged_ones_are_named(tmp_path):
    cache = Shards(tmp_path)
    cache.add("a", entry(1))
    cache.flush()
    (file,) = tmp_path.iterdir()
    (tmp_path / f".{file.name}.partial.safetensors").write_bytes(b"half")
    assert len(Shards(tmp_path)) == 1
    file.write_bytes(file.read_bytes()[:50])
    with pytest.raises(ValueError, match=rf"{file.name} can't be read .* delete it"):
        Shards(tmp_path)


def test_pickled_for_a_worker_it_reads_and_does_not_write(tmp_path):
    cache = Shards(tmp_path)
    cache.add("a", entry(1))
    cache.flush()
    cache.add("b", entry(2))
    copy = pickle.loads(pickle.dumps(cache))
    assert same(copy.get("a"), 1)
    assert same(copy.get("b"), 2)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_worker_leaves_writing_to_its_parent(tmp_path):
    cache = Shards(tmp_path)
    cache.add("a", entry(1))
    child = os.fork()
    if child == 0:
        cache.flush()
        os._exit(0)
    os.waitpid(child, 0)
    assert not list(tmp_path.iterdir())
    cache.flush()
    assert len(list(tmp_path.iterdir())) == 1
