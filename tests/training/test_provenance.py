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


def test_a_line_that_was_cut_short_stays_alone(tmp_path):
    path = tmp_path / "provenance.jsonl"
    path.write_text('{"time": "20')
    write_provenance(path, seed=1)
    write_provenance(path, seed=2)
    cut, *whole = path.read_text().splitlines()
    assert cut == '{"time": "20'
    assert [json.loads(line)["seed"] for line in whole] == [1, 2]
