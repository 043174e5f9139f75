import json

import tensorflow as tf

from reszoo.training.provenance import write_provenance


def test_provenance_says_what_ran(tmp_path):
    for seed in (1, 2):
        write_provenance(tmp_path / "provenance.jsonl", seed)
    first, second = map(json.loads, (tmp_path / "provenance.jsonl").read_text().splitlines())
    assert (first["seed"], second["seed"]) == (1, 2)
    assert first["packages"]["tensorflow"] == tf.__version__
    assert "CPU:0" in first["devices"]
    assert first["command"]
