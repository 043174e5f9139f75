"""Code of the README runs as it stands."""

import re
from pathlib import Path

from reszoo.gradients import load

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_python_of_the_readme_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    assert len(blocks) == 4
    names = {}
    for block in blocks:
        exec(block, names)
    printed = capsys.readouterr().out
    assert all(block in printed for block in ("first", "second", "third"))
    recorded = load("runs/resnet50")
    assert recorded.block.nunique() == 16
    assert sorted(set(recorded.step)) == [0, 1]


def test_the_links_of_the_readme_lead_somewhere():
    targets = re.findall(r"\]\(([^)#]+)\)|(?:src|srcset)=\"([^\"]+)\"", README)
    targets = ["".join(pair) for pair in targets]
    assert targets
    for target in targets:
        assert (ROOT / target).exists(), target
