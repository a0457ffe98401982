"""Every causal language model of transformers that can be built small: exact on one of the two paths, or refused for a
reason that is not arithmetic. `python tests/sweep.py` runs the same, resumes, and makes the table of the docs."""

import re
from pathlib import Path

import pytest
import torch

from helpers import byte_tokenizer
from neuromas.network.loading import read
from sweep import MOST, NAMES, build, record_of, size_of

REASONS = "is no causal language model|predicts more than one token|lets no gradient through"


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_the_library_is_exact_on_every_architecture_or_says_why_not(name: str) -> None:
    found = record_of(name, "float32")
    if found["verdict"] in ("not built", "not tiny", "unfinished"):
        pytest.skip(found["why"])
    if found["verdict"] == "refused":
        assert re.search(REASONS, found["why"]), found
    else:
        assert found["verdict"] in ("packed", "plain"), found


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_every_architecture_is_read_from_a_folder(name: str, tmp_path: Path) -> None:
    try:
        if size_of(name) > MOST:
            pytest.skip("not tiny")
        model = build(name)
        model.save_pretrained(tmp_path)
    except Exception as error:  # whatever keeps transformers from making or saving it
        pytest.skip(f"not built: {error}")
    byte_tokenizer().save_pretrained(tmp_path)
    found, _ = read(name, str(tmp_path), torch.float32, torch.device("cpu"), False)
    assert found.num_parameters() == model.num_parameters()
