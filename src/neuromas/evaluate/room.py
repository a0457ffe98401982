"""Finds the questions that do not fit into a network's context window, before anything is asked."""

import copy
import warnings
from collections.abc import Iterable
from functools import cache

from neuromas.errors import PromptError, TaskError
from neuromas.network.forward import Network
from neuromas.tasks.base import Split, Task
from neuromas.types import Message, Question


def too_long(network: Network, questions: Iterable[Question]) -> list[tuple[Question, PromptError]]:
    """The questions whose prompt at some node, even without messages, leaves no room for the reply; and the error.

    A token is at least one byte, so only prompts of many bytes are encoded.
    """
    places = [network.topology.position(node) for node in network.topology.nodes]
    silent = {at.id: [Message(sender, "") for sender in at.upstream] for at in places}
    window, spare, found = network.backbone.template.context_window, -1, list[tuple[Question, PromptError]]()
    try:
        bare = {at: network.prompt(at, Question("", "", ""), silent[at.id]) for at in places}
        used = (len(p.prefix_ids) + len(p.own_ids) + network.limits.of(at.is_output) for at, p in bare.items())
        spare = window - max(used) - 16
    except PromptError:  # Not even an empty question fits; each says so.
        pass
    for question in questions:
        if len(f"{question.text}{question.instruction}{question.answer_prefix}".encode()) > spare:
            try:
                for at in places:
                    network.prompt(at, question, silent[at.id])
            except PromptError as error:
                found.append((question, error))
    return found


def check_prompts(network: Network, task: Task, questions: Iterable[Question]) -> None:
    """Raises TaskError, which names the first place and its tokens, where one of the task's questions does not fit."""
    found = too_long(network, questions)
    if found:
        question, error = found[0]
        more = f" (and {len(found) - 1} more of the questions are too long)" if len(found) > 1 else ""
        raise TaskError(f"{task.place(question)}: {error}, or leave such rows out with task.drop_long{more}") from error


def fitting(network: Network, task: Task) -> Task:
    """The same task without the questions that are too long for a network; they are counted in a warning."""

    @cache
    def questions(split: Split) -> list[Question]:
        asked = task.questions(split)
        long = {question.id for question, _ in too_long(network, asked)}
        if long:
            warnings.warn(
                f"task {task.name!r}: {len(long)} of {len(asked)} {split} questions are left out, since their prompts "
                "do not fit into the context window (task.drop_long)",
                stacklevel=3,
            )
        return [question for question in asked if question.id not in long]

    kept = copy.copy(task)
    kept.questions = questions
    return kept
