"""What a task of lm-evaluation-harness asks of a generation is honoured, or refused by name."""

from typing import Any

import pytest

from neuromas.errors import ConfigError
from neuromas.evaluate.harness import _sampling

GREEDY = (False, 1.0, 1.0, None)


@pytest.mark.parametrize(
    "settings, said",
    [
        ({}, GREEDY),
        ({"until": ["\n"]}, GREEDY),
        ({"do_sample": False, "temperature": 0.7}, GREEDY),
        ({"temperature": 0.0, "top_p": 0.95}, (False, 1.0, 0.95, None)),
        ({"temperature": 0.7}, (True, 0.7, 1.0, None)),
        ({"do_sample": True, "temperature": 0.7, "top_p": 0.9}, (True, 0.7, 0.9, None)),
        ({"do_sample": True}, (True, 1.0, 1.0, None)),
        ({"do_sample": True, "temperature": 0}, GREEDY),
        ({"do_sample": True, "temperature": None}, (True, 1.0, 1.0, None)),
        ({"do_sample": True, "temperature": 0.7, "top_k": 1}, GREEDY),
        ({"top_k": 50, "min_p": 0.1}, GREEDY),
        ({"temperature": 0.7, "top_k": 0, "min_p": 0.0}, (True, 0.7, 1.0, None)),
        ({"temperature": 0.7, "top_k": -1}, (True, 0.7, 1.0, None)),
        ({"max_gen_toks": 7}, (False, 1.0, 1.0, 7)),
        ({"max_new_tokens": 7}, (False, 1.0, 1.0, 7)),
        ({"max_tokens": 7}, (False, 1.0, 1.0, 7)),
        ({"max_completion_tokens": 7}, (False, 1.0, 1.0, 7)),
        ({"max_gen_toks": None, "max_tokens": 7}, (False, 1.0, 1.0, 7)),
        ({"num_beams": 1, "repetition_penalty": 1.0, "num_return_sequences": 1}, GREEDY),
    ],
)
def test_settings_are_honoured(settings: dict[str, Any], said: Any) -> None:
    assert _sampling(settings) == said


@pytest.mark.parametrize(
    "settings, name",
    [
        ({"temperature": 0.7, "top_k": 20}, "top_k = 20"),
        ({"temperature": 0.7, "min_p": 0.1}, "min_p = 0.1"),
        ({"do_sample": True, "typical_p": 0.5}, "typical_p = 0.5"),
        ({"num_beams": 4}, "num_beams = 4"),
        ({"repetition_penalty": 1.2}, "repetition_penalty = 1.2"),
        ({"max_length": 100}, "max_length = 100"),
        ({"mood": "good"}, "mood = 'good'"),
    ],
)
def test_what_a_network_does_not_do_is_refused_by_name(settings: dict[str, Any], name: str) -> None:
    with pytest.raises(ConfigError, match=f"generates with {name}, which a network does not do; leave it out"):
        _sampling(settings)
